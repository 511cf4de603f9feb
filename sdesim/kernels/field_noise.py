"""The increments of the sources of a discrete model's noise, step after step, as arrays.

With z independent standard normals in the cells (of conserved noise on their faces) the increment of a step h is

    white         √(h/V) z         (√h z where cells differ)
    coloured      the same with T⁻¹ √S T z for z,    T the transform of the grid and the state's edges
                  (`sdesim.eigenmodes`), S the density of `sdesim.fields`; where cells differ √V T⁻¹ √S T z
    in time τ     the same with `field_memory`'s integrals for √h z.

The kernels draw z and keep the memories themselves; sheets of coloured normals they are given, many steps at once. On
coarser cells of one sheet the increment is the mean of the finer cells' (not of conserved noise, whose law would not be
kept).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdesim.eigenmodes import transform_of
from sdesim.fields import spectral_density
from sdesim.grids import Grid
from sdesim.kernels.field_memory import gains, stationary
from sdesim.kernels.field_reference import Sheet, wiener_root
from sdesim.kernels.spectral_noise import noise_kernel
from sdesim.models.pde import PDE
from sdesim.spectral import kinds_of
from sdesim.stencil_noise import Source
from sdesim.stencils import Stencil

Array: TypeAlias = NDArray[np.float64]
SHEET_VALUES, MOST_SHEETS = 1 << 16, 256


class Drive:
    """The increments of some members, called step after step.

    Args:
        stencil: the discrete model.
        seed: of the ensemble.
        members: their numbers.
        sheet: where the noise comes from, if not from the steps and cells themselves.
        fused: whether compiled code draws the normals, with the same bits, where no sheet says otherwise.
    """

    def __init__(self, stencil: Stencil, seed: int, members: ArrayLike, sheet: Sheet | None = None,
                 fused: bool = False) -> None:
        self.stencil, self.seed, self.members, self.sheet = stencil, seed, members, sheet or Sheet()
        self.fused = fused and self.sheet == Sheet()
        self.colours = {j: Colour(stencil.model, stencil.sources[j], self.sheet.cells) for j in stencil.sheets}
        self.memory: dict[int, tuple[float, Array]] = {}

    def __call__(self, number: int, h: float) -> dict[int, Array]:
        """The increments of step `number` by source, (members, *space)."""
        root = wiener_root(self.stencil, h)
        return {j: self._normals(j, number) * root if source.memory is None else
                self._remembering(j, source.memory, number, h) for j, source in enumerate(self.stencil.sources)}

    def _normals(self, j: int, number: int) -> Array:
        shape, which = self.stencil.model.grid.shape, self.stencil.sources[j].number
        if not self.fused:
            return self.sheet.normals(self.seed, self.members, number, which, shape, colour=self.colours.get(j))
        members = np.ascontiguousarray(self.members, np.int64)
        z = np.empty((members.size, *shape))
        noise_kernel()(z, self.seed, members, number, which)
        return self.colours[j](z) if j in self.colours else z

    def _remembering(self, j: int, tau: float, number: int, h: float) -> Array:
        z, scale = self._normals(j, number), self.stencil.noise_scale
        P, m = self.memory.get(j, (stationary([tau])[0], np.zeros(z.shape)))
        g, after = gains(h, tau, P)
        self.memory[j] = after, m * g.fade + z * g.gain
        return m * (g.past * scale) + z * (g.new * scale)


class Colour:
    """z ↦ T⁻¹ √S T z over the last axes, on the grid or on one of so many times the cells along each axis."""

    def __init__(self, model: PDE, source: Source, cells: int = 1) -> None:
        grid, term = model.grid, source.colour
        assert term is not None  # asked for of coloured sources only
        if cells > 1:
            grid = Grid(**{axis: (*grid.axis(axis)[:2], grid.axis(axis)[2] * cells) for axis in grid.axes})
        self.transform = transform_of(grid, kinds_of(model, model.state[source.state]))
        self.root = np.sqrt(spectral_density(self.transform, term.length, term.smoothness))
        self.size = None if grid.is_box else np.sqrt(grid.volumes)

    def __call__(self, z: Array, memory: dict[str, Array] | None = None) -> Array:
        """The coloured normals; in `memory` that is kept from call to call, the last of which is written over."""
        room = memory if memory is not None else {}
        if "z" not in room or room["z"].shape != z.shape:
            shape = (*z.shape[: z.ndim - self.transform.grid.dimension], *self.transform.modal_shape)
            room |= {"z": np.empty(z.shape), "like z": np.empty(z.shape), "modes": np.empty(shape),
                     "like modes": np.empty(shape)}
        waves = self.transform.white(z, room["modes"], room["like z"])
        waves *= self.root
        found = self.transform.inverse(waves, room["z"], room["like modes"])
        return np.asarray(found if self.size is None else found * self.size)


class Sheets:
    """Coloured normals in blocks of steps and members: a block goes through one transform.

    Every line of a transform has the same bits in any block.
    """

    def __init__(self, stencil: Stencil, seed: int) -> None:
        self.shape, self.seed = stencil.model.grid.shape, seed
        self.count = sheet_count(stencil)
        self.sources = [(stencil.sources[j].number, Colour(stencil.model, stencil.sources[j])) for j in stencil.sheets]
        self._memory: dict[str, Array] = {}
        self._first, self._block = 0, np.empty((0, 0, 0))

    def __call__(self, members: NDArray[np.int64], step: int, steps: int) -> Array:
        """z of the steps from `step` on, (sources, steps, members, *space)."""
        found, fill = np.empty((len(self.sources), steps, len(members), *self.shape)), noise_kernel()
        for (number, make), sheets in zip(self.sources, found):
            for k in range(steps):
                fill(sheets[k], self.seed, members, step + k, number)
            sheets[...] = make(sheets, self._memory)
        return found

    def of_step(self, members: NDArray[np.int64], step: int, end: int) -> Array:
        """z of one step for all members, (sources, members, *space), from a block that is kept; steps follow in turn.

        The run ends before step `end`.
        """
        k = step - self._first
        if step == 0 or k == self._block.shape[1]:
            most = max(1, self.count // len(members))
            self._first, k = step, 0
            self._block = self(members, step, min(most, end - step))
        return np.asarray(self._block[:, k])


def sheet_count(stencil: Stencil) -> int:
    """Steps in a block of sheets: as many as lie in the cache, at least one; 0 without coloured noise."""
    return min(MOST_SHEETS, max(1, SHEET_VALUES // stencil.model.grid.size)) if stencil.sheets else 0
