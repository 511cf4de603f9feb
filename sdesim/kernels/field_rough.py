"""Where a field begins with a jump: the first steps of stabilised methods.

The polynomial of a long RKL2 step has no negative weight inside the grid (Meyer, Balsara & Aslam 2014, section 3), but
beside an edge that holds a value, whose ghost is 2g − u, its weights of a cell and of its mirror image are subtracted,
and what is rough there turns negative from hρ ≈ 2.4 on. Steps that begin at hρ = 0.8 and grow by a fifth each keep all
weights of the product at or above 0, to rounding, in one and two dimensions (above −10⁻⁴ in three, in a corner); then
the field is smooth over the cells that a long step reaches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.coefficients import of_member
from sdesim.kernels.field_plan import ceiling
from sdesim.kernels.field_reference import Reference
from sdesim.kernels.field_static import static_arrays
from sdesim.methods.field import FieldMethod, Spectrum
from sdesim.methods.vector import Vector, is_structural_zero
from sdesim.stencils import Stencil

Array = NDArray[np.float64]
_FIRST = 0.8  # hρ
_ROUGH = 0.5  # of the field's range: what one step would change at most, were its slope to last


def first_steps(stencil: Stencil, method: FieldMethod, parameters: Mapping[str, Any], initial: Array, times: Array,
                bounds: Sequence[Spectrum]) -> list[float | None]:
    """The first step of each member whose field is rough for the step that a stabilised method chooses, else None."""
    if method.stages is None or len(times) < 2:
        return [None] * len(bounds)
    found: list[float | None] = []
    for m, spectrum in enumerate(bounds):
        h, rate = ceiling(method, spectrum, times.tolist()), spectrum.diffusion + spectrum.reaction
        own = of_member(parameters, m)
        rough = h * rate > _FIRST and _is_rough(stencil, own, initial[:, m], float(times[0]), h)
        found.append(_FIRST / rate if rough else None)
    return found


def _is_rough(stencil: Stencil, parameters: Mapping[str, Any], u: Array, t: float, h: float) -> bool:
    """Whether some state would change in a step by more than a part of its range."""
    statics = {name: values[0] for name, values in static_arrays(stencil, parameters).items()}
    with np.errstate(all="ignore"):
        slopes = Reference(stencil, parameters, statics).f(t, Vector(list(u)))
    changes = [(h * np.max(np.abs(f)), np.ptp(values)) for f, values in zip(slopes, u, strict=True)
               if not is_structural_zero(f)]
    return any(change > _ROUGH * extent for change, extent in changes)
