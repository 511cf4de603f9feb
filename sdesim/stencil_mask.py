"""The terms of a discrete right-hand side where cells are left out: an obstacle, land.

A face between a cell of the field and one that is left out is a wall. Beyond it a cell sees its own ghost, as at the
grid's edges: u + d ∂u/∂n at the distance d of the centre left out, where a·u + b·∂u/∂n = c holds at the wall, δ away:

    ∂u/∂n = (c − a u)/(a δ + b)     ⇒     ghost = A + B·u,   A = c d/(a δ + b),   B = 1 − a d/(a δ + b),

which on equal cells, d = 2δ, is the ghost of `sdesim.boundaries`. Nothing is carried through a wall: transport there is
zero, whatever the condition. Cells that are left out keep the value that they were given, and nobody reads it.
"""

from __future__ import annotations

from sdesim import boundaries
from sdesim.boundaries import Condition
from sdesim.calculus import free_symbols, substitute
from sdesim.expressions import Expr, const, is_zero, load, where
from sdesim.geometry import edge_spacing
from sdesim.stencil_terms import Offset, Static, Terms
from sdesim.walls import MASK


class MaskedTerms(Terms):
    """As `Terms`, on a grid with a mask."""

    def value(self, state: str, offset: Offset) -> Expr:
        """A state next to a cell; beyond a wall its ghost."""
        field = self.flows.get(state, state)
        if not any(offset):
            return load(field, offset)
        if sum(map(abs, offset)) > 1:
            raise ValueError(f"the terms of {state} reach further than the next cell, which a mask does not allow; "
                             "leave derivatives out of diffusivity and velocity, or the mask")
        axis = next(k for k, o in enumerate(offset) if o)
        face = offset if sum(offset) > 0 else self.here
        return where(self._open(state, axis, face), load(field, offset), self._ghost(state, axis, face))

    def known(self, name: str, offset: Offset) -> Expr:
        """A static array next to a cell; beyond a wall a coefficient field is as in the cell."""
        static = next(static for static, other in self.names.items() if other == name)
        if not any(offset) or not free_symbols(static.expression) & frozenset(self.model.fields):
            return load(name, offset)
        axis = next(k for k, o in enumerate(offset) if o)
        face = offset if sum(offset) > 0 else self.here
        return where(self._open("", axis, face, static), load(name, offset), load(name, self.here))

    def carried(self, state: str, axis: int, face: Offset, flux: Expr) -> Expr:
        """A flux of transport: nothing through a wall."""
        return where(self._open(state, axis, face), flux, 0.0)

    def inside(self, state: str, term: Expr) -> Expr:
        """A term in the cells of the field, zero in those left out."""
        if is_zero(term):
            return term
        wet = load(self._static(state, const(1.0), "wet", 0, 1.0), self.here)
        return where(wet > 0.5, term, 0.0)

    def _open(self, state: str, axis: int, face: Offset, like: Static | None = None) -> Expr:
        """Whether the low face of the cell at `face` is no wall."""
        if like is None:
            name = self._static(state, const(1.0), "open", axis, 1.0)
        else:
            name = self.names.setdefault(Static(const(1.0), "open", axis, 1.0, like.periodic), f"%{len(self.names)}")
        return load(name, face) > 0.5

    def _ghost(self, state: str, axis: int, face: Offset) -> Expr:
        """What a cell sees beyond a wall."""
        condition: Condition = self.model.boundary[state][MASK][0]
        if self.model.grid.is_even(self.axes[axis]):
            A, B = boundaries.ghost_expressions(condition, edge_spacing(self.model.grid, self.axes[axis])[0])
        else:
            a, b, c = boundaries.robin(condition)
            side = "low" if face == self.here else "high"
            reach = self._factor(state, f"reach_{side}", axis, self.here)
            ratio = self._factor(state, "distance", axis, face) / (a * reach + b)
            A, B = c * ratio, 1.0 - a * ratio
        return self._on_face(state, A, axis, face) + self._on_face(state, B, axis, face) * self.value(
            state, self.here)

    def _on_face(self, state: str, node: Expr, axis: int, face: Offset) -> Expr:
        """An expression of the coordinates on a wall, its static parts as arrays."""
        lowered = self._hoist(state, node, "point", axis)
        return substitute(lowered, {name: load(name, face) for name in self.names.values()})

