"""A loop with Accelerate, on one process or several.

python examples/accelerate_loop.py [--folder FOLDER]
accelerate launch --num_processes 2 examples/accelerate_loop.py [--folder FOLDER]
"""

from pathlib import Path

import torch
import typer
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import cross_entropy

import penstock
from shards import make_shards


def main(folder: Path | None = None, epochs: int = 3, cpu: bool = False) -> None:
    """Train a small classifier on the shards in a folder."""
    folder = folder or make_shards()
    accelerator = Accelerator(cpu=cpu)
    torch.manual_seed(0)

    dataset = penstock.ShardDataset({name: f"{folder}/{name}_*.npy" for name in ("x", "y", "id")})
    loader = penstock.DataLoader(dataset, batch_size=64, shuffle=True, seed=0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    # Not the loader: `prepare` would put torch's in its place, and share out the batches of each rank again.
    model, optimizer = accelerator.prepare(model, optimizer)

    losses = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        total = torch.zeros((), device=accelerator.device)
        seen = []
        for batch in loader:
            batch = {name: field.to(accelerator.device, non_blocking=True) for name, field in batch.items()}
            loss = cross_entropy(model(batch["x"]), batch["y"])
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            total += loss.detach()
            seen.append(batch["id"])
        losses.append(accelerator.reduce(total, "mean").item() / len(loader))
        times_seen = accelerator.gather(torch.cat(seen)).bincount(minlength=len(dataset))
        assert times_seen.min() == 1
        assert times_seen.sum() - len(dataset) < accelerator.num_processes, "the ranks come out even"

    accelerator.print(f"loss {losses[0]:.3f} in the first epoch, {losses[-1]:.3f} in the last")
    assert losses[-1] < losses[0] / 2
    accelerator.end_training()


if __name__ == "__main__":
    typer.run(main)
