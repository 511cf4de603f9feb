"""Ensembles sampled from exact transition laws, from one save time to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.arithmetic import NUMPY
from sdesim.boundaries import Absorbing
from sdesim.calculus import free_symbols
from sdesim.gamma import gamma
from sdesim.methods.exact_draws import Draws, Transition
from sdesim.methods.method import Method
from sdesim.models.sde import SDE
from sdesim.streams import seed_key

Array = NDArray[np.float64]


def sample(
    model: SDE, method: Method, initial: Array, parameters: Mapping[str, Any], times: Array, *, seed: int,
    members: NDArray[np.int64], backend: str = "kernel", threads: int = 1,
) -> Array:  # fmt: skip
    """States (time, state, member) at the times, the first of which is the start.

    With bounds that absorb, `initial` and the result have the time of exit as a last state. `backend` "kernel" runs
    generated machine code, "cuda" the same on a GPU, "numpy" the reference; all give the same bits. Transition j of a
    member has random numbers of its own, so that a member's values depend on its number and on the times before, not
    on other members.
    """
    out = np.empty((len(times), *initial.shape))
    out[0] = initial
    laws = _laws(model, method, parameters, out, times)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        advance = _engine(backend, seed, np.ascontiguousarray(members, np.int64), threads, pool)
        for j, law in enumerate(laws):
            advance(j, law, out[j], out[j + 1])
    return out


def _laws(
    model: SDE, method: Method, parameters: Mapping[str, Any], states: Array, times: Array
) -> Iterator[Transition]:
    """The transition from each time to the next, given the states at the first of them."""
    law: Any = None
    key, steady = None, _steady(model)
    if len(times) > 1:  # what ends too early is said before any work
        method.step(model, parameters, states[0], float(times[-2]), float(times[-1] - times[-2]))
    for j, (t, h) in enumerate(zip(times[:-1], np.diff(times), strict=True)):
        if key != (here := (h, 0.0 if steady else t)):
            law, key = method.step(model, parameters, states[j], float(t), float(h)), here
        yield law


def _steady(model: SDE) -> bool:
    """Whether the law of a transition does not depend on when it begins."""
    absorbs = any(isinstance(bound, Absorbing) for bound in model.bounds.values())
    return not absorbs and "t" not in free_symbols(*model.drift.values(), *model.noise.values())


def _engine(
    backend: str, seed: int, members: NDArray[np.int64], threads: int, pool: ThreadPoolExecutor
) -> Callable[[int, Transition, Array, Array], None]:
    """What puts the states after transition j of a law, from those before it, into an array."""
    if backend == "numpy":
        return lambda j, law, x, out: reference(law, j, x, seed, members, out)
    if backend == "cuda":
        from sdesim.kernels.exact_cuda import Device

        return Device(seed, members)
    from sdesim.kernels.exact_llvm import advance

    size = max(512, -(-len(members) // (4 * threads)))
    shares = [slice(k, min(k + size, len(members))) for k in range(0, len(members), size)]

    def kernel(j: int, law: Transition, x: Array, out: Array) -> None:
        run = advance(law, j, x, seed, members, out)
        list(pool.map(run, shares))

    return kernel


def reference(law: Transition, j: int, x: Array, seed: int, members: NDArray[np.int64], out: Array) -> None:
    """Transition j in NumPy: the meaning of the generated kernels, bit for bit."""
    who, step, key = members.astype(np.uint64), np.uint64(j), seed_key(seed)
    draws = Draws(NUMPY, who, step, key, lambda shape: gamma(shape, who, step, key))
    with np.errstate(all="ignore"):
        for row, value in zip(out, law.rule(NUMPY, list(x), law.coefficients, draws), strict=True):
            row[:] = value
