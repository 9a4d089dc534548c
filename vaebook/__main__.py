"""The command line: ``vaebook record``, ``run``, ``sweep``, ``verify``, ``chapters`` and ``data``."""

import re
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

import vaebook
from vaebook.parameters import ParameterError

# The exit code of a sweep counts failed runs up to the first, and is the second if the sweep itself fails, as
# GNU parallel does.
MOST_COUNTED, NO_SWEEP = 101, 255
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Chapters = Annotated[list[str] | None, typer.Argument(metavar="[CHAPTER]...", help="All, if none is named.")]


class RunCommand(TyperCommand):
    """Reads ``-p NAME VALUE``, and lists the parameters of the chapter that ``--help`` is asked about.

    Typer has no option that is both a pair and repeatable, and no help that depends on an argument.
    """

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        """Join the two words into one, ``NAME=VALUE``, which is accepted as it is, too."""
        words, joined = iter(args), []
        for word in words:
            joined.append(word)
            if word == "-p" and (name := next(words, None)) is not None:
                value = None if "=" in name else next(words, None)
                joined.append(name if value is None else f"{name}={value}")
        if "--help" in joined:  # it ends the run before any other word is looked at
            others = [word for word in joined if word != "--help"]
            ctx.meta["chapter"] = self.make_parser(ctx).parse_args(others)[0].get("chapter")
        return super().parse_args(ctx, joined)

    def get_help(self, ctx) -> str:
        """The help of the command, and the parameters of the chapter."""
        chapter = ctx.meta.get("chapter")
        parameters = parameters_of(chapter) if isinstance(chapter, str) else ""
        return super().get_help(ctx) + parameters


