"""Every input that ever broke us, or that we read where the format's own library does not."""

from pathlib import Path

import pytest

import penstock

CRASHERS = sorted((Path(__file__).parents[1] / "data" / "crashers").iterdir())


@pytest.mark.parametrize("path", CRASHERS, ids=lambda path: path.name)
def test_an_input_that_once_broke_us_is_refused_by_name(path):
    with pytest.raises(penstock.FormatError) as caught:
        penstock.ShardDataset(path)
    assert caught.value.path == str(path)
