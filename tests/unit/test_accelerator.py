"""The tests that need an accelerator, on a simulated one: streams, events and pinned memory, no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import accelerator
import pytest

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """The simulated accelerator's library."""
    library = tmp_path_factory.mktemp("accelerator") / "simulated.so"
    accelerator.build(library)
    return library


@pytest.mark.skipif(accelerator.name() is not None, reason="there is one: they run by themselves")
@pytest.mark.timeout(900)
def test_on_a_simulated_accelerator(simulated, tmp_path):
    files = ["test_device.py", "test_pinned.py", "test_dataloader.py"]
    command = [sys.executable, "-m", "pytest", "-p", "accelerator.plugin", "-q", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'within'}", *(str(TESTS / file) for file in files)],
        env=os.environ | {"SIMULATED_ACCELERATOR": str(simulated), "PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-10_000:] + ran.stderr[-2_000:]
    assert "no accelerator" not in ran.stdout
