"""The command `sdesim`: the library's doors from a shell.

    sdesim simulate run.toml -o run.nc        sdesim rerun run.nc --members 41 -o one.nc
    sdesim equations [run.toml | run.nc]      sdesim methods

Packages above this one add commands through the entry-point group `sdesim.commands`: the entry's name is the command,
its object a function `register(subparsers)` that adds a parser of this name and sets its default `run`, a function of
the parsed arguments that may return an exit code. Only the command that was asked for is loaded.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import xarray as xr

GROUP = "sdesim.commands"
_USER_ERRORS = (ValueError, TypeError, LookupError, OSError, ImportError, ArithmeticError, MemoryError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 2 for a mistake in what was asked, 130 if interrupted.

    A mistake is one line on stderr; `--traceback` shows where it was found.

    >>> main(["simulate", "nowhere.toml", "-o", "run.nc"])
    2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    trace = "--traceback" in arguments
    try:
        parsed = _parser(arguments).parse_args(arguments)
        code = parsed.run(parsed)
    except KeyboardInterrupt:
        print("sdesim: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        return 0
    except _USER_ERRORS as error:
        if trace:
            raise
        print(f"sdesim: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return int(code or 0)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line like every other, instead of the usage and an exit."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    from sdesim.datasets import version

    parser = _Parser(prog="sdesim", description="Physical diffusion processes, and their surrogates.")
    parser.add_argument("--version", action="version", version=f"sdesim {version()}")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error was found")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for register in (_register_simulate, _register_rerun, _register_equations, _register_methods):
        register(subparsers)
    asked = next((word for word in arguments if not word.startswith("-")), None)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name == asked:
            _load(entry)(subparsers)
        else:
            subparsers.add_parser(entry.name, help=f"from the package {entry.value.split('.')[0]}", add_help=False)
    return parser


def _load(entry: EntryPoint) -> Callable[[Any], None]:
    try:
        register: Callable[[Any], None] = entry.load()
    except (ImportError, AttributeError) as error:
        raise ImportError(f"the command {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error
    return register


def _register_simulate(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "simulate", help="run the ensemble that a TOML or JSON file describes", epilog="see sdesim.config for the file"
    )
    parser.add_argument("config", type=Path, help="the description of the run, .toml or .json")
    _add_output(parser)
    parser.set_defaults(run=_simulate)


def _simulate(arguments: argparse.Namespace) -> None:
    from sdesim import config
    from sdesim.simulation import simulate

    run = config.read(arguments.config)
    accepted = inspect.signature(simulate).parameters
    unknown = [name for name in run if name not in accepted]
    if unknown:
        raise ValueError(f"run.{unknown[0]} is not known; known here: {', '.join(accepted)}")
    run.setdefault("progress", sys.stderr.isatty() and not arguments.quiet)
    _write(simulate(**run), arguments)


def _register_rerun(subparsers: Any) -> None:
    parser = subparsers.add_parser("rerun", help="make a file's data again, from its own provenance")
    parser.add_argument("file", type=Path, help="a .nc or .zarr that sdesim wrote")
    parser.add_argument("--members", type=_members, help="which members: 41, 0:64 or 1,5,9 (default: the file's)")
    _add_output(parser)
    parser.set_defaults(run=_rerun)


def _rerun(arguments: argparse.Namespace) -> None:
    from sdesim.replay import rerun

    progress = sys.stderr.isatty() and not arguments.quiet
    _write(rerun(arguments.file, members=arguments.members, progress=progress), arguments)


def _register_equations(subparsers: Any) -> None:
    parser = subparsers.add_parser("equations", help="list the catalogue, or show the equations of a run or file")
    parser.add_argument("file", type=Path, nargs="?", help="a .toml or .json run, or a .nc or .zarr that sdesim wrote")
    parser.add_argument("--latex", action="store_true", help="as LaTeX")
    parser.set_defaults(run=_equations)


def _equations(arguments: argparse.Namespace) -> None:
    if arguments.file is None:
        import sdesim.equations as equations

        for name in equations.__all__:
            about = (inspect.getdoc(getattr(equations, name)) or "").split("\n")[0]
            print(f"{name:24} {about}")
        return
    model = _model(arguments.file)
    print(model.to_latex() if arguments.latex else model)


def _model(path: Path) -> Any:
    if path.suffix in (".toml", ".json"):
        from sdesim import config

        return config.read(path)["model"]
    from sdesim import storage
    from sdesim.provenance import call_of

    with storage.open(path) as ds:
        return call_of(ds)["model"]


def _register_methods(subparsers: Any) -> None:
    parser = subparsers.add_parser("methods", help="list the time-stepping methods")
    parser.set_defaults(run=_methods)


def _methods(_: argparse.Namespace) -> None:
    from sdesim.methods import rows
    from sdesim.methods.adaptive import adapts

    def order(value: float | None) -> str:
        return "–" if value is None else f"{value:g}"

    lines = [("name", "kind", "order", "strong", "weak", "noise", "adaptive", "source")]  # the widest type of noise
    for row in rows():
        orders = (order(row.order), order(row.strong), order(row.weak))
        lines.append((row.name, row.kind, *orders, row.noise[-1], (adapts(row) or ("–",))[-1], row.source))
    widths = [max(len(line[i]) for line in lines) for i in range(7)]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[-1], sep="  ")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, help="where to write: .nc or .zarr")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def _write(ds: xr.Dataset, arguments: argparse.Namespace) -> None:
    from sdesim import storage

    path = storage.save(ds, arguments.output)
    sizes = ", ".join(f"{name} {size}" for name, size in ds.sizes.items())
    print(f"{path}: {', '.join(map(str, ds.data_vars))} over {sizes}")


def _members(text: str) -> list[int] | range:
    """Member numbers as people write them: 41, 0:64, or 1,5,9.

    >>> _members("0:3"), _members("41"), _members("1,5,9")
    (range(0, 3), [41], [1, 5, 9])
    """
    try:
        if ":" in text:
            start, stop = text.split(":")
            return range(int(start or 0), int(stop))
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"wanted member numbers such as 41, 0:64 or 1,5,9; got {text!r}") from None


def _one_line(error: BaseException) -> str:
    # str(KeyError) quotes its message as if it were only a key
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__
