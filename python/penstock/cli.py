"""The `penstock` command."""

import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import penstock
from penstock.pack import Packed
from penstock.pack import pack as pack_samples

__all__ = ["main"]

_EXTRA = ("PIL", "rich", "safetensors", "sklearn", "typer")


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


class _Kind(str, Enum):
    files = "files"
    shards = "shards"
    images = "images"


class _Format(str, Enum):
    npy = "npy"
    safetensors = "safetensors"


_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def _to_bytes(size: str) -> int:
    number, unit = size.strip().lower().removesuffix("b").removesuffix("i"), ""
    if number[-1:] in _UNITS:
        number, unit = number[:-1], number[-1:]
    if not number.isdecimal() or int(number) == 0:
        raise typer.BadParameter(f"{size} is no size such as 512M, 2G or 1000000")
    return int(number) << _UNITS[unit]


@app.command()
def pack(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="A folder of files with a sample each; or as --kind says.")
    ],
    folder: Annotated[
        Path,
        typer.Argument(metavar="DST", help="A new or empty folder; or one to go on with.", file_okay=False),
    ],
    kind: Annotated[
        _Kind | None,
        typer.Option(
            help="What SRC is: files with a sample each; shards, a file, folder or pattern with many samples "
            "a file; images, in a folder for each class. Default: for a folder images or files; else shards."
        ),
    ] = None,
    format: Annotated[_Format, typer.Option(help="What to write.")] = _Format.npy,
    shard_size: Annotated[
        str, typer.Option(help="How large a shard may get, such as 512M or 2G.", metavar="SIZE")
    ] = "512M",
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of DST again, what was finished earlier too.")
    ] = False,
) -> None:
    """Pack many small files into large .npy or .safetensors files.

    Order, labels and names are kept, SRC is left as it is, and every sample is read back and compared. When
    interrupted, the same command goes on where it was.
    """
    shard_bytes = _to_bytes(shard_size)
    begun = time.perf_counter()
    try:
        packed = pack_samples(
            source,
            folder,
            kind=None if kind is None else kind.value,
            format=format.value,
            shard_bytes=shard_bytes,
        )
        if verify:
            packed.verify()
    except penstock.PenstockError as error:
        raise _said(error) from None
    _print_packed(packed, time.perf_counter() - begun)


def _print_packed(packed: Packed, seconds: float) -> None:
    size, shards = packed.num_bytes / 1e6, packed.num_shards
    typer.echo(
        f"{packed.folder}: {len(packed):,} samples of {', '.join(packed.fields)}, {size:,.1f} MB "
        f"in {shards} shard{'s'[: shards != 1]}, every sample verified ({seconds:.1f} s)"
    )
    typer.echo(f"Open it: penstock.Packed({str(packed.folder)!r}).open()")


def _said(error: penstock.PenstockError) -> typer.Exit:
    typer.echo(f"penstock: {error}", err=True)
    return typer.Exit(1)


_Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="A folder of images, with a folder for each class; or as --kind says. Several are shards.",
    ),
]
_KindOfSource = Annotated[
    _Kind | None,
    typer.Option(
        help="What PATH is: images; files with a sample each; shards, a file, folder or pattern with many "
        "samples a file. Default: for a folder images, if there are some, or files; else shards."
    ),
]


def _source_of(paths: list[str], kind: _Kind | None) -> str | list[str]:
    """A path; or the files that a shell has made of a pattern."""
    if len(paths) > 1 and kind not in (None, _Kind.shards):
        raise typer.BadParameter(f"several paths are shards: of {kind.value} give the one folder")
    return paths if len(paths) > 1 else paths[0]


def _said_with_kind(error: penstock.PenstockError, kind: _Kind | None, taken_for: str | None) -> typer.Exit:
    """The error, and what PATH was taken for where nobody has said what it is."""
    said = _said(error)
    if kind is None and taken_for == "files":
        typer.echo("Each file is taken for one sample: --kind shards takes its rows instead.", err=True)
    if kind is None and taken_for == "images":
        typer.echo(
            "It is taken for a folder of images, with a folder for each class: --kind says otherwise.",
            err=True,
        )
    return said


@app.command()
def show(
    paths: _Sources,
    out: Annotated[Path, typer.Option(help="Where to write the picture.", dir_okay=False)] = Path(
        "contact-sheet.png"
    ),
    kind: _KindOfSource = None,
    size: Annotated[int, typer.Option(help="Pixels of a side, as the network has it.", min=1)] = 224,
    count: Annotated[int, typer.Option(help="How many images.", min=1, max=1000)] = 24,
    augment: Annotated[
        bool, typer.Option("--augment", help="Crop and flip at random, as in training.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another one, another batch.")] = 0,
) -> None:
    """Draw one batch as the network will see it, with the names of its classes.

    Of shards, and of files with a sample each, rows of uint8 that are pictures, with their numbers.
    """
    with _explain_missing():
        from penstock import look, look_arrays
    path = _source_of(paths, kind)
    taken_for: look_arrays.Kind | None = None if kind is None else kind.value
    try:
        taken_for = taken_for or look_arrays.kind_of(path)
        if augment and taken_for != "images":
            raise typer.BadParameter("--augment is for folders of images")
        if taken_for == "images":
            sheet = look.contact_sheet(paths[0], size=size, count=count, augment=augment, seed=seed)
        else:
            sheet = look_arrays.array_sheet(path, taken_for, size=size, count=count, seed=seed)
    except penstock.PenstockError as error:
        raise _said_with_kind(error, kind, taken_for) from None
    sheet.save(out)
    typer.echo(f"{out}: {sheet.width} x {sheet.height} pixels")


@app.command()
def inspect(paths: _Sources, kind: _KindOfSource = None) -> None:
    """Say what is there, by headers alone, and what cannot be read.

    Of images their classes and sizes; of arrays their fields, with dtype, shape, rows and lengths.
    """
    with _explain_missing():
        from rich.console import Console

        from penstock import look, look_arrays
    found: look.ImagesFound | look_arrays.ArraysFound
    path = _source_of(paths, kind)
    taken_for: look_arrays.Kind | None = None if kind is None else kind.value
    try:
        taken_for = taken_for or look_arrays.kind_of(path)
        if taken_for == "images":
            found = look.images_found(paths[0])
        else:
            found = look_arrays.arrays_found(path, taken_for)
    except penstock.PenstockError as error:
        raise _said_with_kind(error, kind, taken_for) from None
    console = Console(highlight=False)
    for table in found.tables():
        console.print(table)
    typer.echo(found.summary())
    for file, reason in found.broken[:10]:
        typer.echo(f"{file}: {reason}")
    if kind is None and taken_for == "files":
        typer.echo("Each file is taken for one sample: --kind shards counts rows instead.")


def main() -> None:
    """Run the `penstock` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may be of any bytes
    warnings.formatwarning = lambda message, *_: f"penstock: {message}\n"  # of no line of the user's
    app()


if __name__ == "__main__":
    main()
