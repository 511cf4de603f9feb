"""Integrates a field model with a finite-volume stencil and an explicit or stabilised method.

Everything that can be wrong is found before the first step: shapes, a method that does not know the model's noise, and
a step beyond the stability limit, which follows from the eigenvalue bounds of the discrete model (`field_bounds`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdesim.calculus import free_symbols, walk
from sdesim.coefficients import of_member
from sdesim.kernels.field_bounds import check_diffusivity, peclet, spectra
from sdesim.kernels.field_following import followed
from sdesim.kernels.field_noise import Drive
from sdesim.kernels.field_plan import Programs, Steps, ceiling, options_of, plan, remembering
from sdesim.kernels.field_reference import Reference, Sheet, run_member
from sdesim.kernels.field_rough import first_steps
from sdesim.kernels.field_rows import slope_sum
from sdesim.kernels.field_static import static_arrays
from sdesim.methods.field import FIELD_METHODS, FieldMethod, Spectrum
from sdesim.methods.field_control import FieldControl
from sdesim.methods.field_implicit import AFFINE, ALTERNATING, IMPLICIT_METHODS
from sdesim.methods.field_scipy import SCIPY_METHODS
from sdesim.models.pde import PDE
from sdesim.stencils import Stencil, discretise

Array = NDArray[np.float64]
_GROUP_VALUES = 1 << 21  # members times cells whose slopes are looked at together


def stencil_run(
    model: PDE,
    method: str,
    initial: ArrayLike,
    parameters: Mapping[str, Any] | None,
    times: ArrayLike,
    dt: float | None = None,
    *,
    seed: int = 0,
    members: ArrayLike,
    backend: str = "kernel",
    threads: int = 1,
    advection: str | None = None,
    sheet: Sheet | None = None,
    control: FieldControl | None = None,
) -> tuple[Array, NDArray[np.int8], dict[str, Any]]:
    """Integrate an ensemble of fields.

    Args:
        model: the equations.
        method: a name in `sdesim.methods.field.FIELD_METHODS` or `sdesim.methods.field_implicit.IMPLICIT_METHODS`.
        initial: (states, members, *space), space in the order z, y, x.
        parameters: overrides of the model's, numbers or arrays over the members.
        times: save times, rising; the initial state is that at the first.
        dt: ceiling of the step; each save interval is cut into equal steps. None chooses one for each member.
        seed: key of the noise.
        members: the members' numbers, on which (with the seed) their noise depends.
        backend: "kernel" (generated machine code), "cuda" (the same on a GPU, by CuPy) or "numpy" (the reference);
            they give the same bits.
        threads: threads over which blocks of members are spread.
        advection: in place of the model's: see `sdesim.models.pde.PDE`.
        sheet: half the steps, or cells of another grid, whose noise this run shares; by the reference where there is
            noise.
        control: tolerances, by which each member then chooses its steps; dt is the longest (a tenth of the span).

    Returns:
        states (times, states, members, *space), status (members,) with 1 for a member that is not finite at some
        save time (its states are NaN from there on), and notes on what was chosen.

    Raises:
        ValueError: an unknown method or backend, noise that the method does not know, wrong shapes, times that do not
            rise, dt ≤ 0, a step beyond the stability limit, coefficients that are not finite, a negative diffusivity.

    >>> from sdesim.grids import Grid
    >>> model = PDE(Grid(x=(0.0, 1.0, 8)), diffusivity=1.0)
    >>> u = np.zeros((1, 1, 8)); u[..., 4] = 1.0
    >>> states, status, notes = stencil_run(model, "rkl2", u, None, [0.0, 0.1, 1.0], members=[0])
    >>> states.shape, bool(abs(states[-1].mean() - 0.125) < 1e-12)
    ((3, 1, 1, 8), True)
    """
    chosen = _method(model, method)
    if backend not in _BACKENDS:
        raise ValueError(f"backend is one of {', '.join(_BACKENDS)}; got {backend!r}")
    if backend == "cuda" and chosen.kind != "stencil":
        raise ValueError(f'{method} has no CUDA source: take one of {", ".join(FIELD_METHODS)}, or device="cpu"')
    numbers = _members(members)
    start = _initial(model, initial, len(numbers))
    clock = _times(times, dt)
    values = _parameters(model, parameters, len(numbers))
    stencil = _discretise(model, advection, float(clock[0]), chosen)
    bounds = _spectra(stencil, values, start, clock)
    if control is not None or chosen.kind == "reference":
        return followed(stencil, chosen, values, bounds, _looked(stencil, clock), start, clock, dt, numbers, control,
                        backend, threads)
    if chosen.kind == "implicit":
        return _implicit(stencil, chosen, values, bounds, start, clock, dt, numbers, seed, threads, sheet)
    first = [None] * len(bounds) if dt is not None else first_steps(stencil, chosen, values, start, clock, bounds)
    plans = remembering(stencil, [plan(chosen, s, clock.tolist(), dt, _cuts(sheet), h) for s, h in zip(bounds, first)])
    states = np.empty((len(clock), len(model.state), len(numbers), *model.grid.shape))
    states[0] = start
    status = np.zeros(len(numbers), np.int8)
    if len(clock) > 1 and stencil.noise and sheet is not None:
        status = _reference(stencil, chosen, values, plans, start, numbers, seed, threads, states[1:], sheet)
    elif len(clock) > 1:
        status = _BACKENDS[backend](stencil, chosen, values, plans, start, numbers, seed, threads, states[1:])
    return states, status, _notes(stencil, chosen, plans, bounds, dt)


def _implicit(stencil: Stencil, method: FieldMethod, parameters: Mapping[str, Any], bounds: list[Spectrum],
              start: Array, clock: Array, dt: float | None, members: NDArray[np.int64], seed: int,
              threads: int, sheet: Sheet | None) -> tuple[Array, NDArray[np.int8], dict[str, str | float | int]]:
    """The implicit methods: whole arrays, and machine code that has the bits of its NumPy reference."""
    from sdesim.kernels.implicit_directions import directions
    from sdesim.kernels.implicit_operator import split
    from sdesim.kernels.implicit_run import run

    parts = (directions if method.name in ALTERNATING else split)(stencil, method.name)
    if "transport" in parts.terms:
        bounds = [replace(b, advection=0.0, drift=0.0) for b in bounds]
    plans = [plan(method, spectrum, clock.tolist(), dt, _cuts(sheet)) for spectrum in bounds]
    states = np.empty((len(clock), *start.shape))
    states[0] = start
    status, notes = run(parts, method, parameters, plans, start, members, seed, threads, states[1:], sheet)
    return states, status, {**_notes(stencil, method, plans, bounds, dt), **notes}


def steps_of(model: PDE, method: str, initial: Array, parameters: Mapping[str, Any], times: Array) -> Array:
    """The longest step that a method chooses for each member, as `stencil_run` with dt=None does."""
    chosen, clock = _method(model, method), _times(times, None)
    values = _parameters(model, parameters, initial.shape[1])
    stencil = _discretise(model, None, float(clock[0]), chosen)
    return np.array([ceiling(chosen, s, clock.tolist()) for s in _spectra(stencil, values, initial, clock)])


def stiffness(model: PDE, t: float) -> float | None:
    """The largest rate of diffusion with the model's own parameters; None where it depends on more than these."""
    stencil = _discretise(model, None, t, FIELD_METHODS["rkc"])
    sums = [slope_sum(stencil, term) for term in stencil.terms["diffusion"]]
    moves = any(n.op == "load" and n.value[0] in model.state for n in walk(sums))
    if moves or model.fields or not all(isinstance(value, (int, float)) for value in model.parameters.values()):
        return None
    zero = np.zeros((len(model.state), 1, *model.grid.shape))
    return float(spectra(stencil, model.parameters, zero, [t])[0].diffusion)


