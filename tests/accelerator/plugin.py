"""Pytest's way to the simulated accelerator, whose library SIMULATED_ACCELERATOR names."""

import os
from pathlib import Path

import accelerator

accelerator.install(Path(os.environ["SIMULATED_ACCELERATOR"]))
