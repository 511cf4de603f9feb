"""Ensembles sampled from exact transition laws, from one save time to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.boundaries import Absorbing
from sdesim.calculus import free_symbols
from sdesim.methods.exact_draws import Draws
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

    With bounds that absorb, `initial` and the result have the time of exit as a last state.

    Transition j of a member uses the normals of step j and uniform numbers of its own, so that a member's values
    depend on its number and on the times before, not on other members. Raises ValueError for more than 2²⁴ times.
    """
    if len(times) > _MOST:
        raise ValueError(f"exact samples at most {_MOST} times, got {len(times)}; choose fewer")
    out = np.empty((len(times), *initial.shape))
    law: Any = None
    out[0], key, steady = initial, None, _steady(model)
    if len(times) > 1:  # what ends too early is said before any work
        method.step(model, parameters, initial, float(times[-2]), float(times[-1] - times[-2]))
    for j, (t, h) in enumerate(zip(times[:-1], np.diff(times), strict=True)):
        if key != (here := (h, 0.0 if steady else t)):
            law, key = method.step(model, parameters, initial, float(t), float(h)), here
        draws = Draws(
            lambda k, j=j: normals(seed, members, j, k),  # type: ignore[misc]
            lambda k, j=j: uniforms(seed, members, j * _WORDS + k, Purpose.AUXILIARY),  # type: ignore[misc]
        )
        with np.errstate(all="ignore"):
            out[j + 1] = law(out[j], draws)
    return out


def _steady(model: SDE) -> bool:
    """Whether the law of a transition does not depend on when it begins."""
    absorbs = any(isinstance(bound, Absorbing) for bound in model.bounds.values())
    return not absorbs and "t" not in free_symbols(*model.drift.values(), *model.noise.values())