def check_steps(model: PDE, method: str, initial: Array, parameters: Mapping[str, Any], times: Array,
                dt: float) -> None:
    """Refuse a step that is beyond the stability limit of a method for any member, as `stencil_run` does in turn."""
    chosen, clock = _method(model, method), _times(times, None)
    values = _parameters(model, parameters, initial.shape[1])
    stencil = _discretise(model, None, float(clock[0]), chosen)
    if chosen.kind == "stencil":
        for spectrum in _spectra(stencil, values, initial, clock):
            plan(chosen, spectrum, clock.tolist(), dt)


def central_peclet(model: PDE, method: str, parameters: Mapping[str, Any], initial: Array, t: float) -> float:
    """The largest cell Péclet number where transport will be central, else 0."""
    stencil = _discretise(model, None, t, _method(model, method))
    if stencil.advection != "central":
        return 0.0
    return peclet(stencil, _parameters(model, parameters, initial.shape[1]), initial, t)


def _cuts(sheet: Sheet | None) -> int:
    return 2 if sheet is not None and sheet.halves else 1


def _method(model: PDE, name: str) -> FieldMethod:
    known = {**FIELD_METHODS, **IMPLICIT_METHODS, **SCIPY_METHODS}
    if name not in known:
        raise ValueError(f"there is no stencil method {name!r}; there are {', '.join(known)}")
    method = known[name]
    if model.noise_kind != "none" and model.noise_kind not in method.noise:
        able = [m.name for m in known.values() if model.noise_kind in m.noise]
        raise ValueError(f"the model has {model.noise_kind} noise, which {name} would leave out; "
                         f"use {' or '.join(able)}, or take the noise out of the model")
    return method


def _members(members: ArrayLike) -> NDArray[np.int64]:
    numbers = np.ascontiguousarray(np.atleast_1d(members), np.int64)
    if numbers.ndim != 1 or not numbers.size or numbers.min() < 0 or numbers.max() >= 2**32:
        raise ValueError(f"members are at least one number from 0 to 2³² − 1; got {members!r}")
    return numbers


def _initial(model: PDE, initial: ArrayLike, members: int) -> Array:
    start = np.ascontiguousarray(initial, np.float64)
    wanted = (len(model.state), members, *model.grid.shape)
    if start.shape != wanted:
        raise ValueError(f"the initial fields have shape (states, members, *space) = {wanted}; got {start.shape}")
    if not np.all(np.isfinite(start)):
        raise ValueError("the initial fields must be finite; they hold NaN or infinity")
    return start


def _times(times: ArrayLike, dt: float | None) -> Array:
    clock = np.atleast_1d(np.asarray(times, np.float64))
    if clock.ndim != 1 or not np.all(np.isfinite(clock)) or np.any(np.diff(clock) <= 0.0):
        raise ValueError(f"save times are finite and rising; got {times!r}")
    if dt is not None and not (np.isfinite(dt) and dt > 0.0):
        raise ValueError(f"dt is a positive step or None; got {dt!r}")
    return clock


def _parameters(model: PDE, overrides: Mapping[str, Any] | None, members: int) -> dict[str, Any]:
    values = {**model.parameters, **(overrides or {})}
    unknown = [name for name in values if name not in model.parameters and name not in model.fields]
    if unknown:
        raise ValueError(f"the model has the parameters {', '.join(model.parameters) or 'none'}; "
                         f"got {', '.join(unknown)}")
    result = {}
    for name, value in values.items():
        array = np.asarray(value, np.float64)
        wanted = (members, *model.grid.shape) if name in model.fields else (members,)
        if array.ndim and array.shape != wanted:
            raise ValueError(f"parameter {name} is a number or one value per member, shape {wanted}; "
                             f"got shape {array.shape}")
        result[name] = array if array.ndim else float(array)
    return result


def _discretise(model: PDE, advection: str | None, t: float, method: FieldMethod) -> Stencil:
    """The stencil; transport is limited where the model's own parameters give a cell Péclet number above 2.

    So is a speed that depends on the state; an implicit method that needs an affine model has upwind values there. The
    members' parameters do not enter, so that the choice is the same in every block.
    """
    chosen = advection or model.advection
    if chosen is not None or not model.velocity:
        return discretise(model, chosen or "central")
    sharp = "upwind" if method.name in AFFINE else "limited"
    if model.uses("velocity") & model.variable_names:
        return discretise(model, sharp)
    central = discretise(model, "central")
    zero = np.zeros((len(model.state), 1, *model.grid.shape))
    return central if peclet(central, model.parameters, zero, t) <= 2.0 else discretise(model, sharp)


