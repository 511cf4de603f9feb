"""How stiff a discrete model is: bounds on the eigenvalues of its Jacobian, for each member.

Gershgorin: every eigenvalue of a matrix lies within |a_ii| + Σ_j |a_ij| of 0 for some row i. A row of the Jacobian is
the set of derivatives of a cell's right-hand side by the cells that it loads, which the expressions give exactly; they
are evaluated at the initial state (and at the ends of the time span where coefficients change with time). For the
five-point Laplacian the bound is 4 Σ_axes D/Δ², reached by the checkerboard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import differentiate, evaluate, free_symbols, walk
from sdesim.coefficients import on_grid, over_space
from sdesim.expressions import Expr, is_zero, symbol
from sdesim.kernels.field_schedule import rewrite_loads
from sdesim.kernels.field_static import ghost_values, static_arrays
from sdesim.methods.field import Spectrum
from sdesim.stencils import Stencil

Array = NDArray[np.float64]
UPWIND = {"upwind": 1.0, "limited": 2.3, "weno": 2.3}
"""Bound on transport's eigenvalues over that of upwind values; 2.3 keeps SSPRK3 of 0.9 its limit within Δ/2v, the
step up to which forward Euler with limited values makes no new extremes (Sweby 1984)."""
LIMITED = 8.0  # Σ of |coefficient| that two faces of twice-limited slopes can have, 4 each


def spectra(stencil: Stencil, parameters: Mapping[str, Any], initial: Array, times: Sequence[float]) -> list[Spectrum]:
    """The spectrum of every member.

    Args:
        stencil: the discrete model.
        parameters: numbers, or arrays over the members.
        initial: (states, members, *space).
        times: where coefficients that depend on time are looked at.
    """
    members = initial.shape[1]
    bounds = np.zeros((4, members))
    env = _environment(stencil, parameters, initial)
    for t in times:
        env |= {"t": np.float64(t), **_steepness(stencil, parameters, initial, t)}
        with np.errstate(all="ignore"):
            bounds = np.fmax(bounds, _bounds(stencil, env, members))
    bounds[:2] *= ghost_factor(stencil, parameters, times)
    if not np.all(np.isfinite(bounds[:2])):
        raise ValueError("the diffusivity or velocity is not finite at the initial state; write the expressions so "
                         "that they are, for example with max(…) or where(…)")
    bounds[2:] = np.where(np.isfinite(bounds[2:]), bounds[2:], 0.0)
    return [Spectrum(*(float(v) for v in column)) for column in bounds.T]


def _steepness(stencil: Stencil, parameters: Mapping[str, Any], initial: Array, t: float) -> dict[str, Any]:
    """The largest slope of every potential, by which what it drives is stiffer in the state."""
    model, found = stencil.model, {}
    known = on_grid(model.grid, model.fields, {**model.parameters, **parameters}) if stencil.potentials else {}
    for name, term in stencil.potentials.items():
        w = initial[model.state.index(term.state)]
        steep = term.steepest(w, _edge_values(stencil, name, parameters, t), known)
        found[f"steepness {name}"] = over_space(steep, model.grid.dimension)
    return found


def _edge_values(stencil: Stencil, name: str, parameters: Mapping[str, Any], t: float) -> Array:
    """Values to which edges hold a potential, or draw it, (members | 1, values): what g = A + B·u leaves alone."""
    place, found = len(stencil.model.state) + int(name[1:]), [np.zeros((1, 0))]
    for axis, pair in enumerate(stencil.ghosts[place]):
        for side in (0, 1) if pair is not None else ():
            A, B = np.moveaxis(ghost_values(stencil, place, axis, side, parameters, t), 1, 0)
            found.append(np.where(B == 1.0, np.nan, A / np.where(B == 1.0, 1.0, 1.0 - B)))
    members = max(len(part) for part in found)
    return np.concatenate([np.broadcast_to(part, (members, part.shape[1])) for part in found], axis=1)


def _environment(stencil: Stencil, parameters: Mapping[str, Any], initial: Array) -> dict[Any, Any]:
    """Values of everything that the right-hand side names; beyond an edge a state continues as in its last cell."""
    axes = len(stencil.model.grid.axes)
    env: dict[Any, Any] = {}
    for name, value in parameters.items():
        env[name] = over_space(value, axes)
    padded = {name: np.pad(u, [(0, 0), *[(1, 1)] * axes], mode="edge")
              for name, u in zip(stencil.model.state, initial.astype(np.float64))}
    padded |= static_arrays(stencil, parameters)
    flat = np.zeros((1, *(n + 2 for n in stencil.model.grid.shape)))
    padded |= {f"^{k}": flat for k in range(len(stencil.derived))}  # as on a field without slopes: upwind values
    known = on_grid(stencil.model.grid, stencil.model.fields, {**stencil.model.parameters, **parameters})
    for name, term in stencil.potentials.items():
        w = initial[stencil.model.state.index(term.state)]
        c = np.asarray(term.values(w, known)) * np.ones_like(w)
        padded[name] = np.pad(c, [(0, 0), *[(1, 1)] * axes], mode="edge")
    for node in walk([*stencil.right_side, *stencil.extra.values()]):
        if node.op == "load":
            name, offset = node.value
            env[name, offset] = _view(padded[name], offset)
    return env


def _view(padded: Array, offset: tuple[int, ...]) -> Array:
    inner = (slice(None) if n == 1 else slice(1 + o, n - 1 + o) for n, o in zip(padded.shape[1:], offset))
    return padded[(slice(None), *inner)]


def _bounds(stencil: Stencil, env: Mapping[Any, Any], members: int) -> Array:
    """(diffusion, advection, reaction, drift) by member, the largest over states and cells."""
    result = np.zeros((4, members))
    for state, (diffusion, transport, reaction) in enumerate(zip(*stencil.terms.values())):
        d, v, r = (_slopes(stencil, term, env) for term in (diffusion, transport, reaction))
        sums = [sum(part.values(), np.zeros(1)) for part in (d, v, r)]
        if state in stencil.extra:
            sums[0] = sums[0] + LIMITED * np.asarray(evaluate([stencil.extra[state]], env)[0])
        radius = [_largest(total, members) for total in sums]
        if stencil.advection in UPWIND:
            radius[0], radius[1] = radius[0] + UPWIND[stencil.advection] * radius[1], 0.5 * radius[1]
            drift = np.zeros(members)
        else:
            drift = _largest(_drift(d, v), members)
        result = np.fmax(result, [*radius, drift])
    return result


def _slopes(stencil: Stencil, term: Expr, env: Mapping[Any, Any]) -> dict[tuple[str, tuple[int, ...]], Array]:
    """|∂term/∂u| for every state value that the term loads, by way of its potential if it has one."""
    states = {*stencil.model.state, *stencil.potentials}
    loads = dict.fromkeys(n.value for n in walk([term]) if n.op == "load" and n.value[0] in states)
    names = {value: f"load {k}" for k, value in enumerate(loads)}
    named = rewrite_loads(term, {value: symbol(name) for value, name in names.items()})
    values = {**env, **{name: env[value] for value, name in names.items()}}
    slopes = {value: differentiate(named, name) for value, name in names.items()}
    kept = {value: slope for value, slope in slopes.items() if not is_zero(slope)}
    return {value: np.abs(np.asarray(s)) * env.get(f"steepness {value[0]}", 1.0)
            for value, s in zip(kept, evaluate(list(kept.values()), values))}


def _drift(d: Mapping[Any, Array], v: Mapping[Any, Array]) -> Array:
    """Σ_axes v²/D from the slopes v/2Δ and D/Δ² by the next cell: half of it bounds 1/h for explicit Euler."""
    total = np.zeros(1)
    for (state, offset), speed in v.items():
        if sum(offset) == 1 and sum(map(abs, offset)) == 1:
            stiffness = d.get((state, offset), np.zeros(1))
            total = total + np.where(speed > 0.0, 4.0 * speed**2 / np.maximum(stiffness, 1e-300), 0.0)
    return total


def _largest(values: Array, members: int) -> Array:
    """The largest value of each member."""
    flat = np.asarray(values, np.float64)
    flat = np.where(np.isnan(flat), np.inf, flat)
    rows = flat.reshape(flat.shape[0] if flat.ndim > 1 else 1, -1)
    return np.full(members, rows.max(axis=1))


def ghost_factor(stencil: Stencil, parameters: Mapping[str, Any], times: Sequence[float]) -> Array:
    """max(1, |B|) over all edges: a ghost that amplifies its cell makes the matrix stiffer."""
    factor = np.ones(1)
    for state, axes in enumerate(stencil.ghosts):
        for axis, pair in enumerate(axes):
            for side in (0, 1) if pair is not None else ():
                for t in times:
                    B = ghost_values(stencil, state, axis, side, parameters, t)[:, 1]
                    factor = np.maximum(factor, np.abs(B).max(axis=1))
    return factor


def check_diffusivity(stencil: Stencil, parameters: Mapping[str, Any], initial: Array, times: Sequence[float]) -> None:
    """Refuse a diffusivity that is negative somewhere at the initial state, or a tensor that is not elliptic.

    One that is free of the states is looked at at all the times.

    Raises:
        ValueError: naming the state and the value.
    """
    model = stencil.model
    env = {**model.grid.mesh, **model.fields, **dict(zip(model.state, initial))}
    for name, value in parameters.items():
        env[name] = over_space(value, model.grid.dimension)
    with np.errstate(all="ignore"):
        env |= {term.name: term.values(env[state], env) for state, term in model.potential.items()}
    for state, drivers in model.diffusivity.items():
        term = drivers.get(state)
        rows = ((term,),) if isinstance(term, Expr) else term or ()
        parts = [part for row in rows for part in row]
        used = free_symbols(*parts)
        if not parts or used - {*env, "t"}:
            continue
        for t in times if "t" in used and not used & model.variable_names else times[:1]:
            _check_positive(state, parts, len(rows), {**env, "t": np.float64(t)})


def _check_positive(state: str, parts: list[Expr], size: int, env: Mapping[str, Any]) -> None:
    with np.errstate(all="ignore"):
        values = np.stack(np.broadcast_arrays(*(np.asarray(v) for v in evaluate(parts, env))), axis=-1)
    tensors = values.reshape(-1, size, size)
    least = tensors.min() if size == 1 else np.linalg.eigvalsh((tensors + tensors.swapaxes(1, 2)) / 2).min()
    if least < -1e-12 * np.abs(values).max():
        raise ValueError(f"the diffusivity of {state} must not be negative (its least value is {least:g} at "
                         f"t = {env['t']:g}); diffusion backwards in time has no solution: check the parameters, or "
                         "keep it positive with max(…)")


def peclet(stencil: Stencil, parameters: Mapping[str, Any], initial: Array, t: float) -> float:
    """The largest cell Péclet number |v|Δ/D of a central stencil; above 2 central transport wiggles."""
    env = {**_environment(stencil, parameters, initial), "t": np.float64(t)}
    largest = 0.0
    with np.errstate(all="ignore"):
        for diffusion, transport in zip(stencil.terms["diffusion"], stencil.terms["transport"]):
            d, v = (_slopes(stencil, term, env) for term in (diffusion, transport))
            for (state, offset), speed in v.items():
                if any(offset) and np.any(speed > 0.0):
                    ratio = 2.0 * speed / np.maximum(d.get((state, offset), np.zeros(1)), 1e-300)
                    largest = max(largest, float(np.max(np.where(speed > 0.0, ratio, 0.0))))
    return largest
