"""The command line: ``vaebook record``, ``run``, ``verify``, ``chapters`` and ``data``."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

import vaebook
from vaebook.parameters import ParameterError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Chapters = Annotated[list[str] | None, typer.Argument(metavar="[CHAPTER]...", help="All, if none is named.")]


class PairsCommand(TyperCommand):
    """Reads ``-p NAME VALUE``: Typer has no option that is both a pair and repeatable."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        """Join the two words into one, ``NAME=VALUE``, which is accepted as it is, too."""
        words, joined = iter(args), []
        for word in words:
            joined.append(word)
            if word == "-p" and (name := next(words, None)) is not None:
                value = None if "=" in name else next(words, None)
                joined.append(name if value is None else f"{name}={value}")
        return super().parse_args(ctx, joined)


def show_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"vaebook {vaebook.__version__}")
        raise typer.Exit


@app.callback()
def commands(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A verified report on autoencoders and variational autoencoders.

    Chapters are written in book/text/NAME.md; book/NAME.ipynb is the record of one run.
    """


@app.command()
def record(names: Chapters = None) -> None:
    """Execute chapters with their default parameters and replace their records."""
    from vaebook import notebooks

    book = notebooks.find_book()
    names = names or notebooks.chapters(book)
    for name in names:
        notebooks.text_path(book, name)  # all are known before the first is recorded
    for name in names:
        typer.echo(f"recording {name}")
        typer.echo(f"wrote {notebooks.record(book, name)}")


@app.command(cls=PairsCommand)
def run(
    chapter: Annotated[str, typer.Argument(help="The chapter to run.")],
    values: Annotated[
        list[str] | None,
        typer.Option("-p", metavar="NAME VALUE", help="Set a parameter; can be repeated."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", show_default="runs/CHAPTER-VALUES.ipynb", help="The notebook to write."
        ),
    ] = None,
    parameters: Annotated[bool, typer.Option("--parameters", help="List the chapter's parameters.")] = False,
) -> None:
    """Run a chapter with other parameters, for example: vaebook run vae -p latent_dim 2 -p epochs 1."""
    from vaebook import notebooks

    book = notebooks.find_book()
    if parameters:
        for parameter in notebooks.schema(notebooks.read_text(notebooks.text_path(book, chapter))):
            typer.echo(parameter)
        return
    pairs = {}
    for pair in values or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ParameterError(f"parameter {name!r} needs a value: -p {name} VALUE")
        pairs[name] = value
    typer.echo(f"wrote {notebooks.run(book, chapter, pairs, output)}")


@app.command()
def verify(
    names: Chapters = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that have not changed.")] = False,
) -> None:
    """Execute chapters again and compare every output with the record.

    Without names, only the chapters that changed since they were last verified.
    """
    from vaebook import notebooks

    failed = []
    for verdict in notebooks.verify(notebooks.find_book(), names or [], everything=everything):
        if verdict.state == "failed":
            failed.append(verdict.name)
            typer.echo(f"{verdict.detail}\n")
        typer.echo(f"{verdict.name}: {'FAILED, see above' if verdict.state == 'failed' else verdict.detail}")
    if failed:
        typer.echo(f"vaebook: {len(failed)} failed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


@app.command()
def chapters() -> None:
    """List the chapters in the order of the book."""
    from vaebook import notebooks

    book = notebooks.find_book()
    names = notebooks.chapters(book)
    width = max(map(len, names), default=0)
    for name in names:
        typer.echo(f"{name:{width}}  {notebooks.title(notebooks.read_text(notebooks.text_path(book, name)))}")


@app.command()
def data(names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None) -> None:
    """Fetch data sets by name; without a name, list them and where they lie."""
    from vaebook import data as sets

    for name in names or []:
        try:
            typer.echo(sets.fetch(name))
        except ValueError as error:
            typer.echo(f"vaebook: {error}", err=True)
            raise typer.Exit(2) from error
    if not names:
        for row in sets.status():
            size = f"{row.bytes / 1e6:.1f} MB" if row.bytes else ""
            typer.echo(f"{row.name:16}{'present' if row.present else 'absent':10}{size:10}{row.folder}")
            typer.echo(f"{'':16}{row.description}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error of ours is one message and exit code 2 for a mistaken request, else 1."""
    try:
        app(None if arguments is None else list(arguments))
    except Exception as error:
        if not type(error).__module__.startswith("vaebook."):
            raise
        typer.echo(f"vaebook: {error}", err=True)
        sys.exit(2 if isinstance(error, ValueError) else 1)


if __name__ == "__main__":
    main()
