"""Mixed precision and gradient accumulation.

python examples/mixed_precision.py [--folder FOLDER]
"""

from pathlib import Path

import torch
import typer
from torch import nn
from torch.nn.functional import cross_entropy

import penstock
from shards import make_shards


def main(folder: Path | None = None, epochs: int = 5, accumulate: int = 4) -> None:
    """Train with a step every `accumulate` batches: in float16 on a GPU, in bfloat16 on a CPU."""
    folder = folder or make_shards()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16

    dataset = penstock.ShardDataset({"x": f"{folder}/x_*.npy", "y": f"{folder}/y_*.npy"})
    loader = penstock.DataLoader(dataset, batch_size=16, shuffle=True, drop_last=True)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)  # bfloat16 needs none

    losses = []
    for _ in range(epochs):
        total = torch.zeros((), device=device)
        for number, batch in enumerate(loader, start=1):
            x, y = (batch[name].to(device, non_blocking=True) for name in ("x", "y"))
            with torch.autocast(device.type, dtype):
                loss = cross_entropy(model(x), y)
            scaler.scale(loss / accumulate).backward()
            if number % accumulate == 0 or number == len(loader):
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
            total += loss.detach()
        losses.append(total.item() / len(loader))

    print(f"{device.type}, {dtype}: loss {losses[0]:.3f} in the first epoch, {losses[-1]:.3f} in the last")
    assert losses[-1] < losses[0] / 2


if __name__ == "__main__":
    typer.run(main)
