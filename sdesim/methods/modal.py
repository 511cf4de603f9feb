"""A field equation in modal space: what a spectral method needs to know of a `PDE`.

With û the modes of u (`sdesim.spectral`), a PDE with constant diffusivity is

    dûᵢ/dt = λᵢ(k) ûᵢ + N̂ᵢ(t, u) + qᵢ(k) ξ̂ᵢ,        λᵢ(k) = −Σ D_ab k_a k_b (+ the reaction's slope, if it is linear)

where N is evaluated in physical space, ξ̂ is the transform of independent normals in the cells, and q is the noise
amplitude over √|cell|, times √S(k) for noise with a correlation in space.

Names in the graphs: "%…" arrays over modal space, computed before the first step; the states in physical space, the
coordinates, coefficient fields, parameters and the time t by their own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import factorial, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.arithmetic import NUMPY
from sdesim.calculus import evaluate, free_symbols
from sdesim.expressions import Expr, const, function, is_zero, symbol, where
from sdesim.fields import ColouredNoise, spectral_density
from sdesim.methods.vector import ZERO, Vector, is_structural_zero
from sdesim.models.pde import PDE
from sdesim.spectral import Transform, transform_for

_Z = symbol("z")
_TERMS = 18  # 1/19! < 2⁻⁵⁶: the remainder of the series for |z| < 1


def _phi(order: int) -> Expr:
    """φ₀ = eᶻ, φₙ = (φₙ₋₁ − 1/(n−1)!)/z = Σ zʲ/(j+n)!: the series where the quotient would cancel."""
    if order == 0:
        return function("exp", _Z)
    series: Expr = const(1.0 / factorial(order + _TERMS - 1))
    for j in range(_TERMS - 2, -1, -1):
        series = series * _Z + 1.0 / factorial(order + j)
    return where(abs(_Z) < 1.0, series, (_phi(order - 1) - 1.0 / factorial(order - 1)) / _Z)


PHI: tuple[Expr, ...] = tuple(_phi(order) for order in range(4))
SQRT: Expr = function("sqrt", _Z)


@dataclass(frozen=True, eq=False)
class ModalModel:
    """A PDE split for a spectral method.

    Attributes:
        model: the PDE.
        transforms: one for each state.
        linear: λ of each state, of "%…" arrays over modal space and parameters.
        nonlinear: N of each state in physical space; of the static source alone where `linear` holds the reaction.
        noise: q of each state without its √S(k)/√|cell|: an expression of parameters; None without noise.
        modal: "%…" arrays over modal space, one row of them for each state.
    """

    model: PDE
    transforms: tuple[Transform, ...]
    linear: tuple[Expr, ...]
    nonlinear: tuple[Expr, ...]
    noise: tuple[Expr | None, ...]
    modal: Mapping[str, NDArray[np.float64]]

    @cached_property
    def physical(self) -> dict[str, NDArray[np.float64]]:
        """Coordinates and coefficient fields over the whole grid, by name."""
        grid = self.model.grid
        mesh = {name: np.ascontiguousarray(np.broadcast_to(x, grid.shape)) for name, x in grid.mesh.items()}
        return {**mesh, **self.model.fields}

    @property
    def needed(self) -> tuple[int, ...]:
        """Numbers of the states that some N reads."""
        used = free_symbols(*self.nonlinear)
        return tuple(i for i, name in enumerate(self.model.state) if name in used)


def split(model: PDE, *, linear_reaction: bool, scheme: str = "continuous") -> ModalModel:
    """The modal form of a PDE.

    Args:
        model: the PDE.
        linear_reaction: the reaction is affine with constant slopes: its slope goes into λ, its source stays.
            Otherwise the whole reaction is N.
        scheme: eigenvalues of the Laplacian, see `Transform.laplacian`.

    Raises:
        ValueError: coefficients that are not constant, transport, cross-diffusion, an edge that no transform fits,
            a reaction that is not affine (with `linear_reaction`), noise whose amplitude is not constant.
    """
    _refuse(model)
    transforms = tuple(transform_for(model.grid, model.boundary[name]) for name in model.state)
    distinct = list(dict.fromkeys(transforms))
    arrays: dict[str, NDArray[np.float64]] = {}
    linear, nonlinear, noise = [], [], []
    for i, name in enumerate(model.state):
        tag = distinct.index(transforms[i])
        decay = _decay(model, name, transforms[i], scheme, tag, arrays)
        reaction = model.reaction.get(name, const(0.0))
        if linear_reaction:
            reaction, slope = _affine(model, name)
            decay = decay + slope
        linear.append(decay)
        nonlinear.append(reaction)
        noise.append(_noise(model, name, transforms[i], i, arrays))
    return ModalModel(model, transforms, tuple(linear), tuple(nonlinear), tuple(noise), arrays)


def _refuse(model: PDE) -> None:
    cure = "choose a finite-volume method (rkl2, ssprk3, …)"
    variable = sorted(model.uses("diffusivity") - frozenset(model.parameters))
    if variable:
        raise ValueError(f"a spectral method needs a constant diffusivity; this one depends on {', '.join(variable)}: "
                         f"{cure}")
    if model.velocity:
        raise ValueError(f"a spectral method here knows no transport; this model has a velocity: {cure}")
    for name, row in model.diffusivity.items():
        others = [source for source in row if source != name]
        if others:
            raise ValueError(f"a spectral method here knows no cross-diffusion; {name} is driven by ∇{others[0]}: "
                             f"{cure}")
    derivatives = sorted(name for name in model.uses("reaction") if name.startswith("dd") and "(" in name)
    if derivatives:
        raise ValueError(f"a spectral method here knows no derivatives in the reaction; got {derivatives[0]}: {cure}")


def _decay(model: PDE, name: str, transform: Transform, scheme: str, tag: int,
           arrays: dict[str, NDArray[np.float64]]) -> Expr:
    """−Σ D_ab k_a k_b of one state; the products of wavenumbers go into `arrays`."""
    term = model.diffusivity.get(name, {}).get(name, const(0.0))
    squares = transform.laplacian(scheme)
    if isinstance(term, Expr):
        if is_zero(term):
            return term
        total = np.zeros(transform.modal_shape)
        for square in squares.values():
            total = total + square
        return -(term * _array(f"%k2.{tag}", total, arrays))
    axes = tuple(reversed(model.grid.axes))
    decay = const(0.0)
    for a, first in enumerate(axes):
        decay = decay + term[a][a] * _array(f"%k{first}{first}.{tag}", squares[first], arrays)
        for b, second in enumerate(axes[:a]):
            both = term[a][b] + term[b][a]
            if not is_zero(both):
                decay = decay + both * _array(f"%k{first}{second}.{tag}", _cross(transform, first, second), arrays)
    return -decay


def _cross(transform: Transform, first: str, second: str) -> NDArray[np.float64]:
    """k_a·k_b of two periodic axes; zero on the highest even mode, whose sign is not determined."""
    product = np.ones(transform.modal_shape)
    for name in (first, second):
        position = transform.grid.axes.index(name)
        if transform.kinds[position] != "periodic":
            raise ValueError(f"a tensor that couples {first} and {second} needs both axes periodic; {name} is not: "
                             "align the axes with the tensor, or make the edges Periodic()")
        k, cells = transform.wavenumbers[name], transform.grid.shape[position]
        highest = np.pi * cells / transform.grid.lengths[name]
        product = product * np.where(np.isclose(np.abs(k), highest), 0.0, k)
    return product


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


def _noise(model: PDE, name: str, transform: Transform, i: int, arrays: dict[str, NDArray[np.float64]]) -> Expr | None:
    term = model.noise.get(name)
    if term is None or is_zero(term.amplitude):
        return None
    extra = sorted(free_symbols(term.amplitude) - frozenset(model.parameters))
    if extra:
        raise ValueError(f"a spectral method needs noise of constant amplitude; that of {name} depends on "
                         f"{', '.join(extra)}: choose euler_maruyama")
    amplitude: Expr = term.amplitude
    per_cell = 1.0 / sqrt(model.grid.cell_volume)
    if isinstance(term, ColouredNoise):
        density = spectral_density(transform, term.length, term.smoothness)
        return amplitude * _array(f"%root.{i}", np.sqrt(density) * per_cell, arrays)
    return amplitude * per_cell


def _array(name: str, values: NDArray[np.float64], arrays: dict[str, NDArray[np.float64]]) -> Expr:
    arrays.setdefault(name, values)
    return symbol(name)


class ArrayStep:
    """A modal model on NumPy arrays (members, *modes): the reference on which a method runs as it is written.

    Args:
        form: the modal model.
        parameters: numbers, or arrays (members, 1, …) that broadcast against fields.
    """

    def __init__(self, form: ModalModel, parameters: Mapping[str, Any]) -> None:
        self.form, self.parameters = form, dict(parameters)
        known: dict[Any, Any] = {**self.parameters, **form.modal}
        self.linear = Vector(_values(form.linear, known))
        self.root = Vector(ZERO if q is None else _values([q], known)[0] for q in form.noise)

    def exp(self, z: Vector) -> Vector:
        return self._each(PHI[0], z)

    def phi(self, order: int, z: Vector) -> Vector:
        return self._each(PHI[order], z)

    def sqrt(self, z: Vector) -> Vector:
        return self._each(SQRT, z)

    @property
    def source(self) -> Vector:
        """Modes of the static source."""
        return self._transformed({**self.parameters, **self.form.physical})

    def nonlinear(self, t: Any, u: Vector) -> Vector:
        """Modes of N(t, u), u given by its modes."""
        form = self.form
        known: dict[Any, Any] = {**self.parameters, **form.physical, "t": t}
        for i in form.needed:
            known[form.model.state[i]] = form.transforms[i].inverse(u[i])
        return self._transformed(known)

    def _transformed(self, known: dict[Any, Any]) -> Vector:
        form = self.form
        terms = [i for i, term in enumerate(form.nonlinear) if not is_zero(term)]
        values = _values([form.nonlinear[i] for i in terms], known)
        modes: list[Any] = [ZERO] * len(form.nonlinear)
        for i, value in zip(terms, values, strict=True):
            full = np.broadcast_shapes(np.shape(value), (1, *form.model.grid.shape))
            modes[i] = form.transforms[i].forward(np.broadcast_to(value, full))
        return Vector(modes)

    def _each(self, template: Expr, z: Vector) -> Vector:
        return Vector(ZERO if is_structural_zero(value) else _values([template], {"z": value})[0] for value in z)


def _values(nodes: Any, known: Mapping[Any, Any]) -> list[Any]:
    with np.errstate(all="ignore"):
        return evaluate(nodes, known, NUMPY)
