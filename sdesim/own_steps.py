"""Steps of the exponential methods: each member's own, from the rates of what they do not take exactly.

In a mode that decays at the rate λ = D k² + κ k⁴ an exponential method errs by what N changes in a step, damped by
φ₁(−λh) ≤ 1/(1 + λh). With N′ bounded by r₀ + r₁ k + r₂ k², the derivatives of N by the states, by their slopes and
those of its fluxes, the step keeps

    h (r₀ + max_k (r₁ k + r₂ k²)/(1 + λ_k h)) ≤ c,      k up to π/Δ,

c = ¼ for order 4, 0.02 for order 1, a multistep method's own: for transport h ≈ 4c²D/v² where diffusion is strong, the
Courant number c/π where it is weak; for Cahn and Hilliard's ∇·(f(u)∇u) − κ∇⁴u h ≈ 4c²κ/f². It is the span over a power
of two.

The rates are those of a state, and grow where it does: after a run each save is looked at, and from the one before the
first that asks for a shorter step the member is integrated again with that step (without noise; with noise, whose
numbers belong to steps, the start alone decides). So a member's steps are its own, whoever else is in the ensemble.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import differentiate, evaluate, free_symbols
from sdesim.coefficients import over_space
from sdesim.expressions import Expr, const, is_zero, symbol
from sdesim.grids import Grid
from sdesim.methods.bent import at_rest, bent, fastest_growth
from sdesim.methods.method import Method
from sdesim.models.pde import PDE, entries

Array: TypeAlias = NDArray[np.float64]
Advance: TypeAlias = Callable[[NDArray[np.int64], int, Array, float], "tuple[Array, NDArray[np.int8], dict[str, Any]]"]
_WAVES, _RETRIES = 48, 4
_FINEST = 2.0**-40  # of the span
_RUNAWAY = 10.0, 1.0 / 16.0  # growth of a member from save to save, and of its step, by which it leaves all bounds


def fitting(model: PDE, method: Method, states: Array, parameters: Mapping[str, Any], t: float, span: float) -> Array:
    """The step that each member's state asks for: the span over a power of two.

    Args:
        model: the PDE.
        method: an exponential method.
        states: (states, members, *space); a member that is not finite asks for the shortest step.
        parameters: numbers, or arrays (members,).
        t: the time of the states.
        span: of the run.

    >>> model = PDE(Grid(x=(0, 1, 8)), diffusivity=1.0, reaction="-3*u")
    >>> from sdesim.methods import find
    >>> fitting(model, find("etdrk4", ("spectral",)), np.ones((1, 2, 8)), {}, 0.0, 1.0)
    array([0.0625, 0.0625])
    """
    aim = method.reach or (0.25 if (method.order or 1.0) > 2 else 0.02)
    members = states.shape[1]
    steps = np.full(members, span)
    for name in model.state:
        with np.errstate(all="ignore"):
            own = _steps_of(model, name, environment(model, states, parameters, t), members, aim, span)
        steps = np.minimum(steps, own)
    return steps


def _steps_of(model: PDE, name: str, env: Mapping[Any, Any], members: int, aim: float, span: float) -> Array:
    reaction, slope, bend = rates(model, name, env, members)
    reaction = np.maximum(reaction, 1.0 / span)  # for sources that change with time
    k, decay = _spectrum(model, name, env, members)
    h = np.full(members, span)
    while True:
        damped = ((slope[:, None] * k + bend[:, None] * k * k) / (1.0 + decay * h[:, None])).max(axis=1)
        long = ~(h * (reaction + damped) <= aim) & (h > span * _FINEST)
        if not long.any():
            return h
        h = np.where(long, 0.5 * h, h)


def environment(model: PDE, states: Array, parameters: Mapping[str, Any], t: float) -> dict[Any, Any]:
    """Everything that expressions may name, shaped (members, *space); slopes by differences."""
    env: dict[Any, Any] = {**model.grid.mesh, **model.fields, "t": np.float64(t)}
    env |= {name: over_space(np.atleast_1d(value), model.grid.dimension)
            for name, value in {**model.parameters, **parameters}.items()}
    env |= dict(zip(model.state, states))
    env |= {term.name: term.values(env[name], env) for name, term in model.potential.items()}
    used = frozenset().union(*(model.uses(piece) for piece in ("reaction", "velocity", "diffusivity")))
    for axis, along in enumerate(model.grid.axes):
        for name in map(model.flowing, model.state):
            if f"dd{along}({name})" in used:
                env[f"dd{along}({name})"] = np.gradient(env[name], model.grid.coordinates[along], axis=axis + 1)
    return env


def rates(model: PDE, name: str, env: Mapping[Any, Any], members: int) -> tuple[Array, Array, Array]:
    """r₀, r₁ and r₂ of one state."""
    reaction = model.reaction.get(name, const(0.0))
    slopes = [f"dd{axis}({other})" for axis in model.grid.axes for other in map(model.flowing, model.state)]
    zeroth = [differentiate(reaction, other) for other in model.state]
    first = [differentiate(reaction, slope) for slope in slopes if slope in free_symbols(reaction)]
    second: list[Expr] = []
    if name in model.hyperdiffusivity:
        zeroth.append(fastest_growth(model, name))
    if isinstance(model.grid, Grid):
        for v in model.velocity.get(name, {}).values():
            if free_symbols(v) - frozenset(model.parameters):
                flux = v * symbol(name)
                first += [differentiate(flux, other) for other in model.state]
                second += [differentiate(flux, slope) for slope in slopes if slope in free_symbols(flux)]
        moving = bent(model, name)
        rest = at_rest(model, name)
        if moving is not None and isinstance(rest, Expr):
            second.append(moving - rest)
    low, middle, high = (_bound(terms, env, members, model.grid.shape) for terms in (zeroth, first, second))
    return low, middle, high


def _bound(terms: list[Expr], env: Mapping[Any, Any], members: int, shape: tuple[int, ...]) -> Array:
    """Largest sum of absolute values over the cells, by member."""
    kept = [term for term in terms if not is_zero(term)]
    total = np.zeros((members, 1))
    for value in evaluate(kept, env) if kept else []:
        size = np.abs(np.asarray(value))
        lead = len(size) if size.ndim > len(shape) else 1
        total = total + np.broadcast_to(size, (lead, *shape)).reshape(lead, -1)
    return np.asarray(total.max(axis=1))


def _spectrum(model: PDE, name: str, env: Mapping[Any, Any], members: int) -> tuple[Array, Array]:
    """Wavenumbers, and the rate at which waves of these decay by member: that of the slowest direction."""
    if not isinstance(model.grid, Grid):
        return np.zeros(1), np.zeros((members, 1))
    highest = max(np.pi / h for h in model.grid.spacing.values())
    k = np.geomspace(2 * np.pi / max(model.grid.lengths.values()), highest, _WAVES)
    values = evaluate([*entries(at_rest(model, name)), model.hyperdiffusivity.get(name, const(0.0))], env)
    rows = [np.broadcast_to(np.reshape(v, (-1,)), members) for v in values]
    n = round(len(rows[:-1]) ** 0.5)
    matrices = np.moveaxis(np.reshape(rows[:-1], (n, n, members)), -1, 0)
    D = np.linalg.eigvalsh((matrices + np.swapaxes(matrices, 1, 2)) / 2.0)[:, 0]
    decay = D[:, None] * k**2 + rows[-1][:, None] * k**4
    return k, np.abs(decay)


def followed(model: PDE, method: Method, initial: Array, parameters: Mapping[str, Any], clock: Array, steps: Array,
             advance: Advance) -> tuple[Array, NDArray[np.int8], dict[str, Any]]:
    """Integrate members with steps of their own, shortened where their states ask for it; without noise alone.

    Args:
        model, method, parameters: as for `fitting`.
        initial: (states, members, *space).
        clock: the times.
        steps: each member's first step.
        advance: (places of members, first time's index, their states there, step) → states, status and notes of a run
            from there to the end.

    Returns:
        states (times, states, members, *space), status, and the notes of the runs that are in words.
    """
    states = np.empty((len(clock), *initial.shape))
    states[0] = initial
    status, begin = np.zeros(len(steps), np.int8), np.zeros(len(steps), np.int64)
    said: list[dict[str, Any]] = []
    steps, retries = steps.copy(), np.zeros(len(steps), np.int64)
    waiting = np.ones(len(steps), bool)
    span = float(clock[-1] - clock[0]) or 1.0
    fixed = method.kind != "spectral" or bool(model.noise)
    while waiting.any():
        for first, step in {(int(i), float(h)) for i, h in zip(begin[waiting], steps[waiting])}:
            where = np.flatnonzero(waiting & (begin == first) & (steps == step))
            states[first:, :, where], status[where], notes = advance(where, first, states[first][:, where], step)
            said.append(notes)
            waiting[where] = False
            if fixed:
                continue
            own = {n: v[where] if np.ndim(v) else v for n, v in parameters.items()}
            again = np.ones(len(where), bool)
            for j in range(first + 1, len(clock)):
                asked = fitting(model, method, states[j][:, where], own, float(clock[j]), span)
                before, size = (np.abs(states[k][:, where]).max(axis=(0, *range(2, initial.ndim))) for k in (j - 1, j))
                lost = ~np.isfinite(size) | (size > _RUNAWAY[0] * before) & (asked < _RUNAWAY[1] * step)
                retries[where[again & lost]] += 1
                asked = np.where(lost, np.where(retries[where] <= _RETRIES, step / 4.0, step), asked)
                short = again & (asked < step)
                begin[where[short]], steps[where[short]] = j - 1, asked[short]
                waiting[where[short]] = True
                again &= ~(short | lost)
    return states, status, {name: value for name, value in said[0].items() if isinstance(value, str)}
