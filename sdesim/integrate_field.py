"""The time loop of fields: steps between save times, in blocks of members over threads.

Between two save times the step is the save interval divided by the smallest whole number that keeps it ≤ dt. Steps are
counted from the start of the run, so no two steps share noise, and noise belongs to (seed, member) alone: any cut of
the members into blocks gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdesim import fourier
from sdesim.calculus import evaluate
from sdesim.kernels.field_reference import Sheet
from sdesim.methods.field_control import FieldControl
from sdesim.methods.method import Method
from sdesim.methods.modal import ModalModel, split
from sdesim.models.pde import PDE, entries

if TYPE_CHECKING:
    from sdesim.kernels.spectral_trace import Program

SHARED_CELLS = 1 << 18  # a transform of fewer cells takes less time than handing it to threads
BLOCK_VALUES = 1 << 16  # cells times members of a block: ½ MB for each array, so that a few stay in the cache


@dataclass(frozen=True)
class FieldResult:
    """States (times, states, members, *space), status (members,) int8 (0 ok, 1 not finite), notes about the run."""

    states: NDArray[np.float64]
    status: NDArray[np.int8]
    notes: Mapping[str, str | float | int] = field(default_factory=dict)


def integrate(model: PDE, method: Method, initial: NDArray[np.float64], parameters: Mapping[str, Any],
              times: NDArray[np.float64], dt: float | None, *, seed: int, members: NDArray[np.int64],
              backend: str = "kernel", threads: int = 1, sheet: Sheet | None = None,
              control: FieldControl | None = None) -> FieldResult:
    """Integrate an ensemble of fields.

    Args:
        model: the PDE.
        method: a method of kind "stencil", "implicit" or "spectral".
        initial: states at ``times[0]``, (states, members, *space).
        parameters: overrides of the model's: numbers, or arrays (members,).
        times: save times, rising; the first is the start.
        dt: largest step; None leaves it to the method (the exact propagators take one step to each save time).
        seed: of the noise.
        members: numbers of the members.
        backend: "kernel" (fused, generated), "numpy" (the reference), whose bits are equal, or "cuda" (a GPU).
        threads: blocks of members that run at the same time.
        control: tolerances, by which a method that estimates its error chooses the steps.
        sheet: half the steps, or cells of another grid, whose noise this run shares (by the reference where there is).

    Raises:
        ValueError: shapes that do not fit, times that do not rise, dt ≤ 0 or missing, a model that the method cannot
            integrate.
    """
    members = np.ascontiguousarray(members, dtype=np.int64)
    times = np.ascontiguousarray(times, dtype=np.float64)
    values = _parameters(model, parameters, members.size)
    _check(model, initial, times, dt, members)
    if method.kind in ("stencil", "implicit", "reference"):
        from sdesim.stencil_integrate import stencil_run

        return FieldResult(*stencil_run(model, method.name, initial, values, times, dt, seed=seed, members=members,
                                        backend=backend, threads=threads, sheet=sheet, control=control))
    if method.kind != "spectral":
        raise ValueError(f"{method.name} is a method of kind {method.kind!r}; fields need 'stencil', 'implicit', "
                         "'spectral' or 'reference'")
    if backend not in ("kernel", "numpy", "cuda"):
        raise ValueError(f"the spectral methods run with backend 'kernel', 'numpy' or 'cuda'; got {backend!r}")
    if sheet is not None and model.noise:
        backend = "numpy"
    return _spectral_run(model, method, initial, values, times, dt, seed=seed, members=members, backend=backend,
                         threads=threads, sheet=sheet or Sheet())


def steps_between(start: float, end: float, dt: float | None) -> int:
    """The smallest number of equal steps, none longer than dt (to a rounding error), from start to end.

    >>> steps_between(0.0, 1.0, 0.3), steps_between(0.0, 0.3, 0.1), steps_between(0.0, 1.0, None)
    (4, 3, 1)
    """
    return 1 if dt is None else max(1, math.ceil((end - start) / dt - 1e-9))


def modal_form(model: PDE, method: Method) -> ModalModel:
    """The modal form that a spectral method asks for; ValueError when the model or its noise does not fit."""
    if model.noise and "additive" not in method.noise:
        raise ValueError(f"{method.name} takes no noise, and this model has some: choose exact, exponential_euler or "
                         "euler_maruyama")
    linear = method.name.startswith("exact")
    scheme = "finite-volume" if method.name == "exact_fv" else "continuous"
    return split(model, linear_reaction=linear, scheme=scheme)


@lru_cache(maxsize=8)
def _program(model: PDE, method: Method) -> Program:
    """The traced program; kept for the next run of the same model."""
    from sdesim.kernels.spectral_trace import trace

    return trace(method, modal_form(model, method))


def _spectral_run(model: PDE, method: Method, initial: NDArray[np.float64], parameters: dict[str, Any],
                  times: NDArray[np.float64], dt: float | None, *, seed: int, members: NDArray[np.int64],
                  backend: str, threads: int, sheet: Sheet) -> FieldResult:
    if dt is None and not method.name.startswith("exact"):
        raise ValueError(f"{method.name} needs a step: give dt")
    program = None if backend == "numpy" else _program(model, method)
    form = modal_form(model, method) if program is None else program.form
    _check_diffusivity(model, parameters, members)
    machine, library, most = _machine(backend)
    threads = 1 if backend == "cuda" else threads
    block = max(1, min(most // model.grid.size, -(-members.size // threads)))
    cuts = [slice(first, min(first + block, members.size)) for first in range(0, members.size, block)]
    states = np.empty((times.size, *initial.shape))
    # few large blocks: threads share out the lines of their transforms, each line the same bits
    workers = max(1, threads // len(cuts)) if model.grid.size >= SHARED_CELLS else 1

    def run(cut: slice) -> None:
        from sdesim.kernels.spectral_run import Fused, Reference

        with np.errstate(all="ignore"), fourier.shared(workers):
            own = {name: value[cut] if np.ndim(value) else value for name, value in parameters.items()}
            lifts = lift_values(form, own)
            u = [transform.forward(initial[i, cut] - lifts[i]) for i, transform in enumerate(form.transforms)]
            stepper = (Reference(method, form, u, own, seed, members[cut], sheet) if program is None else
                       Fused(program, u, own, seed, members[cut], machine))
            states[0, :, cut] = initial[:, cut]
            _advance(stepper, form, times, dt, lifts, states[:, :, cut], 2 if sheet.halves else 1)

    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        for _ in pool.map(run, cuts):
            pass
    finite = _finite(states)
    steps = sum(steps_between(a, b, dt) for a, b in zip(times[:-1], times[1:]))
    return FieldResult(states, np.where(finite, 0, 1).astype(np.int8), {
        "discretisation": "finite-volume eigenvalues" if method.name == "exact_fv" else "spectral", "steps": steps,
        "fft": library})


def _machine(backend: str) -> tuple[Any, str, int]:
    """Where fused runs are, the library that transforms there, and most values of an array of a block."""
    if backend != "cuda":
        return None, fourier.version(), BLOCK_VALUES
    from sdesim.kernels.spectral_device import VALUES, Device, cupy

    xp = cupy()
    return Device(xp), f"cuFFT, CuPy {xp.__version__}", VALUES


def _advance(stepper: Any, form: ModalModel, times: NDArray[np.float64], dt: float | None,
             lifts: list[Any], out: NDArray[np.float64], cuts: int) -> None:
    number, last = 0, 0.0
    for save, (start, end) in enumerate(zip(times[:-1], times[1:]), start=1):
        count = cuts * steps_between(start, end, dt)
        h = float(end - start) / count
        # equal but for the rounding of the save times: the same h, so that what depends on h alone is kept
        h = last = last if abs(h - last) <= 1e-12 * h else h
        for k in range(count):
            stepper.step(float(start) + k * h, h, number)
            number += 1
        for i in range(len(form.transforms)):
            stepper.field(i, out[save, i])
            if np.ndim(lifts[i]) or lifts[i]:
                out[save, i] += lifts[i]


def _finite(states: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which members (times, states, members, *space) are finite throughout: a finite sum has finite terms."""
    with np.errstate(all="ignore"):
        whole: NDArray[np.bool_] = np.isfinite(states.sum(axis=(0, 1, *range(3, states.ndim))))
    for k in np.flatnonzero(~whole):
        whole[k] = np.isfinite(states[:, :, k]).all()
    return whole


def lift_values(form: ModalModel, parameters: Mapping[str, Any]) -> list[Any]:
    """ℓ of each state on the grid, for each member where its parameters vary; 0 where the edges hold no value."""
    ones = (1,) * form.model.grid.dimension
    known: dict[Any, Any] = {**form.model.grid.mesh, **{
        name: np.reshape(value, (-1, *ones)) if np.ndim(value) else value for name, value in parameters.items()}}
    return evaluate(form.lifts, known)


def _parameters(model: PDE, given: Mapping[str, Any], members: int) -> dict[str, Any]:
    unknown = sorted(set(given) - {*model.parameters, *model.fields})
    if unknown:
        raise KeyError(f"unknown parameter {unknown[0]!r}; the model has {', '.join(model.parameters) or 'none'}")
    values: dict[str, Any] = {}
    for name, default in model.parameters.items():
        value = np.asarray(given.get(name, default), dtype=np.float64)
        if value.ndim and value.shape != (members,):
            raise ValueError(f"parameter {name} is a number or one number for each of the {members} members; got the "
                             f"shape {value.shape}")
        values[name] = np.ascontiguousarray(value) if value.ndim else float(value)
    for name in model.fields.keys() & given.keys():
        value = values[name] = np.ascontiguousarray(given[name], np.float64)
        if value.shape != (members, *model.grid.shape):
            raise ValueError(f"the coefficient {name} is one field for each of the {members} members, shape "
                             f"{(members, *model.grid.shape)}; got the shape {value.shape}")
    return values


