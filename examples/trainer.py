"""The Trainer of transformers, with Penstock's loader in the place of its own.

python examples/trainer.py [--folder FOLDER]
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
import typer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainingArguments

import penstock
from shards import make_shards


class PenstockTrainer(Trainer):
    """A Trainer whose training batches come from a `penstock.DataLoader`."""

    def get_train_dataloader(self) -> penstock.DataLoader:
        """Batches of this rank: the order is shared out already, so nothing here is `prepare`d."""
        dataset: Any = self.train_dataset
        return penstock.DataLoader(dataset, self._train_batch_size, shuffle=True, seed=self.args.seed)


class Classifier(nn.Module):
    """A small classifier, which returns its loss, as a Trainer wants it, and counts what it has seen."""

    times_seen: Tensor

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
        self.register_buffer("times_seen", torch.zeros(samples, dtype=torch.int64))  # checkpoints hold it

    def forward(self, x: Tensor, labels: Tensor, id: Tensor) -> dict[str, Tensor]:
        """The loss of a batch."""
        self.times_seen[id] += 1
        logits = self.layers(x)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def main(folder: Path | None = None, epochs: int = 3) -> None:
    """Train; then once more from a checkpoint in the middle of an epoch, as after a crash."""
    folder = folder or make_shards()
    fields = {"x": f"{folder}/x_*.npy", "labels": f"{folder}/y_*.npy", "id": f"{folder}/id_*.npy"}
    dataset = penstock.ShardDataset(fields)
    model, again = Classifier(len(dataset)), Classifier(len(dataset))
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output,
            num_train_epochs=epochs,
            per_device_train_batch_size=64,
            learning_rate=1e-3,
            logging_strategy="epoch",
            save_steps=100,
            report_to="none",
            disable_tqdm=True,
        )
        trainer = PenstockTrainer(model, arguments, train_dataset=dataset)
        trainer.train()
        checkpoint = f"{output}/checkpoint-100"
        PenstockTrainer(again, arguments, train_dataset=dataset).train(resume_from_checkpoint=checkpoint)

    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    print(f"loss {losses[0]:.3f} in the first epoch, {losses[-1]:.3f} in the last")
    assert losses[-1] < losses[0] / 2
    for each in (model, again):
        assert (each.times_seen == epochs).all(), "every sample once an epoch"


if __name__ == "__main__":
    typer.run(main)
