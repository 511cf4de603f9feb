"""A field equation in modal space: what a spectral method needs to know of a `PDE`.

With û the modes of u (`sdesim.spectral`), a PDE with constant diffusivity is

    dûᵢ/dt = λᵢ(k) ûᵢ + N̂ᵢ(t, u) + qᵢ(k) ξ̂ᵢ,

    λᵢ(k) = −Σ D_ab k_a k_b − κ|k|⁴ − i Σ v_a k_a (+ a linear reaction's slope)

where N = R − ∇·(v u) (the part of it that is not in λ) is evaluated in physical space, its derivatives as i k û. A
scalar diffusivity D(u) of a state with a hyperdiffusivity κ, which keeps its short waves in check, gives D(0) to λ and
∇·((D(u) − D(0)) ∇u) to N. ξ̂ is the transform of independent normals in the cells, and q is the noise amplitude over
√|cell|, times √S(k) for noise with a correlation in space. Where a model has transport or derivatives, the modes of
periodic states are `Pair`s. Where edges are held at a value or a flux, û are the modes of w = u − ℓ
(`sdesim.methods.lift`).

Names in the graphs: "%…" arrays over modal space, computed before the first step; the states in physical space, the
coordinates, coefficient fields, parameters and the time t by their own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import free_symbols, substitute
from sdesim.expressions import Expr, const, is_zero, symbol
from sdesim.fields import ColouredNoise, ConservedNoise, spectral_density
from sdesim.methods.bent import at_rest, bent, fastest_growth
from sdesim.methods.lift import lift
from sdesim.methods.mixing import Mixed, mix
from sdesim.methods.rotation import rotation
from sdesim.models.pde import PDE, entries
from sdesim.spectral import Transform, transform_for
from sdesim.spherical import SphereTransform

Place: TypeAlias = tuple[int, str | None]  # a piece of N: (state, None) its reaction, (state, axis) a flux of it
_CURE = "choose a finite-volume method (rkl2, ssprk3, …)"


@dataclass(frozen=True, eq=False)
class ModalModel:
    """A PDE split for a spectral method.

    Attributes:
        model: the PDE.
        transforms: one for each state.
        linear: Re λ of each state, of "%…" arrays over modal space and parameters.
        spin: Im λ of each state, alike.
        nonlinear: R of each state in physical space; of the static source alone where `linear` holds the reaction.
        mixed: R cut into what is linear, static and shared, where that saves transforms.
        fluxes: v·u − (D(u) − D(0)) ∂u by axis for each state in physical space, where v or D is not in λ.
        lifts: ℓ of each state, to be taken from it before the transform and given back after.
        noise: q of each state, of "%…" arrays and parameters; None without noise.
        modal: "%…" arrays over modal space, interleaved like the modes.
        paired: whether modes of periodic states are taken as complex pairs.
    """

    model: PDE
    transforms: tuple[Transform, ...]
    linear: tuple[Expr, ...]
    spin: tuple[Expr, ...]
    nonlinear: tuple[Expr, ...]
    fluxes: tuple[Mapping[str, Expr], ...]
    lifts: tuple[Expr, ...]
    noise: tuple[Expr | None, ...]
    modal: Mapping[str, NDArray[np.float64]]
    paired: bool
    mixed: Mixed | None = None

    @cached_property
    def physical(self) -> dict[str, NDArray[np.float64]]:
        """Coordinates and coefficient fields over the whole grid, by name."""
        grid = self.model.grid
        mesh = {name: np.ascontiguousarray(np.broadcast_to(x, grid.shape)) for name, x in grid.mesh.items()}
        return {**mesh, **self.model.fields}

    @cached_property
    def needed(self) -> dict[str, Place]:
        """What N reads in physical space: by its name the state's number, and the axis of a derivative."""
        used = free_symbols(*self.terms.values())
        names = {name: (i, None) for i, name in enumerate(self.model.state)}
        slopes = {f"dd{axis}({name})": (i, axis) for i, name in enumerate(self.model.state)
                  for axis in self.model.grid.axes}
        return {name: where for name, where in {**names, **slopes}.items() if name in used}

    @cached_property
    def terms(self) -> dict[Place, Expr]:
        """The pieces of N in physical space: (state, None) its reaction, (state, axis) its flux along an axis."""
        whole = dict(enumerate(self.nonlinear)) if self.mixed is None else self.mixed.patterns
        pieces: dict[Place, Expr] = {(i, None): term for i, term in whole.items() if not is_zero(term)}
        return pieces | {(i, axis): flux for i, row in enumerate(self.fluxes) for axis, flux in row.items()}

    @cached_property
    def static(self) -> dict[Place, Expr]:
        """The pieces of N that never change, alike: all of them where `linear` holds the reaction."""
        if self.mixed is None:
            return self.terms
        return {(i, None): term for i, term in enumerate(self.mixed.sources) if not is_zero(term)}

    @property
    def takers(self) -> Mapping[int, tuple[tuple[int, Expr], ...]]:
        """Which states take the modes of a piece (state, None) of N, how many times; else the state itself."""
        return {} if self.mixed is None else self.mixed.takers

    def is_paired(self, state: int) -> bool:
        """Whether the modes of one state are complex pairs."""
        return self.paired and self.transforms[state].is_complex

    def tag(self, state: int) -> int:
        """Number of a state's transform among the distinct ones."""
        return list(dict.fromkeys(self.transforms)).index(self.transforms[state])


