"""The stub says what the extension has, and the types hold together."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="needs mypy: the group `dev`"),
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize(
    "arguments",
    [["mypy.stubtest", "penstock._core", "--mypy-config-file", "pyproject.toml"], ["mypy"]],
    ids=["stubtest", "mypy"],
)
def test_types(arguments):
    finished = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
