"""No static inside a function of the core: half made when another thread forks, it hangs the child."""

import re
from pathlib import Path

CORE = Path(__file__).parents[2] / "csrc"
ALLOWED = {"base/fork.cpp": ["static ForkHandlers& handlers"]}  # made when the library is loaded

# Indented, of neither a constant nor a member function: neither has a guard.
LOCAL_STATIC = re.compile(r"^\s+(static (?!constexpr|const char\*)[^(\n]*?)\s*[={;]", re.MULTILINE)


def statics_in_functions(folder: Path) -> dict[str, list[str]]:
    found = {}
    for path in sorted(folder.rglob("*.cpp")):
        text = re.sub(r"//.*", "", path.read_text())
        if names := LOCAL_STATIC.findall(text):
            found[path.relative_to(folder).as_posix()] = names
    return found


def test_the_core_has_none():
    assert statics_in_functions(CORE) == ALLOWED


def test_one_would_be_found(tmp_path):
    (tmp_path / "one.cpp").write_text("int f() {\n  static const int all = count();\n  return all;\n}\n")
    assert statics_in_functions(tmp_path) == {"one.cpp": ["static const int all"]}