def wavenumber_name(axis: str, tag: int) -> str:
    """Name of the array of signed wavenumbers along an axis."""
    return f"%{axis}.{tag}"


def split(model: PDE, *, linear_reaction: bool, scheme: str = "continuous") -> ModalModel:
    """The modal form of a PDE.

    Args:
        model: the PDE.
        linear_reaction: the reaction is affine with constant slopes: its slope goes into λ, its source stays, and
            velocities must be constant. Otherwise the whole reaction and every other velocity are N.
        scheme: eigenvalues of the Laplacian, see `Transform.laplacian`.

    Raises:
        ValueError: a diffusivity that is not constant (one of the state's own value is taken with a hyperdiffusivity,
            periodic edges and `linear_reaction` False), cross-diffusion, an edge that no transform fits, transport or
            derivatives along an axis that is not periodic, a reaction that is not affine or a velocity that is not
            constant (with `linear_reaction`), noise whose amplitude is not constant.
    """
    for name in model.random:
        raise ValueError(f"a spectral method has the same coefficient fields for all members, and {name} is each "
                         "member's own: choose a finite-volume method (rkl2, tr_bdf2, …)")
    for term in model.potential.values():
        raise ValueError(f"a spectral method lets {term.state} itself diffuse, and here its potential does, {term}: "
                         f"{_CURE}")
    transforms = tuple(transform_for(model.grid, model.boundary[name]) for name in model.state)
    moving = {name: term for name in model.hyperdiffusivity
              if not linear_reaction and (term := bent(model, name)) is not None}
    _refuse(model, transforms, moving)
    distinct = list(dict.fromkeys(transforms))
    arrays: dict[str, NDArray[np.float64]] = {}
    rows = []
    lifted = {name: lift(model, name) for name in model.state}
    raised = {name: symbol(name) + ell for name, (ell, _) in lifted.items() if not is_zero(ell)}
    for i, name in enumerate(model.state):
        tag = distinct.index(transforms[i])
        decay = _decay(model, name, transforms[i], scheme, tag, arrays)
        decay = decay - _fourth(model, name, transforms[i], scheme, tag, arrays)
        spin, flux = _transport(model, name, transforms[i], tag, arrays, constant=linear_reaction)
        if name in moving:
            flux = _bent_flux(model, name, moving[name], transforms[i], tag, arrays, flux)
        reaction = model.reaction.get(name, const(0.0))
        ell, bends = lifted[name]
        if linear_reaction:
            reaction, slope = _affine(model, name)
            decay, reaction = decay + slope, reaction + slope * ell
        elif name in model.hyperdiffusivity:
            # a growing mode's rounding in the redundant half of the spectrum is not seen by N, which alone limits it
            shift = fastest_growth(model, name)
            decay, reaction = decay - shift, reaction + shift * symbol(name)
        reaction = substitute(reaction, raised) + _bending(model, name, bends)
        flux = {axis: substitute(part, raised) for axis, part in flux.items()}
        rows.append((decay, spin, reaction, flux, ell, _noise(model, name, transforms[i], i, tag, arrays)))
    for name, axis in _derivatives(model):
        i = model.state.index(name)
        _signed(transforms[i], axis, distinct.index(transforms[i]), arrays)
    linear, spins, nonlinear, fluxes, lifts, noise = (tuple(column) for column in zip(*rows, strict=True))
    paired = bool(model.velocity) or bool(_derivatives(model)) or bool(moving)
    mixed = None
    if not linear_reaction and len(distinct) == 1 and not model.hyperdiffusivity:
        read = free_symbols(*(part for row in fluxes for part in row.values()))
        mixed = mix(nonlinear, model.state, frozenset(model.parameters), read)
    return ModalModel(model, transforms, linear, spins, nonlinear, fluxes, lifts, noise, arrays, paired, mixed)


