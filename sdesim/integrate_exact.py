"""Ensembles sampled from exact transition laws, from one save time to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.methods.exact import Draws
from sdesim.methods.method import Method
from sdesim.models.sde import SDE
from sdesim.streams import Purpose, normals, uniforms

_WORDS = 2**8  # uniform numbers that a transition may use
_MOST = 2**32 // _WORDS


def sample(
    model: SDE, method: Method, initial: NDArray[np.float64], parameters: Mapping[str, Any],
    times: NDArray[np.float64], *, seed: int, members: NDArray[np.int64],
) -> NDArray[np.float64]:  # fmt: skip
    """States (time, state, member) at the times, the first of which is the start.

    Transition j of a member uses the normals of step j and uniform numbers of its own, so that a member's values
    depend on its number and on the times before, not on other members. Raises ValueError for more than 2²⁴ times.
    """
    if len(times) > _MOST:
        raise ValueError(f"exact samples at most {_MOST} times, got {len(times)}; choose fewer")
    out = np.empty((len(times), *initial.shape))
    out[0], laws = initial, {}
    for j, h in enumerate(np.diff(times)):
        if h not in laws:
            laws = {h: method.step(model, parameters, initial, float(h))}
        draws = Draws(
            lambda k, j=j: normals(seed, members, j, k),  # type: ignore[misc]
            lambda k, j=j: uniforms(seed, members, j * _WORDS + k, Purpose.AUXILIARY),  # type: ignore[misc]
        )
        with np.errstate(all="ignore"):
            out[j + 1] = laws[h](out[j], draws)
    return out
