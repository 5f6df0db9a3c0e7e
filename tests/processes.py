"""Python programs in processes of their own."""

import signal
import subprocess
import sys
import textwrap


def start_python(prelude: str, script: str, *arguments: object) -> "subprocess.Popen[str]":
    """Start `prelude` and then `script`, which may be indented; with its output in pipes."""
    command = [sys.executable, "-c", prelude + textwrap.dedent(script), *map(str, arguments)]

    def heed_ctrl_c() -> None:  # a test run in the background may have been told to ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )
