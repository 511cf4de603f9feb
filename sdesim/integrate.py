"""The time loop for finite-dimensional SDEs: the NumPy reference, and the same loop inside the generated kernels.

Steps lie on the grid t₀ + s·h whatever the save times are, so a member's path does not depend on when it is looked
at. A save time between two steps gets the law of the method's own partial step: with θ the fraction of the step, W(θ)
is drawn from the Brownian bridge to that step's increment,

    W(θ) = W(θ₀) + r (W(1) − W(θ₀)) + q ζ √h,   r = (θ − θ₀)/(1 − θ₀),   q² = (θ − θ₀)(1 − θ)/(1 − θ₀),

θ₀ the previous save in the same step; the method then takes a step of θh with that increment, on a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdesim.kernels.sde_trace import SDETrace, trace
from sdesim.methods.bound import BoundSDE, Wiener
from sdesim.methods.method import Method
from sdesim.methods.vector import Vector, is_structural_zero
from sdesim.models.sde import SDE
from sdesim.streams import Purpose, normals, seed_key

if TYPE_CHECKING:
    from sdesim.kernels.sde_llvm import SDEKernel

_ON_GRID = 1e-9  # save times closer to a step than this fraction of it count as on it
_MAX_PER_STEP = 2**16  # saves within one step that have numbers of their own


@dataclass(frozen=True)
class SDEResult:
    """States (time, state, member), and a status for each member: 0 finite throughout, 1 not."""

    states: NDArray[np.float64]
    status: NDArray[np.int8]


@dataclass(frozen=True)
class SavePlan:
    """When to save: after `due[j]` whole steps, and for a save between steps the weights of the bridge.

    Row j of `bridge` is (r, q, 1/√θ, θh, √(θh), ordinal of the save within its step); θh = 0 on the grid.
    """

    due: NDArray[np.int64]
    bridge: NDArray[np.float64]


def save_plan(times: NDArray[np.float64], h: float) -> SavePlan:
    """The plan for save times with steps of h from times[0]. Raises ValueError for too many within one step.

    >>> save_plan(np.array([0.0, 0.5, 1.0]), 0.5).due.tolist()
    [0, 1, 2]
    """
    position = (times - times[0]) / h
    near = np.maximum(_ON_GRID, 4.0 * np.spacing(position))  # after 10⁷ steps, round-off in the times is larger
    due = np.floor(position + near).astype(np.int64)
    theta = np.where(position - due > near, position - due, 0.0)
    bridge = np.zeros((len(times), 6))
    previous, ordinal = 0.0, 0
    for j, th in enumerate(theta):
        if j == 0 or due[j] != due[j - 1]:
            previous, ordinal = 0.0, 0
        if ordinal == _MAX_PER_STEP:
            raise ValueError(f"more than {_MAX_PER_STEP} save times lie within one step of {h:g}; choose a smaller dt")
        if th > 0.0:
            r = (th - previous) / (1.0 - previous)
            q = np.sqrt(max(0.0, (th - previous) * (1.0 - th) / (1.0 - previous)))
            bridge[j] = r, q, 1.0 / np.sqrt(th), th * h, np.sqrt(th * h), ordinal
            previous, ordinal = float(th), ordinal + 1
    return SavePlan(due, bridge)


class _Reference:
    """The loop in NumPy, on all members at once: the meaning of the generated kernels, bit for bit."""

    def __init__(self, model: SDE, method: Method, parameters: Mapping[str, Any], seed: int, members: Any) -> None:
        self.m = BoundSDE(model, method.calculus or "ito", parameters)
        self.method, self.seed, self.members = method, seed, members

    def step(self, y: Vector, t: float, h: float, root: float, z: Sequence[Any]) -> Vector:
        dW = Vector(np.asarray(zc) * root for zc in z)
        stepped = self.method.step(self.m, np.float64(t), y, np.float64(h), Wiener(dW))
        count = len(self.members)
        return Vector(np.broadcast_to(0.0 if is_structural_zero(v) else v, count) for v in stepped)

    def run(self, initial: NDArray[np.float64], t0: float, h: float, plan: SavePlan) -> NDArray[np.float64]:
        channels = range(len(self.m.channels))
        y, s, root = Vector(initial), 0, np.sqrt(h)
        out = np.empty((len(plan.due), *initial.shape))
        path: list[Any] = []
        for j, (due, weights) in enumerate(zip(plan.due, plan.bridge, strict=True)):
            while s < due:
                z = [normals(self.seed, self.members, s, c) for c in channels]
                y, s = self.step(y, t0 + s * h, h, root, z), s + 1
            if weights[3] == 0.0:
                out[j] = y
                continue
            path, partial = self.bridge(path, s, weights)
            out[j] = self.step(y, t0 + s * h, weights[3], weights[4], partial)
        return out

    def bridge(self, path: list[Any], s: int, weights: NDArray[np.float64]) -> tuple[list[Any], list[Any]]:
        r, q, inverse, *_, ordinal = weights
        values = []
        for c in range(len(self.m.channels)):
            z = normals(self.seed, self.members, s, c)
            before = np.zeros_like(z) if ordinal == 0 else path[c]
            zeta = normals(self.seed, self.members, 2 * s, int(ordinal) << 16 | c, Purpose.BRIDGE)
            values.append((before + r * (z - before)) + q * zeta)
        return values, [w * inverse for w in values]


@lru_cache(maxsize=64)
def _kernel(tr: SDETrace) -> SDEKernel:
    from sdesim.kernels.sde_llvm import SDEKernel

    return SDEKernel(tr)


class _Blocks:
    """The generated kernel on blocks of members, each block through every save in one call."""

    def __init__(
        self, tr: SDETrace, initial: NDArray[np.float64], parameters: Mapping[str, Any], seed: int, members: Any
    ) -> None:
        from sdesim.kernels.sde_llvm import BLOCK

        self.kernel, self.block = _kernel(tr), BLOCK
        self.initial, self.members = initial, np.ascontiguousarray(members, np.int64)
        self.varying = [np.broadcast_to(np.asarray(parameters[n], float), len(members)) for n in tr.varying]
        uniform = [0.0 if n in tr.varying else float(parameters[n]) for n in tr.parameters]
        self.uniform = np.array([*uniform, 0.0])
        self.key = [int(k) for k in seed_key(seed)]

    def run(self, start: int, t0: float, h: float, plan: SavePlan, out: NDArray[np.float64]) -> None:
        stop = min(start + self.block, len(self.members))
        n, d = stop - start, self.kernel.trace.dimension
        state, scratch = np.zeros((d, self.block)), np.zeros((self.kernel.scratch_rows, self.block))
        varying = np.zeros((max(1, len(self.varying)), self.block))
        state[:, :n] = self.initial[:, start:stop]
        for row, values in zip(varying, self.varying, strict=False):
            row[:n] = values[start:stop]
        arrays = (state, scratch, varying, self.uniform)
        self.kernel.run(
            self.members[start:].ctypes.data, n, *(a.ctypes.data for a in arrays), out.ctypes.data + 8 * start,
            len(self.members), len(plan.due), plan.due.ctypes.data, 0, plan.bridge.ctypes.data, t0, h,
            float(np.sqrt(h)), *self.key,
        )  # fmt: skip


def integrate(
    model: SDE,
    method: Method,
    initial: NDArray[np.float64],
    parameters: Mapping[str, Any],
    times: NDArray[np.float64],
    dt: float,
    *,
    seed: int,
    members: NDArray[np.int64],
    backend: str = "kernel",
    threads: int = 1,
    progress: Any = None,
) -> SDEResult:
    """Integrate an ensemble from times[0] through the save times with steps of dt.

    `initial` is (state, member); a parameter is a number or an array over members; `members` are the members' numbers,
    which with the seed fix the noise. `backend` "kernel" runs generated machine code, "cuda" the same on a GPU, "numpy"
    the reference; all give the same bits, in any blocking. `progress(n)` is called as blocks of n members end.
    """
    plan = save_plan(times, dt)
    t0 = float(times[0])
    if backend == "numpy":
        with np.errstate(all="ignore"):
            states = _Reference(model, method, parameters, seed, members).run(initial, t0, dt, plan)
    elif backend == "cuda":
        from sdesim.kernels.sde_device import run_on_gpu

        varying = frozenset(n for n, v in parameters.items() if np.ndim(v))
        tr = trace(model, method, varying)
        states = run_on_gpu(
            tr, initial, parameters, t0=t0, h=dt, due=plan.due, bridge=plan.bridge, seed=seed, members=members
        )
    else:
        states = np.empty((len(times), *initial.shape))
        varying = frozenset(n for n, v in parameters.items() if np.ndim(v))
        blocks = _Blocks(trace(model, method, varying), initial, parameters, seed, members)
        starts = range(0, len(members), blocks.block)
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for start, _ in zip(starts, pool.map(lambda b: blocks.run(b, t0, dt, plan, states), starts), strict=True):
                if progress is not None:
                    progress(min(blocks.block, len(members) - start))
    finite = np.isfinite(states).all(axis=(0, 1))
    return SDEResult(states, np.where(finite, 0, 1).astype(np.int8))
