"""Every command of CONTRIBUTING.md is one that CI runs, or is tried here without its effects."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CI = (ROOT / ".ci" / "run").read_text()
CI_LINES = {line.strip() for line in CI.splitlines()}
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / ".github" / "CONTRIBUTING.md").read_text(), re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]


def succeeds(*words: str) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTEST_XDIST"))
    }
    finished = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def try_apt(words: list[str]) -> None:
    """CI installs these packages and no others."""
    in_ci = re.search(r"apt-get install(.*?)>/dev/null", CI, re.DOTALL)
    assert in_ci
    wanted = {word for word in in_ci[1].split() if not word.startswith(("-", "\\"))}
    assert wanted == {word for word in words[2:] if not word.startswith("-")}


def try_editable(words: list[str]) -> None:
    if importlib.util.find_spec("scikit_build_core") is None:
        pytest.skip("needs scikit-build-core: the group `dev`")
    succeeds("-m", *words, "--dry-run", "--no-deps", "--no-index", "--quiet")


def try_pytest(words: list[str]) -> None:
    """Its options are known, and it finds tests."""
    arguments = words[words.index("pytest") + 1 :]
    succeeds("-m", "pytest", *arguments, "--collect-only", "-qq", "-p", "no:cacheprovider")


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command):
    words = shlex.split(command)
    if command in CI_LINES or command.replace(".venv", '"$venv"') in CI_LINES:
        return
    if words[:2] == ["apt-get", "install"]:
        try_apt(words)
    elif words[:2] == ["pip", "install"]:
        try_editable(words)
    elif "pytest" in words:
        try_pytest(words)
    else:
        assert os.access(ROOT / command, os.X_OK), "CI does not run this"
