"""Includes and imports only ever point down the house."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
PENSTOCK = ROOT / "python" / "penstock"

ROOMS = ["bindings", "loader", "assemble", "image", "order", "index", "formats", "storage", "base"]
FLOORS = [
    {"__init__", "__main__", "cli", "demo", "look", "look_arrays", "pack"},
    {"loader"},
    {"datasets"},
    {"splits"},
    {"samplers"},
    {"collate", "stacking"},
    {"table"},
    {"report"},
    {"device"},
    {"layout", "transforms"},
    {"background", "config", "progress"},
    {"pillow"},
    {"errors", "_core"},
]
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name in floor}

CPP_FILES = sorted(path for path in CSRC.rglob("*") if path.suffix in {".h", ".cpp"})
PYTHON_FILES = sorted(PENSTOCK.rglob("*.py"))
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])(\S+)[>"]', re.MULTILINE)
ONLY_IN_BINDINGS = re.compile(r"Python\.h|pybind11/|torch/|ATen/|c10/|numpy/")


def below(path: Path, root: Path) -> str:
    return str(path.relative_to(root))


def includes(path: Path) -> list[tuple[str, str]]:
    return INCLUDE.findall(path.read_text())


@pytest.mark.parametrize("path", CPP_FILES, ids=lambda path: below(path, CSRC))
def test_includes_point_down(path):
    room = path.relative_to(CSRC).parts[0]
    for quote, name in includes(path):
        if quote == '"':
            assert (CSRC / name).is_file(), f'"{name}" is not written "room/file.h"'
            assert ROOMS.index(name.split("/")[0]) >= ROOMS.index(room), f'"{name}" lies above {room}/'
        else:
            assert not (CSRC / name).exists(), f'<{name}> is ours: write "{name}"'
            assert room == "bindings" or not ONLY_IN_BINDINGS.match(name), f"<{name}> is for bindings/"


@pytest.mark.parametrize("path", CPP_FILES, ids=lambda path: below(path, CSRC))
def test_headers_stand_alone(path):
    if path.suffix == ".h":
        assert path.read_text().startswith("#pragma once\n")
    elif (header := path.with_suffix(".h")).exists():
        assert includes(path)[0] == ('"', below(header, CSRC)), "its own header comes first"


def imported_modules(path: Path) -> list[str]:
    """Modules of penstock that a file imports, as `datasets.base`; the package itself as `__init__`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            names = [alias.name for alias in node.names]
            is_room = node.module == "penstock" and FLOOR_OF.keys() >= set(names)
            found += [f"penstock.{name}" for name in names] if is_room else [node.module or ""]
    ours = [name.split(".", 1) for name in found if name.split(".")[0] == "penstock"]
    return [parts[1] if len(parts) > 1 else "__init__" for parts in ours]


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: below(path, PENSTOCK))
def test_imports_point_down(path):
    floor = FLOOR_OF[path.relative_to(PENSTOCK).with_suffix("").parts[0]]
    for module in imported_modules(path):
        assert FLOOR_OF[module.split(".")[0]] >= floor, f"penstock.{module} lies above"
