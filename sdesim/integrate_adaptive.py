"""The time loop with steps that follow an error estimate: the NumPy reference, and the same loop in generated kernels.

Root steps of length H lie on the grid t₀ + s·H whatever the save times are; within each the steps are nodes of a binary
tree, h = 2⁻ˡH, driven by the path of `kernels.sde_tree`. A node is taken once as a whole and once as two halves, whose
result goes on; with x, x̂ the two results what is aimed at is

    mean over the states of ((x̂ − x)/(atol + rtol·|x|))²  ≤  h/H .

Local errors of a martingale add up in the mean square, so a bound on the error of one root step is shared out in
proportion to h: the error at a fixed time is proportional to the tolerance. A rejected node is halved, and both halves
must be passed: the path is known at no time that is not a step's end (no skip; Foster & Jelinčič 2023,
arXiv:2311.14201), so what was seen of the path when a step was rejected cannot bias it. After easy steps the next may
be twice as long, where its node begins there. `methods.adaptive` says which methods converge under such steps.

So that a look at a step's own increment decides as little as may be, the length comes from the errors before: from the
largest, forgotten by and by, since x̂ − x may vanish by chance. A step whose own error is up to four times what is aimed
at is still accepted. The first step of all is one that was found short enough three times over.

Bounds take no part in the choice of steps: the error is that of the path as if there were none, and what they make of
both halves (`methods.bounded`) comes after, with random numbers of the nodes' own; given the path at the ends of the
halves, what lies between is still a Brownian bridge. Their error is of weak order 1 in the steps.

A save time within a step has a partial step of its half, with the path down the tree to that time: saves take no part.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdesim.arithmetic import NUMPY
from sdesim.kernels.sde_hazard import EVENT_LEVEL, happened
from sdesim.kernels.sde_saves import Saves, save_points
from sdesim.kernels.sde_trace import SDETrace, trace, varying_names
from sdesim.kernels.sde_tree import (
    ALLOWED,
    DOUBT,
    FINEST,
    MEMORY,
    descent,
    excess,
    instants,
    judged,
    place,
    split,
    wall_word,
    whole,
    word,
)
from sdesim.methods.adaptive import Control
from sdesim.methods.bound import BoundSDE, Wiener
from sdesim.methods.method import Method
from sdesim.methods.vector import Vector, is_structural_zero
from sdesim.models.sde import SDE
from sdesim.streams import Purpose, normal_pair, seed_key

if TYPE_CHECKING:
    from sdesim.kernels.sde_adaptive import AdaptiveKernel

_BLOCK = 8192  # members in one call of a kernel
STEP_LIMIT = 2
"""Status of a member that needs steps below 2⁻³⁰ of the root step."""


@dataclass(frozen=True)
class AdaptiveResult:
    """States (time, state, member); status: 0 finite, 1 not, 2 no step small enough; accepted and rejected steps."""

    states: NDArray[np.float64]
    status: NDArray[np.int8]
    steps: NDArray[np.int64]


class _Reference:
    """The loop in NumPy, on all members at once: the meaning of the generated kernels, bit for bit."""

    def __init__(
        self, model: SDE, method: Method, parameters: Mapping[str, Any], control: Control, seed: int, members: Any,
        t0: float, H: float,
    ) -> None:  # fmt: skip
        self.m = BoundSDE(model, method.calculus or "ito", parameters)
        self.method, self.parameters, self.control = method, parameters, control
        traced = trace(model, method, frozenset(), hazard=True)
        self.chances, self.jumps = traced.chances, traced.jumps
        self.events = np.zeros(len(members), np.uint64)
        self.key, self.t0, self.H = seed_key(seed), np.float64(t0), np.float64(H)
        self.members, self.channels = np.asarray(members, np.uint64), range(len(self.m.channels))
        n, c = len(members), len(self.m.channels)
        self.s, self.number, self.level = np.zeros(n, np.int64), np.ones(n, np.int64), np.zeros(n, np.int64)
        self.wanted, self.x, self.w = np.zeros(n, np.int64), np.zeros(n), np.ones(n)
        self.node, self.halves = np.zeros((2, c, n)), np.zeros((4, c, n))
        self.rough, self.doubt = np.zeros(n), np.full(n, DOUBT)
        self.waiting = np.zeros((FINEST + 2, 2, c, n))  # the right halves still to be taken, by level

    def counter(self, i: Any, number: Any, c: int) -> list[Any]:
        return [self.members[i], self.s[i].astype(np.uint64), np.asarray(number).astype(np.uint64), np.uint64(word(c))]

    def root(self, i: Any) -> None:
        """Begin a root step with the numbers of a fixed step of that size."""
        steps = self.s[i].astype(np.uint64)
        for c in self.channels:
            for k, purpose in enumerate((Purpose.STEP, Purpose.AUXILIARY)):
                at = [self.members[i], steps >> np.uint64(1), np.uint64(c), np.uint64(purpose)]
                first, second = normal_pair(NUMPY, at, self.key)
                self.node[k, c, i] = np.where(steps & np.uint64(1), second, first)

    def descend(self, i: Any) -> None:
        """Halve the nodes until they are of the level wanted; then their halves are at hand."""
        while i.size:
            for c in self.channels:
                at = self.counter(i, self.number[i], c)
                self.halves[:, c, i] = split(NUMPY, (self.node[0, c, i], self.node[1, c, i]), at, self.key)
            i = i[self.level[i] < self.wanted[i]]
            self.down(i)

    def down(self, i: Any) -> None:
        """Go on with the left half; the right one waits."""
        self.level[i] += 1
        self.number[i] *= 2
        self.w[i] *= 0.5
        self.node[..., i] = self.halves[:2][..., i]
        self.waiting[self.level[i], :, :, i] = np.moveaxis(self.halves[2:, :, i], -1, 0)

    def up(self, i: Any) -> Any:
        """Pass the nodes, go on with those that wait next; the members that begin a new root step."""
        self.x[i] += self.w[i]
        self.number[i] += 1
        while (even := i[self.number[i] % 2 == 0]).size:
            self.number[even] //= 2
            self.level[even] -= 1
            self.w[even] *= 2.0
        new = i[self.level[i] < 0]
        self.s[new] += 1
        self.x[new], self.w[new], self.level[new] = 0.0, 1.0, 0
        inside = np.setdiff1d(i, new)
        self.node[..., inside] = np.moveaxis(self.waiting[self.level[inside], :, :, inside], 0, -1)
        return new

    def step(self, i: Any, y: Any, x: Any, w: Any, node: Any) -> NDArray[np.float64]:
        """The method's step from x root steps into this one, w long, with the normals (z, a) of a node."""
        t, h, root = instants(NUMPY, self.s[i].astype(float), x, w, self.t0, self.H)
        self.m.parameters = {name: v[i] if np.ndim(v) else v for name, v in self.parameters.items()}
        dW = Vector(node[0][c] * root for c in self.channels)
        wiener = Wiener(dW, root, lambda kind, c: node[1][c])
        stepped = self.method.step(self.m, t, Vector(y), h, wiener)
        return np.array([np.broadcast_to(0.0 if is_structural_zero(v) else v, i.shape) for v in stepped])

    def wall(self, i: Any, y: Any, end: Any, x: Any, w: Any, number: Any) -> Any:
        """What bounds make of a step from y to `end`, of the node with this number or at its beginning."""
        if self.method.push is None:
            return end
        t, h, _ = instants(NUMPY, self.s[i].astype(float), x, w, self.t0, self.H)
        place = [self.members[i], self.s[i].astype(np.uint64), np.asarray(number).astype(np.uint64)]

        def draw(kind: str, which: int) -> Any:
            if which not in self.chances:
                return np.float64(0.5)  # multiplied by nothing
            return normal_pair(NUMPY, [*place, np.uint64(wall_word(self.chances.index(which)))], self.key)[0]

        self.m.parameters = {name: v[i] if np.ndim(v) else v for name, v in self.parameters.items()}
        return np.array(self.method.push(self.m, t, Vector(y), Vector(end), h, draw))

    def after_events(self, i: Any, y: Any, x: Any) -> Any:
        """The states x root steps into this one, after the event that has come."""
        if self.jumps is None:
            return y
        t = instants(NUMPY, self.s[i].astype(float), x, np.float64(1.0), self.t0, self.H)[0]
        env: dict[Any, Any] = {f"y:{j}": row for j, row in enumerate(y)} | {"t:": t}
        env |= {f"p:{name}": v[i] if np.ndim(v) else v for name, v in self.parameters.items()}
        ends = happened(NUMPY, self.jumps, env, self.members[i], self.events[i], self.key)
        return np.array([np.broadcast_to(v, i.shape) for v in ends])

    def partial(self, i: Any, y: Any, middle: Any, part: Any) -> NDArray[np.float64]:
        """The state `part` of a root step in, within the present step: a partial step of one of its halves."""
        w = self.w[i] * 0.5
        right = part > self.x[i] + w
        start = np.where(right, self.x[i] + w, self.x[i])
        length = ahead = part - start
        number = half = 2 * self.number[i] + right
        nodes = [tuple(np.where(right, self.halves[2 + k, c, i], self.halves[k, c, i]) for k in (0, 1))
                 for c in self.channels]  # fmt: skip
        paths = [(np.zeros(i.shape), np.zeros(i.shape)) for _ in self.channels]
        while (ahead < w).any():
            for c in self.channels:
                at = self.counter(i, number, c)
                nodes[c], paths[c] = descent(NUMPY, nodes[c], paths[c], w, ahead, at, self.key)
            number, w, ahead = place(NUMPY, number.astype(np.uint64), w, ahead)
        ends = [whole(NUMPY, paths[c], nodes[c], w, length) for c in self.channels]
        own = [[end[k] for end in ends] for k in (0, 1)]
        before = np.where(right, middle, y)
        end = np.asarray(self.wall(i, before, self.step(i, before, start, length, own), start, length, half))
        return np.asarray(self.after_events(i, end, start + length))

    def run(self, initial: NDArray[np.float64], saves: Saves, out: NDArray[np.float64]) -> tuple[Any, Any]:
        """Fill `out` after the start; (whether no step was small enough, accepted and rejected steps)."""
        n, control, y = initial.shape[1], self.control, initial.copy()
        next_save = np.full(n, saves.first)
        stuck, steps = np.zeros(n, bool), np.zeros((2, n), np.int64)
        active = np.arange(n if saves.first < len(saves.root) else 0)
        self.root(active)
        while active.size:
            i = active
            self.descend(i)
            x, w, half = self.x[i], self.w[i], self.w[i] * 0.5
            coarse = self.step(i, y[:, i], x, w, self.node[..., i])
            middle = self.step(i, y[:, i], x, half, self.halves[:2, :, i])
            fine = self.step(i, middle, x + half, half, self.halves[2:, :, i])
            before, rough, better = (list(v[: len(control.atol)]) for v in (y[:, i], coarse, fine))
            error = excess(NUMPY, before, rough, better, w, control.rtol, control.atol)
            if self.method.push is not None:
                middle = self.wall(i, y[:, i], middle, x, half, 2 * self.number[i])
                fine = self.step(i, middle, x + half, half, self.halves[2:, :, i])
                fine = self.wall(i, middle, fine, x + half, half, 2 * self.number[i] + 1)
            share, doubts = control.shares[self.level[i]], self.doubt[i] > 0
            found, reckoned, self.rough[i] = judged(NUMPY, error, self.rough[i], share, control.cap)
            came = np.zeros(len(i), bool) if self.jumps is None else fine[-1] <= 0.0
            fine = self.after_events(i, fine, x + w)
            short = np.where(doubts, reckoned, found / ALLOWED) <= 1.0
            good = short & ~doubts & (~came | (self.level[i] >= EVENT_LEVEL))
            self.doubt[i] = np.where(short, self.doubt[i] - doubts, DOUBT * doubts)
            self._save(i[good], y, middle[:, good], fine[:, good], next_save, saves, out)
            accepted, rejected = i[good], i[~good]
            self.events[i[good & came]] += np.uint64(1)
            steps[0, accepted] += 1
            steps[1, rejected] += 1
            y[:, accepted] = fine[:, good]
            self.wanted[i] = self.next_level(i, reckoned, good)
            self.root(self.up(accepted))
            stuck[rejected[self.level[rejected] >= FINEST]] = True
            self.down(rejected[~stuck[rejected]])
            active = i[~stuck[i] & (next_save[i] < len(saves.root))]
        return stuck, steps

    def next_level(self, i: Any, reckoned: Any, good: Any) -> Any:
        """The level of the next step, at least one finer after one that is rejected."""
        likely, control = reckoned * MEMORY, self.control
        finer = np.where(good, (likely > 1.0) * 1 - (reckoned <= control.grow), 1) + (likely > control.shrink)
        return np.minimum(self.level[i] + finer, FINEST)

    def _save(self, i: Any, y: Any, middle: Any, fine: Any, next_save: Any, saves: Saves, out: Any) -> None:
        """Every save that lies in the accepted steps of the members i."""
        while i.size:
            j = np.minimum(next_save[i], len(saves.root) - 1)
            end = self.x[i] + self.w[i]
            due = (next_save[i] < len(saves.root)) & (saves.root[j] == self.s[i]) & (saves.part[j] <= end)
            i, j, middle, fine, end = i[due], j[due], middle[:, due], fine[:, due], end[due]
            inside = saves.part[j] < end
            k = i[inside]
            value = fine.copy()
            if k.size:
                value[:, inside] = self.partial(k, y[:, k], middle[:, inside], saves.part[j[inside]])
            out[j, :, i] = value.T
            next_save[i] += 1


