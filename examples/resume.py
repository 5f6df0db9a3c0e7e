"""A training run that may die at any moment, and goes on with the very next batch.

python examples/resume.py --folder FOLDER --die-after 100
python examples/resume.py --folder FOLDER
"""

import os
import signal
from pathlib import Path

import torch
import typer
from torch import nn
from torch.nn.functional import cross_entropy

import penstock
from shards import make_shards


def main(folder: Path, epochs: int = 3, save_every: int = 10, die_after: int | None = None) -> None:
    """Train on the shards in a folder (made, if there are none), from its checkpoint if it has one."""
    if not any(folder.glob("x_*.npy")):
        make_shards(folder)
    torch.manual_seed(0)

    dataset = penstock.ShardDataset({name: f"{folder}/{name}_*.npy" for name in ("x", "y", "id")})
    loader = penstock.DataLoader(dataset, batch_size=64, shuffle=True, seed=0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step = first_epoch = 0
    times_seen = torch.zeros(len(dataset), dtype=torch.int64)  # by the model: only to show that all is well

    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(saved["loader"])
        step, first_epoch, times_seen = saved["step"], saved["epoch"], saved["times_seen"]
        print(f"going on after batch {step}")

    for epoch in range(first_epoch, epochs):
        loader.set_epoch(epoch)  # a loaded state of this epoch keeps its place in it
        for batch in loader:
            loss = cross_entropy(model(batch["x"]), batch["y"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            times_seen[batch["id"]] += 1
            if step % save_every == 0:
                state = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "loader": loader.state_dict(),
                    "step": step,
                    "epoch": epoch,
                    "times_seen": times_seen,
                }
                torch.save(state, checkpoint.with_suffix(".new"))
                checkpoint.with_suffix(".new").replace(checkpoint)  # whole, whenever the process dies
            if step == die_after:
                os.kill(os.getpid(), signal.SIGKILL)

    print(f"{step} batches, last loss {loss.item():.6f}, each sample seen {epochs} times")
    assert (times_seen == epochs).all()


if __name__ == "__main__":
    typer.run(main)