def _check_diffusivity(model: PDE, parameters: Mapping[str, Any], members: NDArray[np.int64]) -> None:
    """Refuse a member whose parameters make a diffusivity negative, or a tensor that is not positive definite."""
    for name, kappa in model.hyperdiffusivity.items():
        sizes = np.broadcast_to(evaluate([kappa], dict(parameters))[0], members.size)
        if not np.all(sizes >= 0.0):
            raise ValueError(f"the hyperdiffusivity of {name} must not be negative; member "
                             f"{members[np.argmin(sizes)]} has {np.min(sizes):g}: change its parameters")
    for name, row in model.diffusivity.items():
        parts = entries(row[name]) if name in row and name not in model.hyperdiffusivity else ()
        if not parts:
            continue
        values = np.broadcast_arrays(*evaluate(parts, dict(parameters)), np.zeros(members.size))[:-1]
        n = math.isqrt(len(values))
        matrices = np.moveaxis(np.reshape(values, (n, n, -1)), -1, 0)
        lowest = np.linalg.eigvalsh(matrices + np.swapaxes(matrices, 1, 2))[:, :1] / 2.0
        bad = np.flatnonzero(np.any(lowest < 0.0, axis=1))
        if bad.size:
            raise ValueError(f"the diffusivity of {name} must not be negative; member {members[bad[0]]} has "
                             f"{lowest[bad[0], 0]:g}: change its parameters")


def _check(model: PDE, initial: NDArray[np.float64], times: NDArray[np.float64], dt: float | None,
           members: NDArray[np.int64]) -> None:
    wanted = (len(model.state), members.size, *model.grid.shape)
    if initial.shape != wanted:
        raise ValueError(f"the initial fields have the shape (states, members, *space) = {wanted}; got "
                         f"{initial.shape}")
    if times.ndim != 1 or not times.size or not np.all(np.isfinite(times)) or np.any(np.diff(times) <= 0.0):
        raise ValueError("times is a rising sequence of finite numbers, the first of them the start")
    if dt is not None and not (math.isfinite(dt) and dt > 0.0):
        raise ValueError(f"dt is a positive number; got {dt!r}")