def _looked(stencil: Stencil, clock: Array) -> list[float]:
    """Times at which to look at what may change with them."""
    timed = "t" in free_symbols(*stencil.right_side, *(node for axes in stencil.ghosts for pair in axes if pair
                                                       for side in pair for node in side))
    return np.linspace(clock[0], clock[-1], 5).tolist() if timed else [float(clock[0])]


def _spectra(stencil: Stencil, parameters: Mapping[str, Any], initial: Array, clock: Array) -> list[Spectrum]:
    looked, result = _looked(stencil, clock), []
    group = max(1, _GROUP_VALUES // stencil.model.grid.size)
    for k in range(0, initial.shape[1], group):
        own = {name: v[k : k + group] if np.ndim(v) else v for name, v in parameters.items()}
        check_diffusivity(stencil, own, initial[:, k : k + group], looked)
        result += spectra(stencil, own, initial[:, k : k + group], looked)
    return result


def _kernel(stencil: Stencil, method: FieldMethod, parameters: Mapping[str, Any], plans: list[list[Steps]],
            initial: Array, members: NDArray[np.int64], seed: int, threads: int, out: Array) -> NDArray[np.int8]:
    from sdesim.kernels.field_run import Job, run

    return run(Job(stencil, parameters, plans, Programs(stencil, method), initial, members, seed, out), threads)


def _reference(stencil: Stencil, method: FieldMethod, parameters: Mapping[str, Any], plans: list[list[Steps]],
               initial: Array, members: NDArray[np.int64], seed: int, threads: int, out: Array,
               sheet: Sheet | None = None) -> NDArray[np.int8]:
    status = np.zeros(len(members), np.int8)
    for m, member in enumerate(members):
        own = of_member(parameters, m)
        statics = {name: values[0] for name, values in static_arrays(stencil, own).items()}
        steps = [(s.start, s.h, s.count, options_of(s)) for s in plans[m]]
        states, fine = run_member(Reference(stencil, own, statics), method.step, initial[:, m], steps,
                                  Drive(stencil, seed, [int(member)], sheet))
        out[:, :, m] = states[[s.saved for s in plans[m]]]
        status[m] = not fine
    return status


def _cuda(stencil: Stencil, method: FieldMethod, parameters: Mapping[str, Any], plans: list[list[Steps]],
          initial: Array, members: NDArray[np.int64], seed: int, threads: int, out: Array) -> NDArray[np.int8]:
    from sdesim.kernels.field_device import device_launch, run_ensemble
    from sdesim.kernels.field_names import Names

    programs, names = Programs(stencil, method), Names.of(stencil, tuple(parameters))
    for steps in {s for p in plans for s in p}:
        programs.number(steps)
    launch, xp = device_launch(stencil, programs, names)
    return run_ensemble(launch, programs, names, dict(parameters), plans, initial, members, seed, out, xp)


_BACKENDS = {"kernel": _kernel, "cuda": _cuda, "numpy": _reference}


def _notes(stencil: Stencil, method: FieldMethod, plans: list[list[Steps]], bounds: list[Spectrum],
           dt: float | None) -> dict[str, str | float | int]:
    steps = [s for p in plans for s in p]
    notes: dict[str, str | float | int] = {"method": method.name, "discretisation": "finite volumes, second order"}
    if stencil.advection != "none":
        notes["advection"] = stencil.advection
    if steps:
        notes["steps"] = max(sum(s.count for s in p) for p in plans)
        notes["dt_largest"] = float(max(s.h for s in steps))
        notes["dt_chosen"] = "by the eigenvalue bound of each member" if dt is None else "given"
        limit = min(method.limit(b) for b in bounds)
        if method.stages is None and limit < 1e100:
            notes["stability_limit"] = limit
        elif method.stages is not None:
            notes["stages"] = max(dict(s.options)["s"] for s in steps)
    return notes