def _derivatives(model: PDE) -> list[tuple[str, str]]:
    """(state, axis) of every first derivative in the reaction and the velocity."""
    used = model.uses("reaction") | model.uses("velocity")
    return [(name, axis) for name in model.state for axis in model.grid.axes if f"dd{axis}({name})" in used]


def _refuse(model: PDE, transforms: tuple[Transform, ...], moving: Mapping[str, Expr]) -> None:
    constant = frozenset(model.parameters)
    used = {name: free_symbols(*(part for term in row.values() for part in entries(term)))
            for name, row in model.diffusivity.items()}
    variable = sorted({other for name, found in used.items() if name not in moving for other in found - constant})
    if variable:
        raise ValueError(f"a spectral method needs a constant diffusivity; this one depends on {', '.join(variable)}: "
                         f"{_CURE}")
    for name, row in model.diffusivity.items():
        others = [source for source in row if source != name]
        if others:
            raise ValueError(f"a spectral method here knows no cross-diffusion; {name} is driven by ∇{others[0]}: "
                             f"{_CURE}")
    if not model.grid.is_box and any(not isinstance(term, Expr) for row in model.diffusivity.values()
                                     for term in row.values()):
        raise ValueError(f"spherical harmonics take a scalar diffusivity, and there is a tensor: {_CURE}")
    transport = [(name, axis) for name, row in model.velocity.items() for axis in row if rotation(model, name) is None]
    transport += [(name, axis) for name in moving for axis in model.grid.axes]
    for what, pairs in (("transport", transport), ("derivatives", _derivatives(model))):
        for name, axis in pairs:
            if transforms[model.state.index(name)].kinds[model.grid.axes.index(axis)] != "periodic":
                where = f"{axis} is not periodic for {name}" if model.grid.is_box else (
                    "on a sphere it knows solid-body rotation alone, Ω·R·cos(lat) along lon")
                raise ValueError(f"a spectral method takes {what} along periodic axes only; {where}: {_CURE}")


def _decay(model: PDE, name: str, transform: Transform, scheme: str, tag: int,
           arrays: dict[str, NDArray[np.float64]]) -> Expr:
    """−Σ D_ab k_a k_b of one state; the products of wavenumbers go into `arrays`."""
    term = at_rest(model, name)
    squares = transform.laplacian(scheme)
    if isinstance(term, Expr):
        if is_zero(term):
            return term
        return -(term * _array(f"%k2.{tag}", _total(squares), arrays))
    axes = tuple(reversed(model.grid.axes))
    decay = const(0.0)
    for a, first in enumerate(axes):
        decay = decay + term[a][a] * _array(f"%{first}{first}.{tag}", squares[first], arrays)
        for b, second in enumerate(axes[:a]):
            both = term[a][b] + term[b][a]
            if not is_zero(both):
                decay = decay + both * _cross(transform, first, second, tag, arrays)
    return -decay


