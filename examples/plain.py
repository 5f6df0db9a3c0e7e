"""A plain training loop, which says at the end whether it had to wait for its data.

python examples/plain.py [--folder FOLDER]
"""

from pathlib import Path

import torch
import typer
from torch import nn
from torch.nn.functional import cross_entropy

import penstock
from shards import make_shards


def main(folder: Path | None = None, epochs: int = 3) -> None:
    """Train a small classifier on the shards in a folder."""
    folder = folder or make_shards()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    dataset = penstock.ShardDataset({"x": f"{folder}/x_*.npy", "y": f"{folder}/y_*.npy"})
    loader = penstock.DataLoader(dataset, batch_size=64, shuffle=True)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    losses = []
    for epoch in range(epochs):
        total = torch.zeros((), device=device)
        for batch in loader:
            x, y = (batch[name].to(device, non_blocking=True) for name in ("x", "y"))
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(y)
        stats = loader.stats()
        losses.append(total.item() / len(dataset))
        print(
            f"epoch {epoch}: loss {losses[-1]:.3f}, {stats['samples_per_s']:,.0f} samples/s, "
            f"waited for data {stats['wait_share']:.1%} of the time"
        )
        assert stats["samples"] == len(dataset)

    assert losses[-1] < losses[0] / 2


if __name__ == "__main__":
    typer.run(main)
