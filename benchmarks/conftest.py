"""Data for the benchmarks: full size when they are timed, small when they only run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

import penstock
from benchmarks.workloads import ROWS, Written, write


@pytest.fixture(scope="session")
def timed(request: pytest.FixtureRequest) -> bool:
    """Whether benchmarks are being timed in this run."""
    return bool(request.config.getoption("benchmark_enable"))


@pytest.fixture(scope="session")
def written(timed: bool, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Written]:
    """Workloads by name, written once a session."""
    known: dict[str, Written] = {}

    def get(name: str) -> Written:
        if name not in known:
            rows = ROWS[name] if timed else ROWS[name].tiny()
            known[name] = write(rows, tmp_path_factory.mktemp(name))
        return known[name]

    return get


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread each, so that ratios speak of the code and not of the machine."""
    before = torch.get_num_threads(), penstock.get_num_threads()
    torch.set_num_threads(1)
    penstock.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    penstock.set_num_threads(before[1])
