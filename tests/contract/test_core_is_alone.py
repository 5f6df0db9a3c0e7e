"""The core cannot see Python: not by discipline, but because it does not compile."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compile_core(tmp_path_factory):
    """compile_core(text) -> the finished compiler, given the flags that files of the core get"""
    if shutil.which("cmake") is None or (shutil.which("c++") or shutil.which("g++")) is None:
        pytest.skip("needs cmake and a C++ compiler")
    build = tmp_path_factory.mktemp("build")
    options = ["-DPENSTOCK_PYTHON=OFF", f"-DPENSTOCK_JSON_INCLUDE={build}"]
    subprocess.run(["cmake", "-S", ROOT, "-B", build, *options], check=True, capture_output=True)
    entries = json.loads((build / "compile_commands.json").read_text())
    entry = next(entry for entry in entries if entry["file"].endswith("base/error.cpp"))

    def compile_core(text: str) -> subprocess.CompletedProcess[str]:
        source = build / "one_line.cpp"
        source.write_text(text)
        words = [str(source) if word == entry["file"] else word for word in shlex.split(entry["command"])]
        words[words.index("-o") + 1] = str(build / "one_line.o")
        return subprocess.run(words, cwd=entry["directory"], capture_output=True, text=True)

    return compile_core


def test_a_header_of_the_core_compiles(compile_core):
    assert compile_core('#include "base/error.h"\n').returncode == 0


@pytest.mark.parametrize("header", ["Python.h", "pybind11/pybind11.h", "torch/torch.h"])
def test_python_does_not_compile(compile_core, header):
    compiler = compile_core(f"#include <{header}>\n")
    assert compiler.returncode != 0
    assert header in compiler.stderr
