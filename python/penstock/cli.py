"""The `penstock` command."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import penstock

__all__ = ["main"]

_EXTRA = ("rich", "safetensors", "sklearn", "typer")


@contextmanager
def _explain_missing() -> Iterator[None]:
    """Say what to install when a package that only the command needs is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in _EXTRA:
            raise
        sys.exit(
            f"penstock: {error.name} is not installed. Install what is missing: pip install 'penstock[demo]'"
        )


with _explain_missing():
    import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penstock {penstock.__version__}")
        raise typer.Exit


@app.callback()
def _penstock(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Batches from the files you already have, at the speed of memory."""


def _require_empty(folder: Path | None) -> Path | None:
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise typer.BadParameter(f"{folder} is not empty, and the demo overwrites nothing")
    return folder


@app.command()
def demo(
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Keep the files here: a new or empty folder. Default: a temporary one, deleted at the end.",
            file_okay=False,
            callback=_require_empty,
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Epochs to train for, per format.", min=1)] = 20,
    rounds: Annotated[int, typer.Option(help="Rounds to take the median speed of.", min=1)] = 5,
    rows: Annotated[
        int, typer.Option(help="Rows to measure the speed on, at least.", min=1, max=10_000_000)
    ] = 60_000,
) -> None:
    """Train on handwritten digits from scattered files, and measure rows per second.

    Exits with 1 when the network gets 95 % of the held-out digits or less.
    """
    with _explain_missing():
        from rich.console import Console

        from penstock import demo as demonstration
    with tempfile.TemporaryDirectory(prefix="penstock-demo-") as temporary:
        settings = demonstration.Settings(
            folder or Path(temporary), kept=folder is not None, epochs=epochs, rounds=rounds, rows=rows
        )
        if not demonstration.run(settings, Console()):
            raise typer.Exit(1)


def main() -> None:
    """Run the `penstock` command."""
    app()


if __name__ == "__main__":
    main()