def _total(squares: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Σ k² over the axes."""
    return np.sum(list(squares.values()), axis=0)


def _fourth(model: PDE, name: str, transform: Transform, scheme: str, tag: int,
            arrays: dict[str, NDArray[np.float64]]) -> Expr:
    """κ|k|⁴ of one state."""
    kappa = model.hyperdiffusivity.get(name)
    if kappa is None:
        return const(0.0)
    return kappa * _array(f"%k4.{tag}", _total(transform.laplacian(scheme)) ** 2, arrays)


def _bent_flux(model: PDE, name: str, term: Expr, transform: Transform, tag: int,
               arrays: dict[str, NDArray[np.float64]], flux: Mapping[str, Expr]) -> dict[str, Expr]:
    """v·u − (D(u) − D(0)) ∂u by axis."""
    rest = substitute(term, {name: 0.0})
    result = {}
    for axis in model.grid.axes:
        _signed(transform, axis, tag, arrays)
        result[axis] = flux.get(axis, const(0.0)) - (term - rest) * symbol(f"dd{axis}({name})")
    return result


def _bending(model: PDE, name: str, bends: Mapping[str, Expr]) -> Expr:
    """Σ D_aa ∂²ℓ/∂a² of one state."""
    term, axes = at_rest(model, name), tuple(reversed(model.grid.axes))
    total = const(0.0)
    for axis, bend in bends.items():
        total = total + (term if isinstance(term, Expr) else term[axes.index(axis)][axes.index(axis)]) * bend
    return total


def _cross(transform: Transform, first: str, second: str, tag: int, arrays: dict[str, NDArray[np.float64]]) -> Expr:
    """k_a·k_b of two periodic axes."""
    for name in (first, second):
        if transform.kinds[transform.grid.axes.index(name)] != "periodic":
            raise ValueError(f"a tensor that couples {first} and {second} needs both axes periodic; {name} is not: "
                             "align the axes with the tensor, or make the edges Periodic()")
    own: dict[str, NDArray[np.float64]] = {}
    names = [str(_signed(transform, name, tag, own).value) for name in (first, second)]
    return _array(f"%{first}{second}.{tag}", own[names[0]] * own[names[1]], arrays)


def _signed(transform: Transform, axis: str, tag: int, arrays: dict[str, NDArray[np.float64]]) -> Expr:
    """k along a periodic axis, zero on the highest even mode, whose sign is not determined."""
    k, cells = transform.wavenumbers[axis], transform.grid.axis(axis)[2]
    highest = np.pi * cells / transform.grid.lengths[axis]
    values = np.where(np.isclose(np.abs(k), highest), 0.0, k) if cells % 2 == 0 else k
    return _array(wavenumber_name(axis, tag), values, arrays)


def _transport(model: PDE, name: str, transform: Transform, tag: int, arrays: dict[str, NDArray[np.float64]], *,
               constant: bool) -> tuple[Expr, dict[str, Expr]]:
    """Im λ = −Σ v_a k_a of the constant velocities, and the fluxes v·u of the others."""
    flux: dict[str, Expr] = {}
    spin = const(0.0)
    if isinstance(transform, SphereTransform):
        rate = rotation(model, name)
        return (const(0.0) if rate is None else -(rate * _array(f"%m.{tag}", transform.order, arrays))), flux
    for axis, v in model.velocity.get(name, {}).items():
        k = _signed(transform, axis, tag, arrays)
        others = sorted(free_symbols(v) - frozenset(model.parameters))
        if not others:
            spin = spin - v * k
        elif constant:
            raise ValueError(f"the exact propagator needs a constant velocity; this one depends on "
                             f"{', '.join(others)}: choose etdrk4")
        else:
            flux[axis] = v * symbol(name)
    return spin, flux


def _affine(model: PDE, name: str) -> tuple[Expr, Expr]:
    source, slopes = model.affine_reaction(name)
    slope = slopes.pop(name, const(0.0))
    constant = frozenset(model.parameters)
    if slopes:
        raise ValueError(f"the exact propagator takes states one by one; the reaction of {name} depends on "
                         f"{', '.join(slopes)}: choose etdrk4")
    if not free_symbols(slope) <= constant:
        raise ValueError(f"the exact propagator needs a reaction a + b·{name} with a constant b; got b = {slope!r}: "
                         "choose etdrk4")
    if "t" in free_symbols(source):
        raise ValueError(f"the exact propagator needs a source free of t; got {source!r}: choose etdrk4")
    return source, slope


def _noise(model: PDE, name: str, transform: Transform, i: int, tag: int,
           arrays: dict[str, NDArray[np.float64]]) -> Expr | None:
    term = model.noise.get(name)
    if term is None or is_zero(term.amplitude):
        return None
    extra = sorted(free_symbols(term.amplitude) - frozenset(model.parameters))
    if extra:
        raise ValueError(f"a spectral method needs noise of constant amplitude; that of {name} depends on "
                         f"{', '.join(extra)}: choose euler_maruyama")
    amplitude: Expr = term.amplitude
    if isinstance(term, ConservedNoise) or term.correlation_time is not None:
        raise ValueError(f"a spectral method knows noise that is white in time and not conserved; that of {name} is "
                         f"{type(term).__name__} with the correlation time {term.correlation_time}: choose "
                         "euler_maruyama or backward_euler")
    per_cell = 1.0 / sqrt(model.grid.cell_volume) if model.grid.is_box else 1.0  # else in the transform itself
    if isinstance(term, ColouredNoise):
        density = spectral_density(transform, term.length, term.smoothness)
        return amplitude * _array(f"%root{i}.{tag}", np.sqrt(density) * per_cell, arrays)
    return amplitude * per_cell


def _array(name: str, values: NDArray[np.float64], arrays: dict[str, NDArray[np.float64]]) -> Expr:
    arrays.setdefault(name, values)
    return symbol(name)
