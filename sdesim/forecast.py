"""What will go wrong with a field, said before the run: errors where it cannot be right, warnings where it may not be.

    a step beyond the stability limit           ValueError, with the limit (`kernels.field_plan`)
    central transport, |v|Δ/D > 2               wiggles of the size of the jumps
    modes, v(u), |∂(vu)/∂u|Δ/D > 4              the front that will form, of width D/v, falls between the cells
    fronts, √(D/R′) < 0.7 Δ                     an interface about 4 √(D/R′) wide covers fewer than three cells; R′ is
                                                the largest growth rate between the initial extremes; √(κ/−D) with κ∇⁴
    reaction, dt·|∂R/∂u| > 1                    a step that jumps over what it should resolve
    multistep, dt·|∂R/∂u| > 2·reach             a step that is not stable where diffusion damps nothing
    noise, correlation length < 2 Δ             coloured noise that is white on the grid

Source: Patankar 1980, section 5.2 (the cell Péclet number); Cahn & Hilliard 1958, eq. 2.19 (widths of interfaces).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import differentiate, evaluate, free_symbols
from sdesim.choice import Choice
from sdesim.expressions import Expr, const, is_zero
from sdesim.fields import ColouredNoise
from sdesim.grids import Grid
from sdesim.methods.bent import at_rest, bent
from sdesim.models.pde import PDE
from sdesim.own_steps import environment, rates

Array: TypeAlias = NDArray[np.float64]
_MEMBERS, _LOOKS = 16, 9


class AccuracyWarning(UserWarning):
    """A run that goes on, but whose result will be inaccurate: the number that says so, and the cure.

    >>> issubclass(AccuracyWarning, UserWarning)
    True
    """


def foresee(model: PDE, choice: Choice, clock: Array, initial: Array, parameters: Mapping[str, Any]) -> None:
    """Warn of what will be inaccurate, on at most 16 members spread over the ensemble, the extreme ones among them.

    Raises:
        ValueError: a given step beyond the stability limit of any member.
    """
    if choice.method.kind in ("stencil", "implicit") and choice.dt is not None:
        from sdesim.stencil_integrate import check_steps

        check_steps(model, choice.method.name, initial, parameters, clock, choice.dt)
    places = _spread(parameters, initial.shape[1])
    own = {name: v[places] if np.ndim(v) else v for name, v in parameters.items()}
    u, t = initial[:, places], float(clock[0])
    with np.errstate(all="ignore"):
        env = environment(model, u, own, t)
        found = [*_unresolved_transport(model, choice, u, own, env, t), *_unresolved_fronts(model, u, env),
                 *_long_steps(model, choice, env, len(places)), *_unresolved_noise(model)]
    for message in found:
        warnings.warn(message, AccuracyWarning, stacklevel=4)


def _spread(parameters: Mapping[str, Any], members: int) -> NDArray[np.int64]:
    """Places of members to look at: evenly over all, and those of extreme parameters."""
    extreme = [int(k) for v in parameters.values() if np.ndim(v) == 1 for k in (np.argmin(v), np.argmax(v))]
    even = np.linspace(0, members - 1, min(members, _MEMBERS)).round().astype(int).tolist()
    return np.array(sorted({*extreme, *even}), np.int64)


def _width(model: PDE) -> float:
    """The widest cell."""
    return max(float(np.diff(model.grid.edges[name]).max()) for name in model.grid.axes)


def _unresolved_transport(model: PDE, choice: Choice, u: Array, parameters: Mapping[str, Any], env: Mapping[Any, Any],
                          t: float) -> Iterator[str]:
    if not model.velocity or not isinstance(model.grid, Grid):
        return
    if choice.method.kind in ("stencil", "implicit"):
        from sdesim.stencil_integrate import central_peclet

        largest = central_peclet(model, choice.method.name, parameters, u, t)
        if largest > 2.0:
            yield (f"the cell Péclet number |v|Δ/D is {largest:.3g}: above 2 central transport makes wiggles where the "
                   f'field is steep; take advection="limited", or cells of {2 / largest:.2g} times the width')
        return
    for name in model.state:
        if name not in free_symbols(*model.velocity.get(name, {}).values()):
            continue
        _, slope, _ = rates(model, name, env, u.shape[1])
        D = _least(at_rest(model, name), env)
        number = float(np.max(slope)) * _width(model) / max(D, 1e-300)
        if name not in model.hyperdiffusivity and number > 4.0:
            yield (f"{name} carries itself with a cell Péclet number |v|Δ/D of {number:.3g}: its fronts will be "
                   f"narrower than the cells, and waves ring there; take cells of {4 / number:.2g} times the width, or "
                   'finite volumes with advection="limited"')


def _least(term: Any, env: Mapping[Any, Any]) -> float:
    if isinstance(term, Expr):
        return float(np.min(evaluate([term], env)[0]))
    return min(float(np.min(v)) for v in evaluate([term[k][k] for k in range(len(term))], env))


def _unresolved_fronts(model: PDE, u: Array, env: Mapping[Any, Any]) -> Iterator[str]:
    wide = _width(model)
    if not isinstance(model.grid, Grid):
        return
    for name in model.state:
        front = _front(model, name, u, env)
        if front < 0.7 * wide:
            yield (f"{name} makes interfaces about {4 * front:.2g} wide, and cells are {wide:.2g}: fewer than three "
                   f"lie across one, and it may stick to them; take cells no wider than {front:.2g}")


def _front(model: PDE, name: str, u: Array, env: Mapping[Any, Any]) -> float:
    """√(D/R′), or √(κ/−D) with a fourth-order term; ∞ where nothing grows into fronts."""
    term = at_rest(model, name)
    if model.is_linear:
        return np.inf
    if name in model.hyperdiffusivity:
        D, kappa = (_least(node, env) for node in (term, model.hyperdiffusivity[name]))
        phases = D < 0.0 < kappa and bent(model, name) is not None  # not the waves of a constant D < 0
        return float(np.sqrt(kappa / -D)) if phases else np.inf
    slope = differentiate(model.reaction.get(name, const(0.0)), name)
    drivers = frozenset(free_symbols(term)) if isinstance(term, Expr) else frozenset()
    if is_zero(differentiate(slope, name)) or drivers & model.variable_names or not _least(term, env) > 0.0:
        return np.inf
    i = model.state.index(name)
    low, high = float(u[i].min()), float(u[i].max())
    between = np.linspace(low, high, _LOOKS)
    growth = max(float(np.max(evaluate([slope], {**env, name: np.float64(v)})[0])) for v in between)
    return float(np.sqrt(_least(term, env) / growth)) if growth > 0.0 else np.inf


def _long_steps(model: PDE, choice: Choice, env: Mapping[Any, Any], members: int) -> Iterator[str]:
    if choice.dt is None or choice.method.name.startswith("exact"):
        return
    method = choice.method
    for name in model.state:
        reaction, _, _ = rates(model, name, env, members)
        fastest = float(np.max(reaction))
        if method.reach is not None and choice.dt * fastest > 2.0 * method.reach:
            yield (f"a step of {choice.dt:g} is {choice.dt * fastest:.3g} times the fastest time of the reaction of "
                   f"{name}, and {method.name} is stable to {2.0 * method.reach:.2g}; take dt ≤ "
                   f"{method.reach / fastest:.2g}, or etdrk4")
        elif choice.dt * fastest > 1.0:
            yield (f"a step of {choice.dt:g} is {choice.dt * fastest:.3g} times the fastest time of the reaction of "
                   f"{name}, {1 / fastest:.2g}: what happens in between is lost; take dt ≤ {0.2 / fastest:.2g}")


def _unresolved_noise(model: PDE) -> Iterator[str]:
    for name, term in model.noise.items():
        if isinstance(term, ColouredNoise) and isinstance(model.grid, Grid):
            length = min(term.length.values()) if isinstance(term.length, Mapping) else float(term.length)
            if length < 2.0 * _width(model):
                yield (f"the noise of {name} has the correlation length {length:g}, and cells are {_width(model):.2g}: "
                       f"it is white on this grid; take cells of at most {length / 2:.2g}, or WhiteNoise")