@lru_cache(maxsize=64)
def _kernel(tr: SDETrace) -> AdaptiveKernel:
    from sdesim.kernels.sde_adaptive import AdaptiveKernel

    return AdaptiveKernel(tr)


class _Blocks:
    """The generated kernel on blocks of members."""

    def __init__(
        self, tr: SDETrace, initial: NDArray[np.float64], parameters: Mapping[str, Any], control: Control, seed: int,
        members: NDArray[np.int64],
    ) -> None:  # fmt: skip
        self.kernel, self.control, self.members = _kernel(tr), control.numbers, np.ascontiguousarray(members, np.int64)
        varying = [np.broadcast_to(np.asarray(parameters[n], float), len(members)) for n in tr.varying]
        self.initial, self.varying = np.ascontiguousarray(initial), np.array([*varying, np.zeros(len(members))])
        uniform = [0.0 if n in tr.varying else float(parameters[n]) for n in tr.parameters]
        self.uniform, self.key = np.array([*uniform, 0.0]), [int(k) for k in seed_key(seed)]

    def all(self, t0: float, H: float, saves: Saves, out: Any, threads: int) -> tuple[Any, Any]:
        """Fill `out` after the start; (1 where no step was small enough, accepted and rejected steps)."""
        from sdesim.kernels.sde_lanes import LANES

        count = len(self.members)
        stuck, steps = np.zeros(count, np.int64), np.zeros((2, count), np.int64)
        if saves.first < len(saves.root):
            size = min(_BLOCK, max(LANES, -(-count // (4 * threads))))
            parts = [slice(i, min(i + size, count)) for i in range(0, count, size)]
            with ThreadPoolExecutor(max(1, threads)) as pool:
                list(pool.map(lambda p: self.run(p, t0, H, saves, out, stuck, steps), parts))
        return stuck, steps

    def run(self, part: slice, t0: float, H: float, saves: Saves, out: Any, stuck: Any, steps: Any) -> None:
        kernel = self.kernel
        # after the last save comes one that no step holds
        roots, parts = np.append(saves.root, -2), np.append(saves.part, 0.0)
        space = np.zeros(kernel.reals), np.zeros(kernel.words, np.int64), np.zeros(kernel.stack)
        per_member = [a.ctypes.data + 8 * part.start for a in (self.members, self.initial, self.varying)]
        kernel.run(
            part.stop - part.start, *per_member, *(a.ctypes.data for a in (*space, self.uniform, self.control)),
            out.ctypes.data + 8 * part.start, len(self.members), len(saves.root), saves.first, roots.ctypes.data,
            parts.ctypes.data, t0, H, *(a.ctypes.data + 8 * part.start for a in (stuck, steps)), *self.key,
        )  # fmt: skip


def integrate_adaptive(
    model: SDE,
    method: Method,
    initial: NDArray[np.float64],
    parameters: Mapping[str, Any],
    times: NDArray[np.float64],
    dt: float,
    control: Control,
    *,
    seed: int,
    members: NDArray[np.int64],
    backend: str = "kernel",
    threads: int = 1,
) -> AdaptiveResult:
    """Integrate an ensemble from times[0] through the save times with steps of at most dt that meet the tolerance.

    Arguments as for `integrate.integrate`; each member has steps of its own, which depend on nothing of the others and
    on no save time.
    """
    saves, t0 = save_points(times, dt), float(times[0])
    states = np.full((len(times), *initial.shape), np.nan)
    states[: saves.first] = initial
    if backend == "numpy":
        with np.errstate(all="ignore"):
            reference = _Reference(model, method, parameters, control, seed, members, t0, dt)
            stuck, steps = reference.run(initial, saves, states)
    elif backend == "cuda":
        from sdesim.kernels.sde_adaptive_cuda import adaptive_on_gpu, launch

        tr = trace(model, method, varying_names(parameters), hazard=True)
        stuck, steps = launch(adaptive_on_gpu(tr), tr, initial, parameters, control.numbers,
                              (saves.root, saves.part, saves.first), t0, dt, seed, members, states)  # fmt: skip
    else:
        tr = trace(model, method, varying_names(parameters), hazard=True)
        blocks = _Blocks(tr, initial, parameters, control, seed, members)
        stuck, steps = blocks.all(t0, dt, saves, states, threads)
    finite = np.isfinite(states).all(axis=(0, 1))
    status = np.where(stuck, STEP_LIMIT, np.where(finite, 0, 1)).astype(np.int8)
    return AdaptiveResult(states, status, steps)
