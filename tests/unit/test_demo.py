"""`penstock demo`, piece by piece and once from end to end."""

import sys
import tempfile
from dataclasses import replace
from functools import partial

import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

import penstock
from penstock import cli, demo


@pytest.fixture
def digits():
    return demo.split_digits()


@pytest.fixture
def rows(tmp_path, digits):
    return demo.write_rows(tmp_path, digits.images.flatten(1), at_least=2_000)


@pytest.fixture
def hasty(monkeypatch):
    """Stop slow rivals early."""
    monkeypatch.setattr(demo, "CAP_S", 0.01)


@pytest.fixture
def quiet(hasty):
    return Progress(console=Console(quiet=True), disable=True)


def _one_batch(batch, _seed):
    return [batch]


def invoke(*arguments):
    return CliRunner().invoke(cli.app, arguments)


def test_the_split_keeps_every_scan_and_every_class(digits):
    assert len(digits.images) == len(digits.labels) == 1_437
    assert len(digits.held_out_images) == len(digits.held_out_labels) == 360
    assert digits.labels.bincount().min() >= 130
    assert digits.held_out_labels.bincount().min() >= 34
    assert torch.equal(digits.held_out_images, demo.split_digits().held_out_images)


@pytest.mark.parametrize(("rows", "shards"), [(1_437, 12), (60_354, 24), (24, 24)])
def test_lengths_are_uneven_and_complete(rows, shards):
    lengths = demo.uneven_lengths(rows, shards)
    assert len(lengths) == shards
    assert sum(lengths) == rows
    assert min(lengths) >= 1
    assert len(set(lengths)) > shards // 2 or rows == shards


@pytest.mark.parametrize("form", demo.FORMATS, ids=lambda form: form.suffix)
def test_shards_read_back_equal(form, digits, tmp_path):
    dataset = demo.write_digits(tmp_path, form, digits)
    images, labels = dataset.gather(range(len(dataset)))
    assert torch.equal(images, digits.images)
    assert torch.equal(labels, digits.labels)
    files = [file for file in (tmp_path / form.suffix[1:]).iterdir() if not file.name.startswith("label")]
    assert len(files) == demo.TRAIN_SHARDS
    assert len({file.stat().st_size for file in files}) > demo.TRAIN_SHARDS // 2


def test_every_rival_delivers_the_rows(tmp_path, rows, quiet):
    rivals = demo.rivals(tmp_path, rows)
    speeds = demo.measure(rivals, rows, rounds=1, progress=quiet)
    assert [speed.rival for speed in speeds] == rivals
    assert all(speed.per_s > 0 and speed.rows <= len(rows) for speed in speeds)


def test_a_rival_with_other_rows_is_found_out(tmp_path, rows):
    rival = demo.rivals(tmp_path, rows)[-1]
    demo.check(replace(rival, epoch=lambda _seed: [rows.flip(0)]), rows)
    wrong_value, missing, twice = rows + 0.5, rows[:-1], rows[[0, *range(len(rows) - 1)]]
    for batch in (wrong_value, missing, twice):
        with pytest.raises(RuntimeError, match="did not deliver"):
            demo.check(replace(rival, epoch=partial(_one_batch, batch)), rows)


def test_hand_written_datasets_agree_with_ours(tmp_path, rows):
    paths = sorted((tmp_path / "rows_npy").iterdir())
    ours = penstock.ShardDataset(paths)
    by_hand = demo.OpenUntilItFits(paths, demo._load_npy), demo.MappedFiles(paths)
    for dataset in by_hand:
        assert len(dataset) == len(ours) == len(rows)
        for i in (0, 1, 999, len(rows) - 1):
            assert torch.equal(dataset[i], ours[i])
    with pytest.raises(IndexError):
        by_hand[0][len(rows)]


def test_threads_are_given_back():
    before = torch.get_num_threads(), penstock.get_num_threads()
    with demo.one_thread():
        assert (torch.get_num_threads(), penstock.get_num_threads()) == (1, 1)
    assert (torch.get_num_threads(), penstock.get_num_threads()) == before


@pytest.mark.usefixtures("hasty")
def test_the_demo_trains_and_measures(tmp_path):
    folder = tmp_path / "kept"
    result = invoke("demo", f"--folder={folder}", "--epochs=8", "--rounds=1", "--rows=2000")
    assert result.exit_code == 0, result.output
    assert "1,797 handwritten digits" in result.output
    table = result.output[result.output.index("held-out accuracy") :]
    for form in demo.FORMATS:
        _name, shards, accuracy, _seconds = next(
            line.split() for line in table.splitlines() if line.split()[:1] == [form.suffix]
        )
        assert int(shards) == demo.TRAIN_SHARDS
        assert float(accuracy.rstrip("%")) > 95
    assert "rows/s" in table
    assert "index_select" in table
    assert len(penstock.ShardDataset(folder / "safetensors")) == 1_437
    assert f"The files are in {folder}. To open some:" in result.output


@pytest.mark.usefixtures("hasty")
def test_a_network_that_learned_nothing_fails_the_demo(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = invoke("demo", "--epochs=1", "--rounds=1", "--rows=1")
    assert result.exit_code == 1
    assert "Failed: not over 95%" in result.output
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in result.output  # nothing that is deleted is to be opened
    assert "The files are deleted now. To keep them: penstock demo --folder digits." in result.output
    assert "ShardDataset('digits/safetensors'" in result.output


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "precious.npy").touch()
    result = invoke("demo", f"--folder={tmp_path}")
    assert result.exit_code == 2
    assert [file.name for file in tmp_path.iterdir()] == ["precious.npy"]


def test_help_and_version():
    assert "--epochs" in invoke("demo", "--help").output
    assert "demo" in invoke("--help").output
    assert invoke("--version").output == f"penstock {penstock.__version__}\n"


def test_a_missing_package_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(SystemExit, match=r"pip install 'penstock\[demo\]'"), cli._explain_missing():
        import safetensors.torch  # noqa: F401


def test_another_missing_module_is_not_explained_away():
    with pytest.raises(ModuleNotFoundError), cli._explain_missing():
        import penstock.missing  # type: ignore[import-not-found]  # noqa: F401