class SweepCommand(RunCommand):
    """Reads ``-p NAME VALUE VALUE ...``, as many values as there are."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        """Make each value a pair of its own, ``-p NAME=VALUE``; they end where the next option begins."""
        words, pairs = deque(args), []
        while words:
            pairs.append(words.popleft())
            if pairs[-1] == "-p" and words:
                name, *values = words.popleft().split("=", 1)
                while words and not re.match("--?[A-Za-z]", words[0]):
                    values.append(words.popleft())
                if not values:
                    raise ParameterError(f"parameter {name!r} needs values: -p {name} VALUE VALUE ...")
                pairs[-1:] = [word for value in values for word in ("-p", f"{name}={value}")]
        return super().parse_args(ctx, pairs)


def parameters_of(chapter: str) -> str:
    """The parameters of a chapter with their types, defaults and comments, as lines of text."""
    from vaebook import chapters

    schema = chapters.schema(chapters.read_text(chapters.text_path(chapters.find_book(), chapter)))
    return "\n".join([f"Parameters of {chapter}:", *(f"  {line}" for line in schema or ["none"])])


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
def record(
    names: Chapters = None,
    prose: Annotated[
        bool,
        typer.Option("--prose", help="Run nothing; keep the outputs, where only the prose has changed."),
    ] = False,
) -> None:
    """Execute chapters with their default parameters and replace their records."""
    from vaebook import chapters, notebooks

    book = chapters.find_book()
    names = names or chapters.names(book)
    for name in names:
        chapters.text_path(book, name)  # all are known before the first is recorded
    for name in sorted(
        names, key=chapters.front_page(book).__eq__
    ):  # last, for it counts what the others verify
        typer.echo(f"recording {name}")
        typer.echo(f"wrote {(notebooks.record_prose if prose else notebooks.record)(book, name)}")


@app.command(cls=RunCommand)
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
) -> None:
    """Run a chapter with other parameters, for example: vaebook run vae -p latent_dim 2 -p epochs 1.

    With --help behind the name of a chapter, the parameters of that chapter are listed.
    """
    from vaebook import chapters, notebooks

    pairs = {}
    for pair in values or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ParameterError(f"parameter {name!r} needs a value: -p {name} VALUE")
        pairs[name] = value
    typer.echo(f"wrote {notebooks.run(chapters.find_book(), chapter, pairs, output)}")


@app.command(cls=SweepCommand)
def sweep(
    chapter: Annotated[str, typer.Argument(help="The chapter to run.")],
    values: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            metavar="NAME VALUE...",
            help="Values of a parameter; 0:5 are the integers 0 to 4, 0:10:2 every second one below 10.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, show_default="all cores at work", help="Runs at a time on this machine."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, show_default="its share of the cores", help="Threads of each run."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A Dask scheduler, such as tcp://10.0.0.1:8786, to run there."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", show_default="runs/sweep-CHAPTER", help="The folder to write into."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run nothing; list the runs.")] = False,
) -> None:
    """Run a chapter with every combination of values: vaebook sweep vae -p latent_dim 2 10 20 -p seed 0:5.

    The same command again runs only what is missing. The exit code says how many runs failed, 101 for
    more than a hundred; it is 255 if the sweep cannot start or go on. With --help behind the name of a
    chapter, its parameters are listed.
    """
    from vaebook import chapters, sweep, sweep_plan

    if workers and scheduler:
        raise ParameterError("--workers is for this machine, and --scheduler for others: give one of them")
    words = {}
    for name, _, value in (pair.partition("=") for pair in values or []):
        words.setdefault(name, []).append(value)
    book = chapters.find_book()
    plan = sweep_plan.plan(book, chapter, words)
    folder = sweep.folder_of(book, chapter, output)
    if dry_run:
        typer.echo(as_table(sweep.listing(plan, folder)))
        options = {"workers": workers, "threads": threads, "scheduler": scheduler}
        typer.echo(sweep.estimate(plan, folder, book, **options))
        return
    try:
        rows = sweep.sweep(plan, folder, workers=workers, threads=threads, scheduler=scheduler, progress=True)
    except KeyboardInterrupt:
        typer.echo(f"vaebook: interrupted; the same command goes on from what is in {folder}", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"wrote {folder / 'index.html'}")
    if failed := [row for row in rows if row.status == "failed"]:
        typer.echo(f"vaebook: {len(failed)} of {len(rows)} runs failed; the page tells why", err=True)
        raise typer.Exit(min(len(failed), MOST_COUNTED))


@app.command()
def verify(
    names: Chapters = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that have not changed.")] = False,
    report: Annotated[
        bool,
        typer.Option("--report", help="Run nothing; list the records and what was verified."),
    ] = False,
) -> None:
    """Execute chapters again and compare every output with the record.

    Without names, only the chapters that changed since they were last verified.
    """
    from vaebook import chapters
    from vaebook.verify import report as rows
    from vaebook.verify import verify as run_again

    book = chapters.find_book()
    if report:
        typer.echo(as_table(rows(book, names or [])))
        return
    failed = []
    for verdict in run_again(book, names or [], everything=everything):
        if verdict.state == "failed":
            failed.append(verdict.name)
            typer.echo(f"{verdict.detail}\n")
        typer.echo(f"{verdict.name}: {'FAILED, see above' if verdict.state == 'failed' else verdict.detail}")
    if failed:
        typer.echo(f"vaebook: {len(failed)} failed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def as_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows of the same columns as aligned lines of text, the names of the columns first."""
    columns = list(rows[0])
    lines = [columns, *([row[column] for column in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


@app.command()
def chapters() -> None:
    """List the chapters in the order of the book."""
    from vaebook.chapters import find_book, names, read_text, text_path, title

    book = find_book()
    width = max(map(len, names(book)), default=0)
    for name in names(book):
        typer.echo(f"{name:{width}}  {title(read_text(text_path(book, name)))}")


@app.command()
def data(names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None) -> None:
    """Fetch data sets by name; without a name, list them and where they lie.

    The exit code is 3 where no way to a data set is left.
    """
    from vaebook import data as sets
    from vaebook.needs import OUT_OF_REACH

    for name in names or []:
        try:
            typer.echo(sets.fetch(name))
        except (ValueError, sets.DataUnavailable) as error:
            typer.echo(f"vaebook: {error}", err=True)
            raise typer.Exit(2 if isinstance(error, ValueError) else OUT_OF_REACH) from error
    if not names:
        for row in sets.status():
            size = f"{row.bytes / 1e6:.1f} MB" if row.bytes else ""
            typer.echo(f"{row.name:16}{'present' if row.present else 'absent':10}{size:10}{row.folder}")
            typer.echo(f"{'':16}{row.description}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error of ours is one message and exit code 2 for a mistaken request, else 1.

    The exit code of a sweep counts runs, so it is another one there.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        app(words)
    except Exception as error:
        if not type(error).__module__.startswith("vaebook."):
            raise
        typer.echo(f"vaebook: {error}", err=True)
        mistaken = isinstance(error, ValueError)
        sys.exit(NO_SWEEP if words[:1] == ["sweep"] else 2 if mistaken else 1)


if __name__ == "__main__":
    main()
