"""The time loop for finite-dimensional SDEs: the NumPy reference, and the same loop inside the generated kernels.

Steps lie on the grid t₀ + s·h whatever the save times are, so a member's path does not depend on when it is looked
at. A save time between two steps gets the law of the method's own partial step: with θ the fraction of the step, W(θ)
(and for methods of order 1½ the integral of W) is drawn from the bridge to that step's own increment, see
`kernels.sde_bridge`; the method then takes a step of θh with it, on a copy. Further random numbers of the step (signs)
serve its partial steps as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sdesim.arithmetic import NUMPY, NUMPY32, Machine
from sdesim.kernels.sde_bridge import COLUMNS, joint, single, weights
from sdesim.kernels.sde_jumps import apply_jumps
from sdesim.kernels.sde_segments import cut_step
from sdesim.kernels.sde_trace import SDETrace, trace, varying_names
from sdesim.methods.bound import BoundSDE, Wiener
from sdesim.methods.method import Method
from sdesim.methods.vector import Vector, is_structural_zero
from sdesim.models.sde import SDE
from sdesim.reals import DOUBLE, SINGLE, Format
from sdesim.streams import Purpose, normals, seed_key, signs, step_uniforms

if TYPE_CHECKING:
    from sdesim.kernels.moments import Context
    from sdesim.kernels.sde_llvm import SDEKernel

_ON_GRID = 1e-9  # save times closer to a step than this fraction of it count as on it
_MAX_PER_STEP = 2**16  # saves within one step that have numbers of their own


class _Folding(Protocol):
    def add(self, states: NDArray[np.float64]) -> object: ...
    def context(self, stride: int) -> Context | None: ...
    def taken(self, context: Context, back: NDArray[np.float64] | None = None) -> None: ...


Folded = TypeVar("Folded", bound=_Folding)


@dataclass(frozen=True)
class SDEResult:
    """States (time, state, member) in the initial states' format; for each member 0 if finite throughout, else 1."""

    states: NDArray[Any]
    status: NDArray[np.int8]


