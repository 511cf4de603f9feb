"""The learned layer's commands of `sdesim`, found through the entry-point group `sdesim.commands`.

    sdesim train heat.nc -o heat.surrogate --condition diffusivity
    sdesim sample heat.surrogate -o synthetic.nc --members 64 --condition diffusivity=0.001
    sdesim evaluate held_out.nc synthetic.nc --training heat.nc -o scores.nc --report report.html
    sdesim demo --out demo

Each `register_*` adds one parser; what it needs is imported when it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Names of the lists that `--condition` and `--variables` take are separated by commas, as in CDO and NCO.
EVERY_SCORE = ("energy_score", "crps", "patch_wasserstein", "pixel_qq", "gradient_qq", "mean_error", "spread_error")


def register_train(subparsers: Any) -> None:
    """Add `sdesim train`.

    >>> parser = argparse.ArgumentParser()
    >>> register_train(parser.add_subparsers())
    >>> parser.parse_args(["train", "heat.nc", "-o", "heat.surrogate", "--condition", "D,q"]).condition
    ['D', 'q']
    """
    parser = subparsers.add_parser("train", help="learn a generative surrogate of an ensemble in a file")
    parser.add_argument("data", type=Path, help="ensemble, .nc or .zarr")
    parser.add_argument("-o", "--output", type=Path, required=True, help="model file to write")
    parser.add_argument("--variables", type=_names, default=None, help="fields to learn, a,b,...; default: all")
    parser.add_argument("--condition", type=_names, default=[], help="parameters to condition on, a,b,...")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, default=None, help="training steps (repeatable)")
    budget.add_argument("--seconds", type=float, default=None, help="training time")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=_train)


def register_sample(subparsers: Any) -> None:
    """Add `sdesim sample`.

    >>> parser = argparse.ArgumentParser()
    >>> register_sample(parser.add_subparsers())
    >>> parser.parse_args(["sample", "m.surrogate", "-o", "s.nc", "--condition", "D=0.1"]).condition
    [('D', 0.1)]
    """
    parser = subparsers.add_parser("sample", help="draw synthetic members from a surrogate")
    parser.add_argument("model", type=Path, help="model file written by `sdesim train`")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write, .nc or .zarr")
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--condition", type=_setting, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=_sample)


def register_evaluate(subparsers: Any) -> None:
    """Add `sdesim evaluate`.

    >>> parser = argparse.ArgumentParser()
    >>> register_evaluate(parser.add_subparsers())
    >>> parser.parse_args(["evaluate", "held.nc", "made.nc", "-o", "scores.nc"]).synthetic
    PosixPath('made.nc')
    """
    parser = subparsers.add_parser("evaluate", help="score synthetic members against a held-out ensemble")
    parser.add_argument("reference", type=Path, help="held-out ensemble, .nc or .zarr")
    parser.add_argument("synthetic", type=Path, help="synthetic ensemble, .nc or .zarr")
    parser.add_argument("--training", type=Path, default=None, help="training ensemble, for the memorisation check")
    parser.add_argument("--variables", type=_names, default=None, help="fields to score, a,b,...; default: all")
    parser.add_argument("-o", "--output", type=Path, default=None, help="file for the scores, .nc or .zarr")
    parser.add_argument("--report", type=Path, default=None, help="page to write, .html")
    parser.set_defaults(run=_evaluate)


def register_demo(subparsers: Any) -> None:
    """Add `sdesim demo`.

    >>> parser = argparse.ArgumentParser()
    >>> register_demo(parser.add_subparsers())
    >>> parser.parse_args(["demo"]).out
    PosixPath('sdesim-demo')
    """
    parser = subparsers.add_parser("demo", help="simulate an ensemble, learn it, draw synthetic fields, report")
    parser.add_argument("--out", type=Path, default=Path("sdesim-demo"), help="folder for the files")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=_demo)


def _train(given: argparse.Namespace) -> int:
    from sdesim import storage
    from surrogates.alignment import shared_variables
    from surrogates.surrogate import Surrogate

    ds = storage.open(given.data).load()
    variables = given.variables if given.variables is not None else shared_variables(ds, ds)
    model = Surrogate(variables, condition=given.condition)
    model.fit(ds, seed=given.seed, steps=given.steps, seconds=given.seconds, progress=True)
    print(f"{model.verdict_}\nmodel: {model.save(given.output)}")
    return 0


def _sample(given: argparse.Namespace) -> int:
    from sdesim import storage
    from surrogates.loading import load
    from surrogates.study import draw

    synthetic = draw(load(given.model), given.members, dict(given.condition), seed=given.seed)
    print(f"synthetic members: {storage.save(synthetic, given.output)}")
    return 0


def _evaluate(given: argparse.Namespace) -> int:
    from sdesim import storage
    from surrogates.report import report
    from surrogates.scores import compare

    reference, synthetic = storage.open(given.reference).load(), storage.open(given.synthetic).load()
    training = None if given.training is None else storage.open(given.training).load()
    scores = compare(reference, {"surrogate": synthetic}, training=training, variables=given.variables)
    for name in EVERY_SCORE:
        values = scores[name].values.ravel()
        print(f"{name:20s} {'  '.join(f'{v:.4g}' for v in values)}")
    if given.output is not None:
        print(f"scores: {storage.save(scores, given.output)}")
    if given.report is not None:
        print(f"report: {report(reference, synthetic, given.report, scores=scores)}")
    return 0


def _demo(given: argparse.Namespace) -> int:
    from surrogates.demo import run

    run(given.out, seed=given.seed)
    return 0


def _names(text: str) -> Sequence[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"wanted names separated by commas, got {text!r}")
    return names


def _setting(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"wanted NAME=VALUE with a number, got {text!r}") from None
