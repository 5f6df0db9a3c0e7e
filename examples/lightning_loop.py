"""A Lightning Trainer. Its checkpoints hold the loader's place too, so a run goes on in mid-epoch.

python examples/lightning_loop.py [--folder FOLDER]
"""

import tempfile
from pathlib import Path

import lightning
import torch
import typer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import penstock
from shards import make_shards


class Classifier(lightning.LightningModule):
    """A small classifier, which remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
        self.losses: list[float] = []
        self.seen: list[Tensor] = []

    def training_step(self, batch: dict[str, Tensor], number: int) -> Tensor:
        """The loss of a batch."""
        loss = cross_entropy(self.layers(batch["x"]), batch["y"])
        self.losses.append(loss.item())
        self.seen.append(batch["id"].cpu())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def train(folder: Path, epochs: int, checkpoints: str, resume_from: str | None = None) -> Classifier:
    """Train with a checkpoint after 100 batches, which is in the middle of an epoch."""
    dataset = penstock.ShardDataset({name: f"{folder}/{name}_*.npy" for name in ("x", "y", "id")})
    loader = penstock.DataLoader(dataset, batch_size=64, shuffle=True, seed=0)
    model = Classifier()
    trainer = lightning.Trainer(
        max_epochs=epochs,
        use_distributed_sampler=False,  # the loader has one: with several ranks, each gets its share once
        callbacks=[ModelCheckpoint(checkpoints, filename="{step}", every_n_train_steps=100)],
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
    )
    trainer.fit(model, loader, ckpt_path=resume_from)
    return model


def main(folder: Path | None = None, epochs: int = 3) -> None:
    """Train; then once more from the checkpoint, as after a crash."""
    folder = folder or make_shards()
    lightning.seed_everything(0)
    with tempfile.TemporaryDirectory() as checkpoints:
        whole = train(folder, epochs, checkpoints)
        rest = train(folder, epochs, checkpoints, resume_from=f"{checkpoints}/step=100.ckpt")

    print(f"loss {whole.losses[0]:.3f} at first, {whole.losses[-1]:.3f} at last")
    assert whole.losses[-1] < whole.losses[0] / 2
    assert torch.cat(whole.seen).bincount().eq(epochs).all(), "every sample once an epoch"
    assert torch.equal(torch.cat(rest.seen), torch.cat(whole.seen[100:])), "the very next batch came"


if __name__ == "__main__":
    typer.run(main)