@dataclass(frozen=True)
class SavePlan:
    """When to save: after `due[j]` whole steps, and for a save between steps the weights of the bridge.

    Row j of `bridge` is that of `sde_bridge.weights`: its number 3 is the length θh, 0 on the grid, its number 5 the
    ordinal of the save within its step.
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
    bridge = np.zeros((len(times), COLUMNS))
    previous, ordinal = 0.0, 0
    for j, th in enumerate(theta):
        if j == 0 or due[j] != due[j - 1]:
            previous, ordinal = 0.0, 0
        if ordinal == _MAX_PER_STEP:
            raise ValueError(f"more than {_MAX_PER_STEP} save times lie within one step of {h:g}; choose a smaller dt")
        if th > 0.0:
            bridge[j] = weights(float(th), previous, h, ordinal)
            previous, ordinal = float(th), ordinal + 1
    return SavePlan(due, bridge)


class _Reference:
    """The loop in NumPy, on all members at once: the meaning of the generated kernels, bit for bit."""

    def __init__(
        self, model: SDE, method: Method, parameters: Mapping[str, Any], seed: int, members: Any, machine: Machine
    ) -> None:
        self.machine, self.dtype = machine, np.dtype(machine.form.name)
        values = {name: np.asarray(value, self.dtype)[()] for name, value in parameters.items()}
        self.m = BoundSDE(model, method.calculus or "ito", values, machine)
        self.method, self.seed, self.members = method, seed, members
        traced = trace(model, method, frozenset())
        self.trace, self.joint, self.jumps = traced, traced.joint, traced.jumps

    def draw(self, s: int, kind: str, word: int) -> NDArray[np.float64]:
        """A random number of step s for each member, as the symbols of `kernels.sde_trace` name them."""
        if kind == "u":
            return step_uniforms(self.seed, self.members, s, word)
        if kind == "b":
            return signs(self.seed, self.members, s, word, self.machine)
        purpose = Purpose.STEP if kind == "z" else Purpose.AUXILIARY
        return normals(self.seed, self.members, s, word, purpose, self.machine)

    def step(
        self, y: Vector, t: float, h: Any, root: Any, s: int, own: Mapping[tuple[str, int], Any] | None = None
    ) -> Vector:
        """A step with the numbers of step s; those in `own` in place of them.

        Jumps come after it if s is even, or cut it where there are bounds.
        """
        def jump(x: Sequence[Any], at: float) -> Vector:
            how = {"parameters": self.m.parameters, "seed": self.seed, "members": self.members, "step": s}
            return Vector(x if self.jumps is None else apply_jumps(self.jumps, x, at, h, **how))

        def draw(kind: str, word: int) -> Any:
            key = kind, word
            return own[key] if own and key in own else self.draw(s, kind, word)

        if self.trace.cut:
            draws = [draw(*key) for key in self.trace.draws]
            return cut_step(self.trace, self.method, self.m, y, draws, t, h, root, self.seed, self.members, s)
        dW = Vector(draw("z", c) * root for c in range(len(self.m.channels)))
        start = jump(y, t) if s & 1 else y
        stepped = self.method.step(self.m, self.machine.number(t), start, h, Wiener(dW, root, draw))
        count, zero = len(self.members), self.machine.number(0.0)
        end = Vector(np.broadcast_to(zero if is_structural_zero(v) else v, count) for v in stepped)
        return end if s & 1 else jump(end, t + h)

    def run(self, initial: NDArray[Any], t0: float, h: float, plan: SavePlan) -> NDArray[Any]:
        y, s = Vector(initial), 0
        own_h, root = self.machine.number(h), self.machine.number(float(np.sqrt(h)))
        out = np.empty((len(plan.due), *initial.shape), self.dtype)
        path: dict[tuple[str, int], Any] = {}
        for j, (due, row) in enumerate(zip(plan.due, plan.bridge.astype(self.dtype), strict=True)):
            while s < due:
                y, s = self.step(y, t0 + s * h, own_h, root, s), s + 1
            if row[3] == 0.0:
                out[j] = y
            else:
                path, own = self.bridge(path, s, row)
                out[j] = self.step(y, t0 + s * h, row[3], row[4], s, own)
        return out

    def bridge(self, path: dict[tuple[str, int], Any], s: int, row: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """(W and J at this save, the normals of the partial step to it)."""
        here, own, m = {}, {}, self.machine
        for c in range(len(self.m.channels)):
            word, place = int(row[5]) << 16 | c, m.form.draws * s
            first, second = (normals(self.seed, self.members, place + k, word, Purpose.BRIDGE, m) for k in (0, 1))
            W, J = (path[kind, c] if row[5] else m.number(0.0) for kind in "WJ")
            z = self.draw(s, "z", c)
            if self.joint and self.joint[c] >= 0:
                a = self.draw(s, "a", c)
                here["W", c], here["J", c], own["z", c], own["a", c] = joint(m, row, z, a, W, J, (first, second))
            else:
                here["W", c], own["z", c] = single(row, z, W, first)
                here["J", c] = W  # unused
        return here, own


def format_of(array: NDArray[Any]) -> Format:
    """The format of an array's numbers.

    >>> format_of(np.zeros(2, np.float32)).bits
    32
    """
    return SINGLE if array.dtype == np.float32 else DOUBLE


@lru_cache(maxsize=64)
def _kernel(tr: SDETrace, form: Format) -> SDEKernel:
    from sdesim.kernels.sde_llvm import SDEKernel

    return SDEKernel(tr, form)


class _Blocks:
    """The generated kernel on any consecutive members, through every save in one call."""

    def __init__(
        self, tr: SDETrace, initial: NDArray[Any], parameters: Mapping[str, Any], seed: int, members: Any
    ) -> None:
        from sdesim.kernels.sde_llvm import BLOCK

        self.kernel, self.block = _kernel(tr, format_of(initial)), BLOCK
        self.initial, self.members = np.ascontiguousarray(initial), np.ascontiguousarray(members, np.int64)
        self.varying = np.empty((len(tr.varying), len(members)), initial.dtype)
        for row, name in zip(self.varying, tr.varying, strict=True):
            row[:] = parameters[name]
        uniform = [0.0 if n in tr.varying else float(parameters[n]) for n in tr.parameters]
        self.uniform = np.array([*uniform, 0.0], initial.dtype)
        self.key = [int(k) for k in seed_key(seed)]

    def shares(self, threads: int) -> list[slice]:
        """The members in whole blocks, several shares for each thread: a call costs as much as some hundred steps."""
        size = self.block * max(1, len(self.members) // (8 * threads * self.block))
        return [slice(k, k + size) for k in range(0, len(self.members), size)]

    def run(self, own: slice, t0: float, h: float, plan: SavePlan, out: NDArray[Any], first: int = 0,
            after: Sequence[int] = (0, 0, 0, 0)) -> None:  # fmt: skip
        """The members at these positions, into `out` (save, state, member), whose members begin at `first`."""
        start, count, size = own.start, len(self.members), out.itemsize
        n = min(own.stop, count) - start
        work = np.empty((self.kernel.work_rows, self.block), out.dtype)
        bridge = plan.bridge.astype(out.dtype, copy=False)
        self.kernel.run(
            self.members.ctypes.data + 8 * start, n, out.ctypes.data + size * (start - first),
            self.initial.ctypes.data + size * start, self.varying.ctypes.data + size * start, count, work.ctypes.data,
            self.uniform.ctypes.data, out.shape[-1], len(plan.due), plan.due.ctypes.data, bridge.ctypes.data, t0, h,
            float(np.sqrt(h)), *self.key, *after,
        )  # fmt: skip

    def fold(self, own: range, t0: float, h: float, plan: SavePlan, kept: _Folding) -> None:
        """The members at these positions, whose states `kept` takes save by save while they are in the cache.

        It takes them in compiled code, but for the first block and those that it has no room for.
        """
        start, done = own.start, np.zeros(2, np.int64)
        wide = np.empty((len(self.initial), self.block))
        room = np.empty((len(plan.due), len(self.initial), self.block), self.initial.dtype)
        while start < own.stop:
            context = kept.context(self.block)
            if context is not None:
                done[:] = 0
                after = context.fold, context.places.ctypes.data, wide.ctypes.data, done.ctypes.data
                self.run(slice(start, own.stop), t0, h, plan, room, start, after)
                start += int(done[0])
            if start < own.stop:  # a block that was not taken
                stop = min(start + self.block, own.stop)
                self.run(slice(start, stop), t0, h, plan, room, start)
                states = room[..., : stop - start].astype(np.float64)
                if context is not None:
                    kept.taken(context, states[: done[1]])
                kept.add(states)
                start = stop
            elif context is not None:
                kept.taken(context)


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

    `initial` is (state, member), and its format, float64 or float32, that of all arithmetic but the clock's, which is
    float64: the time of step s is t₀ + s·h, rounded to the format where the equations use it. A parameter is a number
    or an array over members; `members` are the members' numbers, which with the seed fix the noise. `backend` "kernel"
    runs generated machine code, "cuda" the same on a GPU, "numpy" the reference; all give the same bits, in any
    blocking. `progress(n)` is called as blocks of n members end.
    """
    plan = save_plan(times, dt)
    t0 = float(times[0])
    if backend == "numpy":
        with np.errstate(all="ignore"):
            machine = NUMPY if format_of(initial) is DOUBLE else NUMPY32
            states = _Reference(model, method, parameters, seed, members, machine).run(initial, t0, dt, plan)
    elif backend == "cuda":
        from sdesim.kernels.sde_device import run_on_gpu

        tr = trace(model, method, varying_names(parameters))
        states = run_on_gpu(
            tr, initial, parameters, t0=t0, h=dt, due=plan.due, bridge=plan.bridge, seed=seed, members=members
        )
    else:
        states = np.empty((len(times), *initial.shape), initial.dtype)
        blocks = _Blocks(trace(model, method, varying_names(parameters)), initial, parameters, seed, members)
        shares = blocks.shares(threads)
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for own, _ in zip(shares, pool.map(lambda s: blocks.run(s, t0, dt, plan, states), shares), strict=True):
                if progress is not None:
                    progress(min(own.stop, len(members)) - own.start)
    finite = np.isfinite(states).all(axis=(0, 1))
    return SDEResult(states, np.where(finite, 0, 1).astype(np.int8))


