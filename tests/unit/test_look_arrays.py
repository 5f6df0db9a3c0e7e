"""What people look at of arrays in files: fields, lengths, samples of each file, pictures among them."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

import penstock
from penstock import cli, look_arrays


def invoke(*arguments):
    return CliRunner().invoke(cli.app, list(map(str, arguments)))


def said(*arguments):
    """The words of each line that a command writes."""
    done = invoke(*arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    return [line.split() for line in done.stdout.splitlines()]


def write_shards(folder, lengths=(3, 5, 5)):
    for i, rows in enumerate(lengths):
        np.save(folder / f"{i}.npy", np.zeros((rows, 2, 7), np.float32))
    return folder


@pytest.mark.parametrize("source", ["", "*.npy", "1.npy"])
def test_shards_are_counted_by_rows(tmp_path, source):
    path = write_shards(tmp_path) / source
    lines = said("inspect", path, "--kind", "shards")
    rows, files = (5, 1) if source == "1.npy" else (13, 3)
    assert lines[1] == ["data", "float32", "2", "x", "7", str(rows), str(files), "0.0"]
    assert lines[-1] == f"{rows} samples in {files} file{'s'[: files > 1]}, 0.0 MB".split()
    histogram = [line[:2] for line in lines[3:-1]]
    assert histogram == ([["5", "1"]] if files == 1 else [["3", "1"], ["5", "2"]])


def test_a_file_or_a_pattern_is_shards_unasked(tmp_path):
    write_shards(tmp_path)
    assert said("inspect", tmp_path / "*.npy") == said("inspect", tmp_path / "*.npy", "--kind", "shards")


def test_named_arrays_are_fields(tmp_path):
    save_file(
        {"[bold]": torch.zeros(4, 3), "label": torch.zeros(4, dtype=torch.int64)}, tmp_path / "a.safetensors"
    )
    lines = said("inspect", tmp_path / "a.safetensors")
    assert sorted(line[:4] for line in lines[1:3]) == [
        ["[bold]", "float32", "3", "4"],
        ["label", "int64", "number", "4"],
    ]


def test_a_folder_is_files_with_a_sample_each_and_that_is_said(tmp_path):
    for i in range(4):
        np.save(tmp_path / f"{i}.npy", np.zeros((2, 3), np.uint8))
    lines = said("inspect", tmp_path)
    assert lines[1] == ["data", "uint8", "2", "x", "3", "4", "4", "0.0"]
    assert lines[2] == ["4", "samples", "in", "4", "files,", "0.0", "MB"]
    assert "--kind" in lines[3]


def test_what_cannot_be_read_is_listed(tmp_path):
    write_shards(tmp_path, (2, 2))
    (tmp_path / "broken.npy").write_bytes(b"no array")
    lines = said("inspect", tmp_path)
    assert " ".join(lines[2]) == "2 samples in 2 files, 0.0 MB; 1 cannot be read"
    assert any("broken.npy:" in word for line in lines for word in line)


def test_lengths_are_drawn(tmp_path):
    for i in range(30):
        np.save(tmp_path / f"{i}.npy", np.zeros((i + 1, 2), np.float32))
    found = look_arrays.arrays_found(tmp_path, "files")
    assert sorted(found.lengths.tolist()) == list(range(1, 31))
    lines = said("inspect", tmp_path)
    assert lines[1][:6] == ["data", "float32", "any", "x", "2", "30"]
    spans = [line[:4] for line in lines[3:13]]
    assert spans == [[str(3 * k + 1), "to", str(3 * k + 3), "3"] for k in range(10)]


def test_sequences_in_shards(tmp_path):
    for i in range(2):
        np.savez(tmp_path / f"{i}.npz", values=np.zeros((6, 4), np.float32), lengths=np.array([1, 2, 3]))
    lines = said("inspect", tmp_path, "--kind", "shards")
    assert lines[1][:6] == ["values", "float32", "any", "x", "4", "6"]
    assert [line[:2] for line in lines[-4:-1]] == [["1", "2"], ["2", "2"], ["3", "2"]]


def test_tensors_of_a_list_are_samples(tmp_path):
    torch.save([torch.zeros(3, 2), torch.zeros(5, 2)], tmp_path / "list.pt")
    found = look_arrays.arrays_found(tmp_path / "list.pt", "shards")
    assert (found.lengths.tolist(), found.samples_per_file, found.files) == ([3, 5], None, 1)


@pytest.mark.parametrize("suffix", [".npy", ".png"])
def test_packs(tmp_path, suffix):
    source = tmp_path / "source" / "class"
    source.mkdir(parents=True)
    for i in range(3):
        if suffix == ".npy":
            np.save(source / f"{i}.npy", np.full((2, 3), i, np.float32))
        else:
            Image.new("RGB", (8, 8), (i, 0, 0)).save(source / f"{i}.png")
    penstock.pack(source.parent, tmp_path / "pack", shard_bytes=48)
    lines = said("inspect", tmp_path / "pack")
    if suffix == ".npy":
        assert lines[1] == ["data", "float32", "2", "x", "3", "3", "2", "0.0"]
    else:
        assert lines[1][:4] == ["image", "uint8", "any", "3"]
        assert lines[2][:4] == ["label", "int64", "number", "3"]


def test_only_headers_are_read(tmp_path):
    """What lies behind them is a hole larger than memory."""
    path = tmp_path / "large.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 1 << 17)}
        )
        file.truncate(file.tell() + (1 << 37))
    assert said("inspect", path)[-1][:2] == [f"{1 << 20:,}", "samples"]


@pytest.mark.parametrize("command", ["show", "inspect"])
@pytest.mark.parametrize("name", ["nowhere.npy", "broken.npy", "*.pt"])
def test_what_is_wrong_is_said_of_files(command, name, tmp_path):
    (tmp_path / "broken.npy").write_bytes(b"no array")
    done = invoke(command, tmp_path / name)
    assert done.exit_code == 1
    assert done.stderr.startswith("penstock: ")
    assert name in done.stderr


def test_names_that_are_not_utf8_are_printed(tmp_path, monkeypatch):
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / os.fsdecode(b"caf\xe9") / "a.png")
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, "utf-8", "strict"))
    monkeypatch.setattr("sys.argv", ["penstock", "inspect", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    sys.stdout.flush()
    assert b"caf\\udce9" in printed.getvalue()


# --- pictures --------------------------------------------------------------------------------------------

SHAPES = {"gray": (5, 6), "last": (5, 6, 3), "first": (3, 5, 6), "one": (5, 6, 1), "alpha": (5, 6, 4)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_sheet_shows_every_row_enlarged(tmp_path, shape):
    rows = np.stack([np.full(shape, 40 * (i + 1), np.uint8) for i in range(3)])
    np.save(tmp_path / "pictures.npy", rows)
    sheet = look_arrays.array_sheet(tmp_path / "pictures.npy", size=12, seed=2)
    assert sheet == look_arrays.array_sheet(tmp_path / "pictures.npy", size=12, seed=2)
    pixels = np.asarray(sheet)
    cells = [
        pixels[4 + 28 * row : 14 + 28 * row, 4 + left : 16 + left] for row in (0, 1) for left in (0, 16, 32)
    ]
    colors = sorted(int(cell[0, 0, 0]) for cell in cells if cell.size)
    assert {40, 80, 120} <= set(colors)
    assert all((cell == cell[:1, :1]).all() for cell in cells[:3])


def test_the_command_draws_the_pictures_among_the_fields(tmp_path):
    np.savez(tmp_path / "a.npz", label=np.arange(4), image=np.zeros((4, 3, 8, 8), np.uint8))
    done = invoke("show", tmp_path / "a.npz", "--out", tmp_path / "sheet.png", "--size", 16)
    assert (done.exit_code, done.stderr) == (0, "")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * 20 + 4, 2 * 34 + 4)


@pytest.mark.parametrize("options", [(), ("--kind", "files")], ids=str)
def test_the_command_draws_files_with_a_picture_each(tmp_path, options):
    for i in range(4):
        np.savez(tmp_path / f"{i}.npz", label=i, image=np.full((8, 8, 3), 60 * i, np.uint8))
    out = tmp_path / "sheet.png"
    done = invoke("show", tmp_path, "--out", out, "--size", 16, *options)
    assert (done.exit_code, done.stderr) == (0, "")
    with Image.open(out) as sheet:
        assert sheet.size == (3 * 20 + 4, 2 * 34 + 4)
        assert {0, 60, 120, 180} <= set(np.asarray(sheet)[..., 0].ravel().tolist())


def test_files_that_differ_in_size_are_no_pictures(tmp_path):
    for i in range(1, 9):
        np.save(tmp_path / f"{i}.npy", np.zeros((i, 8), np.uint8))
    done = invoke("show", tmp_path)
    assert done.exit_code == 1
    assert "no picture" in done.stderr
    assert "--kind shards" in done.stderr


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 8, 8), np.float32), np.zeros((4, 9), np.uint8), np.zeros((4, 5, 6, 7), np.uint8)],
    ids=["float32", "flat", "5 x 6 x 7"],
)
def test_what_is_no_picture_is_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    done = invoke("show", tmp_path / "a.npy")
    assert done.exit_code == 1
    assert "no picture" in done.stderr
    assert "a.npy" in done.stderr


def test_no_rows_are_no_picture(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 8, 8), np.uint8))
    done = invoke("show", tmp_path / "a.npy")
    assert done.exit_code == 1
    assert "no rows" in done.stderr


def test_arrays_are_not_augmented(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((1, 8, 8), np.uint8))
    assert invoke("show", tmp_path / "a.npy", "--augment").exit_code == 2


def test_a_pattern_that_the_shell_has_expanded_is_shards(tmp_path):
    write_shards(tmp_path)
    names = sorted(tmp_path.glob("*.npy"))
    assert said("inspect", *names) == said("inspect", tmp_path / "*.npy")
    for i, name in enumerate(names):
        np.save(name, np.full((2, 5, 5), i, np.uint8))
    assert said("show", *names, "--out", tmp_path / "a.png")[0][0] == f"{tmp_path}/a.png:"
    done = invoke("inspect", *names, "--kind", "files")
    assert done.exit_code == 2
    assert "several paths are shards" in done.stderr


def test_values_that_are_no_tensors_are_told_on_the_command_line(tmp_path):
    for i in range(2):
        torch.save((torch.zeros(3), i), tmp_path / f"{i}.pt")
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "inspect", tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stderr.startswith(f"penstock: {tmp_path}/0.pt: what is no tensor is left out: '1' (int). ")
    assert done.stderr.count("\n") == 1
