"""A small convolutional network on a folder of images: scikit-learn's digits, written as PNGs.

python examples/images.py [--folder FOLDER]
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import penstock
from penstock import transforms

AS_TENSORS = [transforms.ToTensor(), transforms.Normalize([0.3], [0.35])]
TRAINING = transforms.Compose(
    [transforms.Grayscale(), transforms.RandomCrop(16, padding=1), *AS_TENSORS]  # shifted by up to a pixel
)
TESTING = transforms.Compose([transforms.Grayscale(), *AS_TENSORS])


def write_digits(folder: Path) -> None:
    """Write `train/` and `test/`, each with a folder for every digit; 16 x 16 pixels."""
    digits = load_digits()
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        part = folder / ("test" if number % 5 == 0 else "train") / str(digit)
        part.mkdir(parents=True, exist_ok=True)
        pixels = np.kron((pixels * 15).astype(np.uint8), np.ones((2, 2), np.uint8))
        Image.fromarray(pixels).save(part / f"{number:04}.png")


def make_model() -> nn.Module:
    """Two convolutions and a layer behind them."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def train(folder: Path, epochs: int) -> float:
    """The accuracy on digits that were not trained on."""
    training = penstock.ImageFolder(folder / "train", TRAINING)
    testing = penstock.ImageFolder(folder / "test", TESTING)
    print(training.explain())
    loader = penstock.DataLoader(training, batch_size=32, shuffle=True)
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(epochs):
        total = torch.zeros(())
        for images, targets in loader:
            loss = cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(targets)
        print(f"epoch {epoch}: loss {total.item() / len(training):.3f}, {loader.report()}")
    model.eval()
    with torch.no_grad():
        right = sum(
            int((model(images).argmax(1) == targets).sum())
            for images, targets in penstock.DataLoader(testing, batch_size=256)
        )
    return right / len(testing)


def main(folder: Path | None = None, epochs: int = 6) -> None:
    """Write the digits, train, and test."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        if folder is None:
            write_digits(Path(temporary))
        accuracy = train(folder or Path(temporary), epochs)
    print(f"accuracy {accuracy:.1%} on digits that were not trained on")
    assert accuracy > 0.95


if __name__ == "__main__":
    typer.run(main)