def _group(blocks: int, steps: int, rows: int) -> int:
    """How many blocks `fold` takes together: to begin and to merge a group costs as much as a fiftieth of its steps.

    >>> _group(2000, 1000, 1), _group(2000, 1000, 1000), _group(8, 10, 1)
    (21, 250, 1)
    """
    return max(1, min(-(-blocks // 8), (21_000 + 650 * rows) // max(1, steps)))


def fold(
    model: SDE,
    method: Method,
    initial: NDArray[np.float64],
    parameters: Mapping[str, Any],
    times: NDArray[np.float64],
    dt: float,
    *,
    seed: int,
    members: NDArray[np.int64],
    threads: int,
    begin: Callable[[], Folded],
) -> Iterator[Folded]:
    """As `integrate` with kernels, keeping no states: what `begin()` gives takes them by its method `add`.

    The states (time, state, member) of some blocks are added in the thread that made them, while they are in its cache.
    Each result has taken some consecutive blocks; they come in order, and no cut depends on the threads.
    """
    plan, t0 = save_plan(times, dt), float(times[0])
    blocks = _Blocks(trace(model, method, varying_names(parameters)), initial, parameters, seed, members)
    size = blocks.block * _group(-(-len(members) // blocks.block), int(plan.due[-1]), len(times) * len(initial))

    def work(start: int) -> Folded:
        kept = begin()
        blocks.fold(range(start, min(start + size, len(members))), t0, dt, plan, kept)
        return kept

    with ThreadPoolExecutor(max(1, threads)) as pool:
        yield from pool.map(work, range(0, len(members), size))
