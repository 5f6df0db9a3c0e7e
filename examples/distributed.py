"""Several processes, each with its share of every epoch.

torchrun --standalone --nproc_per_node 2 examples/distributed.py [--folder FOLDER]
"""

import os
from pathlib import Path

import torch
import torch.distributed as dist
import typer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import penstock
from shards import make_shards


def main(folder: Path | None = None, epochs: int = 3) -> None:
    """Train with one GPU a process, or on the CPU."""
    folder = folder or make_shards()
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if has_gpu else "gloo")
    torch.manual_seed(0)

    dataset = penstock.ShardDataset({name: f"{folder}/{name}_*.npy" for name in ("x", "y", "id")})
    loader = penstock.DataLoader(dataset, batch_size=64, sampler=penstock.DistributedSampler(dataset, seed=0))
    model = DistributedDataParallel(nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10)).to(device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    losses = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)  # the same on all ranks, and another order each epoch
        total = torch.zeros((), device=device)
        seen = []
        for batch in loader:
            x, y = (batch[name].to(device, non_blocking=True) for name in ("x", "y"))
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
            seen.append(batch["id"])
        losses.append(total.item() / len(loader))
        check_epoch(torch.cat(seen).to(device), len(dataset))

    if dist.get_rank() == 0:
        print(f"loss {losses[0]:.3f} in the first epoch, {losses[-1]:.3f} in the last")
    assert losses[-1] < losses[0] / 2
    dist.destroy_process_group()


def check_epoch(seen: torch.Tensor, length: int) -> None:
    """All ranks together have seen every sample once; as many as are needed to come out even, twice."""
    of_ranks = [torch.empty_like(seen) for _ in range(dist.get_world_size())]
    dist.all_gather(of_ranks, seen)
    times_seen = torch.cat(of_ranks).bincount(minlength=length)
    assert times_seen.min() == 1
    assert times_seen.sum() - length == -length % dist.get_world_size()


if __name__ == "__main__":
    typer.run(main)
