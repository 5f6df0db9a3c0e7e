"""What people look at: a sheet of one batch, and what is in a folder."""

import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import penstock
from penstock import cli, look

COLORS = {"blue": (0, 0, 200), "red": (200, 0, 0)}


@pytest.fixture
def folder(tmp_path):
    """Three red and two blue images, of different sizes."""
    for name, color in COLORS.items():
        (tmp_path / name).mkdir()
        for i in range(3 if name == "red" else 2):
            Image.new("RGB", (30 + 10 * i, 20), color).save(tmp_path / name / f"{i}.png")
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(cli.app, list(map(str, arguments)))


@pytest.mark.parametrize("augment", [False, True])
def test_a_sheet_shows_images_under_their_names(folder, augment):
    sheet = look.contact_sheet(folder, size=16, count=5, augment=augment, seed=1)
    assert sheet == look.contact_sheet(folder, size=16, count=5, augment=augment, seed=1)
    pixels = np.asarray(sheet)
    cells = [pixels[4 + row : 20 + row, 4 + left : 20 + left] for row in (0, 34) for left in (0, 20, 40)]
    colors = [tuple(cell[0, 0]) for cell in cells]
    assert sorted(colors) == sorted([COLORS["red"]] * 3 + [COLORS["blue"]] * 2 + [(255, 255, 255)])
    assert all((cell == cell[0, 0]).all() for cell in cells)
    below = pixels[20:34, 4:60]
    assert (below < 128).any(), "a name is written"


def test_the_command_writes_the_sheet(folder, tmp_path):
    done = invoke("show", folder, "--out", tmp_path / "sheet.png", "--size", 32, "--count", 4)
    assert (done.exit_code, done.stderr) == (0, "")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * 36 + 4, 2 * 50 + 4)


def test_the_command_says_what_is_there(folder):
    (folder / "red" / "broken.png").write_bytes(b"no image")
    done = invoke("inspect", folder)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["blue", "2"], ["red", "4"]]
    said = " ".join(done.stdout.split())
    assert "6 images in 2 classes of 30 x 20 to 50 x 20 pixels; 1 cannot be read" in said
    assert "broken.png: " in said


@pytest.mark.parametrize("command", ["show", "inspect"])
def test_what_is_wrong_is_said(command, tmp_path):
    done = invoke(command, tmp_path / "nowhere")
    assert done.exit_code == 1
    assert done.stderr.startswith("penstock: ")
    assert "nowhere" in done.stderr


@pytest.mark.parametrize("command", ["show", "inspect"])
def test_what_a_folder_was_taken_for_is_said(command, tmp_path):
    done = invoke(command, tmp_path)
    assert done.exit_code == 1
    assert "taken for a folder of images, with a folder for each class: --kind says otherwise" in done.stderr
    assert "--kind" not in invoke(command, tmp_path, "--kind", "images").stderr


def test_shards_in_a_folder_are_a_kind_away(tmp_path):
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", np.zeros((3 + i, 28, 28), np.uint8))
    done = invoke("show", tmp_path)
    assert done.exit_code == 1
    assert "--kind shards takes its rows instead" in done.stderr
    done = invoke("show", tmp_path, "--kind", "shards", "--out", tmp_path / "sheet.png")
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [["show"], ["inspect"], ["pack"]], ids=" ".join)
def test_of_an_archive_it_is_said_who_reads_it(command, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    done = invoke(*command, tmp_path / "x.tar", *([tmp_path / "to"] if command == ["pack"] else []))
    assert done.exit_code == 1
    assert "ImageDataset reads where they lie" in done.stderr


def test_python_m_penstock_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "--version"], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (f"penstock {penstock.__version__}\n", "")
