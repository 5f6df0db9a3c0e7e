"""README.md: what it shows runs, and what it names is there."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import penstock

README = Path(__file__).parents[2] / "README.md"
MARKED = re.compile(r"<!-- runs -->\s*```python\n(.*?)```", re.DOTALL)
PUBLIC_NAME = re.compile(r"\bpenstock\.([A-Za-z]\w*)")
CODE = re.compile(r"```python\n(.*?)```|`([^`\n]+)`", re.DOTALL)


@pytest.fixture(scope="module")
def readme():
    return README.read_text()


def test_marked_blocks_run(readme, tmp_path):
    """All blocks after `<!-- runs -->`, in their order, as one program beside a folder of data.

    What is said to be done by the core is.
    """
    blocks = MARKED.findall(readme)
    assert blocks, "README.md marks no block with <!-- runs -->"
    for folder in ("data", "img", "lab", "seq", "len", "tokens", "digits", "digit_labels"):
        (tmp_path / folder).mkdir()
    for shard in range(3):
        np.save(tmp_path / "data" / f"{shard}.npy", np.zeros((10 + shard, 4), np.float32))
        np.save(tmp_path / "img" / f"{shard}.npy", np.zeros((100, 8, 8), np.uint8))
        np.save(tmp_path / "lab" / f"{shard}.npy", np.arange(100) % 10)
        np.save(tmp_path / "digits" / f"{shard}.npy", np.zeros((100, 28, 28), np.uint8))
        np.save(tmp_path / "digit_labels" / f"{shard}.npy", np.arange(100) % 10)
        np.save(tmp_path / "seq" / f"{shard}.npy", np.zeros((100, 10), np.float32))
        np.save(tmp_path / "len" / f"{shard}.npy", np.arange(5) * 10)
        np.zeros(300, np.uint16).tofile(tmp_path / "tokens" / f"{shard}.bin")
    for name, width in (("cat", 50), ("dog", 70)):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((40, width, 3), np.uint8)).save(tmp_path / "train" / name / "a.png")
    (tmp_path / "faces").mkdir()
    ids = [f"id-{i}" for i in range(100)]
    for name in ids:
        torch.save(torch.zeros(4), tmp_path / "faces" / f"{name}.pt")
    partition = {"train": ids[:80]}
    given = f"import numpy as np\nimport torch\npartition, labels = {partition!r}, {dict.fromkeys(ids, 1)!r}"
    then = "for each in (train, photos, digits):\n    assert 'by the core' in each.explain(), each.explain()"
    program = tmp_path / "readme.py"
    program.write_text("\n".join([given, *blocks, then]))
    finished = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_marked_blocks_are_python_blocks(readme):
    assert readme.count("<!-- runs -->") == len(MARKED.findall(readme))


def test_names_exist(readme):
    code = "\n".join(block or inline for block, inline in CODE.findall(readme))
    missing = {name for name in PUBLIC_NAME.findall(code) if not hasattr(penstock, name)}
    assert not missing
