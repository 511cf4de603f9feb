"""Running a spectral method on a block of members: with fused kernels, or as the NumPy reference.

Both are objects with one method, ``step(t, h, number)``, and the modes of the states in ``u``. The kernels run the
traced program; the reference calls the method on arrays as it is written. Their bits are equal: the arithmetic is the
same graph in the same order, the transforms are the same library calls on each member.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim import fourier
from sdesim.expressions import Expr
from sdesim.kernels.field_reference import Sheet
from sdesim.kernels.spectral_layout import layout
from sdesim.kernels.spectral_noise import noise_kernel
from sdesim.kernels.spectral_pointwise import Body, Launch, kernel, lane
from sdesim.kernels.spectral_trace import Move, Pass, Program
from sdesim.methods.method import Method
from sdesim.methods.modal import ModalModel
from sdesim.methods.modal_array import ArrayStep
from sdesim.methods.vector import ZERO, Vector
from sdesim.spectral import Transform

Array = NDArray[np.float64]


_CLEANED = 32  # steps


def cleans(form: ModalModel, number: int) -> bool:
    """Whether modes go through their field after a step.

    Where a linear term is taken in modal space, the rounding in those coefficients that say the same twice (k and −k
    where an axis is not halved) is in no field, so that nothing but the linear term acts on it, and it may grow.
    """
    return form.mixed is not None and any(form.mixed.linear) and number % _CLEANED == _CLEANED - 1


class Reference:
    """The method on NumPy arrays.

    Args:
        method: of kind "spectral".
        form: the modal model.
        u: modes of the states (members, *modes) at the start.
        parameters: numbers, or arrays (members,).
        seed, members: of the noise.
        sheet: where the noise comes from, if not from the steps and cells themselves.
    """

    def __init__(self, method: Method, form: ModalModel, u: list[Array],
                 parameters: Mapping[str, Any], seed: int, members: NDArray[np.int64], sheet: Sheet | None = None,
                 ) -> None:
        self.method, self.form, self.seed, self.members = method, form, seed, members
        self.sheet = sheet or Sheet()
        ones = (1,) * form.model.grid.dimension
        shaped = {name: np.reshape(value, (-1, *ones)) if np.ndim(value) else np.float64(value)
                  for name, value in parameters.items()}
        self.m = ArrayStep(form, shaped)
        self.u, self.h = u, float("nan")

    def step(self, t: float, h: float, number: int) -> None:
        """Advance by one step from t to t + h."""
        m, method = self.m, self.method
        if h != self.h:
            self.h, m.history = h, []
        m.first = None
        begins = method.start is not None and len(m.history) < method.past
        with np.errstate(all="ignore"):
            u = Vector(m.parted(i, modes) for i, modes in enumerate(self.u))
            end = (method.start if begins else method.step)(  # type: ignore[misc]
                m, np.float64(t), u, np.float64(h), self._noise(number))
        if method.past:
            m.history = [m.first or Vector(), *m.history][: method.past]
        self.u = [np.array(np.broadcast_to(m.joined(new), old.shape)) for new, old in zip(end, self.u, strict=True)]
        if cleans(self.form, number):
            self.u = [x.forward(x.inverse(modes)) for x, modes in zip(self.form.transforms, self.u, strict=True)]

    def field(self, state: int, out: Array) -> None:
        """The field of one state into `out`, (members, *space)."""
        self.form.transforms[state].inverse(self.u[state], out)

    def _noise(self, number: int) -> Vector:
        shape = self.form.model.grid.shape
        return Vector(ZERO if q is None else self.m.parted(i, self.form.transforms[i].white(
            self.sheet.normals(self.seed, self.members, number, i, shape))) for i, q in enumerate(self.form.noise))


class Host:
    """Where a fused run has its arrays and its code: this machine's memory, generated machine code, `fourier`.

    `passes` gives the kernel of a body, `noise` the one that fills normals.
    """

    passes: Callable[[Body], Launch] = staticmethod(kernel)
    noise: Callable[[], Callable[..., None]] = staticmethod(noise_kernel)
    direct = True  # a field can be written where the caller wants it

    def empty(self, shape: tuple[int, ...]) -> Any:
        """An array of unknown content."""
        return np.empty(shape)

    def put(self, values: Any) -> Any:
        """Values as a C-contiguous float64 array in the memory of this machine."""
        return np.ascontiguousarray(values, np.float64)

    def address(self, array: Any) -> int:
        """Where an array begins."""
        return int(array.ctypes.data)

    def launch(self, kernel: Launch, members: int, places: int, *arguments: Any) -> None:
        """Run a pass; few large fields are shared out over the threads of their transforms."""
        fourier.in_parts(places, lambda part: kernel(members, part, *arguments))

    def transform(self, direction: str, transform: Transform, source: Any, out: Any, scratch: Any) -> None:
        """Transform.forward, .inverse or .white into `out`."""
        getattr(transform, direction)(source, out, scratch)

    def copy_out(self, array: Any, out: Array) -> None:
        """Copy to an array of the host."""
        out[...] = array


class Held:
    """An array and where it begins."""

    __slots__ = ("address", "array")

    def __init__(self, array: Any, address: int) -> None:
        self.array, self.address = array, address


class Fused:
    """The traced program with generated kernels; arguments as for `Reference`.

    Arrays are (members, *shape) by name. A pass's targets keep their memory from step to step, but for the end of a
    step, which changes places with its start, and the N that a multistep method keeps, which move on by one.
    """

    def __init__(self, program: Program, u: list[Array], parameters: Mapping[str, Any], seed: int,
                 members: NDArray[np.int64], machine: Host | None = None) -> None:
        self.machine = machine or Host()
        self.program, self.form, self.seed, self.members = program, program.form, seed, members
        self.count = members.size
        self.numbers = {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}
        self.shared = all(value.ndim == 0 for value in self.numbers.values())
        self.scalars = (*self.numbers, "t", "@h")
        self.shape = self.form.model.grid.shape
        self.layout = layout(program, self.scalars)
        self.arrays: dict[Any, Held] = {name: self._held(self.layout.compact(name, value)[None])
                                        for name, value in self.form.modal.items()}
        self.arrays |= {name: self._held(value[None]) for name, value in self.form.physical.items()}
        self.arrays |= {f"@u{i}": self._held(modes) for i, modes in enumerate(u)}
        self.spare: dict[tuple[bool, Any], Held] = {}
        self.bound: dict[int, list[Bound]] = {}
        self.h, self.known = float("nan"), 0
        self._run(program.source, 0.0)

    def step(self, t: float, h: float, number: int) -> None:
        """Advance by one step from t to t + h."""
        if h != self.h:
            self.h, self.known = h, 0
            self._pass(self.program.coefficients, "modal", 0.0, 1 if self.shared else self.count)
        for i in self.program.noisy:
            self._draw(i, number)
        begins = self.known < self.program.past
        if self.known == self.program.past > 0:
            self.spare = {(first, name): held for (first, name), held in self.spare.items() if not first}
        self._run(self.program.start if begins else self.program.steps, t, begins)
        for i in range(len(self.form.linear)):
            old, self.arrays[f"@u{i}"] = self.arrays[f"@u{i}"], self.arrays[f"@next{i}"]
            self.spare[begins, f"@next{i}"] = old
        self._remember(begins)
        if cleans(self.form, number):
            for i in range(len(self.form.linear)):
                self._move(Move("inverse", f"@u{i}", "@f0", i))
                self._move(Move("forward", "@f0", f"@u{i}", i))

    def field(self, state: int, out: Array) -> None:
        """The field of one state into `out`, (members, *space) on the host."""
        if self.machine.direct:
            self._transform("inverse", state, self.arrays[f"@u{state}"].array, out)
            return
        self._move(Move("inverse", f"@u{state}", "@f0", state))
        self.machine.copy_out(self.arrays["@f0"].array, out)

    @property
    def u(self) -> list[Array]:
        """Modes of the states."""
        return [self.arrays[f"@u{i}"].array for i in range(len(self.form.linear))]

    def _remember(self, begins: bool) -> None:
        """What the next steps need of this one moves on by one; the oldest gives its memory."""
        past = self.program.past
        for name in self.program.kept:
            free = self.arrays.get(f"@p{past}{name}") if past else None
            for j in range(past, 1, -1):
                if f"@p{j - 1}{name}" in self.arrays:
                    self.arrays[f"@p{j}{name}"] = self.arrays[f"@p{j - 1}{name}"]
            newest = self.arrays[f"@p1{name}"] = self.arrays[name]
            self.spare[begins, name] = free or self._held(self.machine.empty(newest.array.shape))
        self.known += 1

    def _draw(self, state: int, number: int) -> None:
        normals = self._target("@normals", (self.count, *self.shape))
        self.machine.noise()(normals.array, self.seed, self.members, number, state)
        modes = self._target(f"@w{state}", (self.count, *self.form.transforms[state].modal_shape))
        self._transform("white", state, normals.array, modes.array)

    def _run(self, steps: tuple[Pass | Move, ...], t: float, begins: bool = False) -> None:
        for step in steps:
            if isinstance(step, Pass):
                self._pass(step.outputs, step.space, t, self.count, begins)
            else:
                self._move(step, begins)

    def _move(self, step: Move, begins: bool = False) -> None:
        if step.target.startswith("@u"):
            held = self.arrays[step.target]
        else:
            shape = self.shape if step.direction == "inverse" else self.form.transforms[step.state].modal_shape
            held = self._target(step.target, (self.count, *shape), begins)
        self._transform(step.direction, step.state, self.arrays[step.source].array, held.array)

    def _transform(self, direction: str, state: int, source: Any, out: Any) -> None:
        scratch = self._target(("@scratch", direction == "inverse", state), source.shape)
        self.machine.transform(direction, self.form.transforms[state], source, out, scratch.array)

    def _pass(self, outputs: Mapping[str, Expr], space: str, t: float, count: int, begins: bool = False) -> None:
        if id(outputs) not in self.bound:
            self.bound[id(outputs)] = [self._bind(code, shape, count, begins)
                                       for code, shape in self.layout.bodies(outputs, space)]
        for bound in self.bound[id(outputs)]:
            code = bound.body
            for name in code.targets:
                self._target(name, (count, *bound.shape), begins)
            if "t" in code.scalars or bound.h != self.h:
                known: dict[str, Any] = {**self.numbers, "t": t, "@h": self.h}
                table = np.empty((len(code.scalars), count))
                for k, name in enumerate(code.scalars):
                    table[k] = known[name]
                bound.scalars, bound.h = self.machine.put(table), self.h
            addresses = [self.arrays[name].address for name in bound.names]
            self.machine.launch(bound.kernel, count, bound.places, addresses, bound.strides, bound.scalars)

    def _bind(self, code: Body, shape: tuple[int, ...], count: int, begins: bool) -> Bound:
        for name in code.targets:
            self._target(name, (count, *shape), begins)
        names = (*code.targets, *code.sources)
        arrays = [self.arrays[name].array for name in names]
        strides = np.array([a.size // len(a) if len(a) > 1 else 0 for a in arrays], np.int64)
        wide = any(lane(name)[0] == 2 for name, _ in code.outputs)
        return Bound(code, self.machine.passes(code), shape, names, math.prod(shape) // (2 if wide else 1), strides)

    def _target(self, name: Any, shape: tuple[int, ...], begins: bool = False) -> Held:
        """The array of this name with the memory that it has in the first steps, or in the others."""
        if (begins, name) not in self.spare:
            self.spare[begins, name] = self._held(self.machine.empty(shape))
        held = self.arrays[name] = self.spare[begins, name]
        return held

    def _held(self, values: Any) -> Held:
        array = self.machine.put(values)
        return Held(array, self.machine.address(array))


@dataclass
class Bound:
    """A pass with everything that stays: its kernel, the shape of its targets, places of a member, strides."""

    body: Body
    kernel: Launch
    shape: tuple[int, ...]
    names: tuple[str, ...]
    places: int
    strides: NDArray[np.int64]
    scalars: Any = None
    h: float = float("nan")
