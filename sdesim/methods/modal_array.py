"""A modal model on NumPy arrays: the reference on which a spectral method runs as it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.arithmetic import NUMPY
from sdesim.calculus import evaluate
from sdesim.expressions import Expr, const, is_zero
from sdesim.methods.modal import ModalModel, Place, wavenumber_name
from sdesim.methods.phi import COMPLEX_PHI, PHI, SQRT, Pair
from sdesim.methods.vector import ZERO, Vector, add, is_structural_zero


class ArrayStep:
    """What a spectral method sees of a model: modes are arrays (members, *modes), or `Pair`s of such arrays.

    Args:
        form: the modal model.
        parameters: numbers, or arrays (members, 1, …) that broadcast against fields.
    """

    def __init__(self, form: ModalModel, parameters: Mapping[str, Any]) -> None:
        self.form, self.parameters = form, dict(parameters)
        self.linear = Vector(self._eigenvalue(i) for i in range(len(form.linear)))
        self.root = Vector(ZERO if q is None else self._modal(i, q) for i, q in enumerate(form.noise))
        self.first: Vector | None = None
        self.history: list[Vector] = []

    def exp(self, z: Vector) -> Vector:
        return self.phi(0, z)

    def phi(self, order: int, z: Vector) -> Vector:
        return Vector(_phi(order, value) for value in z)

    def sqrt(self, z: Vector) -> Vector:
        return Vector(value if is_structural_zero(value) else _values([SQRT], {"z": value})[0] for value in z)

    def doubled(self, z: Vector) -> Vector:
        """z + z̄, a real vector."""
        return Vector((value.re if isinstance(value, Pair) else value) * 2.0 for value in z)

    @property
    def source(self) -> Vector:
        """Modes of the static source."""
        return self._transformed(self.form.static, {**self.parameters, **self.form.physical}, {})

    def past(self, steps: int) -> Vector:
        """N at the start of a step before this one."""
        return self.history[steps - 1]

    def nonlinear(self, t: Any, u: Vector) -> Vector:
        """Modes of N(t, u), u given by its modes; the first of a step is kept for `past`."""
        form = self.form
        known: dict[Any, Any] = {**self.parameters, **form.physical, "t": t}
        for name, (i, axis) in form.needed.items():
            modes = u[i] if axis is None else Pair(ZERO, self._wavenumber(i, axis)) * u[i]
            known[name] = form.transforms[i].inverse(self.joined(modes))
        total = self._transformed(form.terms, known, form.takers)
        if form.mixed is not None:
            total = total + self._linear(u) + self.source
        self.first = self.first or total
        return total

    def _linear(self, u: Vector) -> Vector:
        """Σ a_ij u_j of each state."""
        assert self.form.mixed is not None
        total = Vector([ZERO] * len(u))
        for i, row in enumerate(self.form.mixed.linear):
            for j, a in row.items():
                total[i] = add(total[i], u[j] * self._number(a))
        return total

    def _number(self, node: Expr) -> Any:
        """The value of an expression of parameters."""
        return _values([node], self.parameters)[0]

    def parted(self, i: int, modes: NDArray[np.float64]) -> Any:
        """Modes of state i as the method sees them."""
        return Pair(modes[..., ::2], modes[..., 1::2]) if self.form.is_paired(i) else modes

    def joined(self, modes: Any) -> NDArray[np.float64]:
        """Modes as an array, from what the method sees: the opposite of `parted`."""
        if not isinstance(modes, Pair):
            return np.asarray(modes)
        re, im = np.broadcast_arrays(modes.re, modes.im)
        return np.stack([re, im], axis=-1).reshape(*re.shape[:-1], -1)

    def _transformed(self, terms: Mapping[Place, Expr], known: dict[Any, Any],
                     takers: Mapping[int, tuple[tuple[int, Expr], ...]]) -> Vector:
        form = self.form
        total = Vector([ZERO] * len(form.linear))
        for (i, axis), value in zip(terms, _values(list(terms.values()), known), strict=True):
            shape = np.broadcast_shapes(np.shape(value), (1, *form.model.grid.shape))
            modes = self.parted(i, form.transforms[i].forward(np.broadcast_to(value, shape)))
            if axis is not None:
                total[i] = add(total[i], -(Pair(ZERO, self._wavenumber(i, axis)) * modes))
                continue
            for j, factor in takers.get(i, ((i, const(1.0)),)):
                total[j] = add(total[j], modes * self._number(factor))
        return total

    def _eigenvalue(self, i: int) -> Any:
        real = self._modal(i, self.form.linear[i])
        if not self.form.is_paired(i):
            return real
        spin = self.form.spin[i]
        return Pair(real, ZERO if is_zero(spin) else self._modal(i, spin))

    def _wavenumber(self, i: int, axis: str) -> NDArray[np.float64]:
        return self.form.modal[wavenumber_name(axis, self.form.tag(i))][..., ::2]

    def _modal(self, i: int, node: Expr) -> Any:
        """The value of an expression of arrays over the modal space of state i."""
        cut = (..., slice(None, None, 2 if self.form.is_paired(i) else 1))
        return _values([node], {**self.parameters, **{name: a[cut] for name, a in self.form.modal.items()}})[0]


def _phi(order: int, z: Any) -> Any:
    if not isinstance(z, Pair):
        return _values([PHI[order]], {"z": z})[0]
    if is_structural_zero(z.im):
        return Pair(_values([PHI[order]], {"z": z.re})[0])
    template = COMPLEX_PHI[order]
    return Pair(*_values([template.re, template.im], {"re z": z.re, "im z": z.im}))


def _values(nodes: Sequence[Expr], known: Mapping[Any, Any]) -> list[Any]:
    with np.errstate(all="ignore"):
        return evaluate(nodes, known, NUMPY)
