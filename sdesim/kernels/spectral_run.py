"""Running a spectral method on a block of members: with fused kernels, or as the NumPy reference.

Both are objects with one method, ``step(t, h, number)``, and the modes of the states in ``u``. The kernels run the
traced program; the reference calls the method on arrays as it is written. Their bits are equal: the arithmetic is the
same graph in the same order, the transforms are the same library calls on each member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.expressions import Expr
from sdesim.kernels.field_reference import Sheet
from sdesim.kernels.spectral_noise import noise_kernel
from sdesim.kernels.spectral_pointwise import Body, body, kernel
from sdesim.kernels.spectral_trace import Move, Pass, Program
from sdesim.methods.modal import ModalModel
from sdesim.methods.modal_array import ArrayStep
from sdesim.methods.vector import ZERO, Vector

Array = NDArray[np.float64]


class Reference:
    """The method on NumPy arrays.

    Args:
        method: the step function.
        form: the modal model.
        u: modes of the states (members, *modes) at the start.
        parameters: numbers, or arrays (members,).
        seed, members: of the noise.
        sheet: where the noise comes from, if not from the steps and cells themselves.
    """

    def __init__(self, method: Callable[..., Any], form: ModalModel, u: list[Array],
                 parameters: Mapping[str, Any], seed: int, members: NDArray[np.int64], sheet: Sheet | None = None,
                 ) -> None:
        self.method, self.form, self.seed, self.members = method, form, seed, members
        self.sheet = sheet or Sheet()
        ones = (1,) * form.model.grid.dimension
        shaped = {name: np.reshape(value, (-1, *ones)) if np.ndim(value) else np.float64(value)
                  for name, value in parameters.items()}
        self.m = ArrayStep(form, shaped)
        self.u = u

    def step(self, t: float, h: float, number: int) -> None:
        """Advance by one step from t to t + h."""
        with np.errstate(all="ignore"):
            u = Vector(self.m.parted(i, modes) for i, modes in enumerate(self.u))
            end = self.method(self.m, np.float64(t), u, np.float64(h), self._noise(number))
        self.u = [np.array(np.broadcast_to(self.m.joined(new), old.shape))
                  for new, old in zip(end, self.u, strict=True)]

    def _noise(self, number: int) -> Vector:
        shape = self.form.model.grid.shape
        return Vector(ZERO if q is None else self.m.parted(i, self.form.transforms[i].white(
            self.sheet.normals(self.seed, self.members, number, i, shape))) for i, q in enumerate(self.form.noise))


@dataclass(frozen=True)
class Kernels:
    """Where a fused run finds its code: `passes` gives the kernel of a body, `noise` the one that fills normals."""

    passes: Callable[[Body], Callable[..., None]] = kernel
    noise: Callable[[], Callable[..., None]] = noise_kernel


class Fused:
    """The traced program with generated kernels; arguments as for `Reference`."""

    def __init__(self, program: Program, u: list[Array], parameters: Mapping[str, Any], seed: int,
                 members: NDArray[np.int64], kernels: Kernels | None = None) -> None:
        self.kernels = kernels or Kernels()
        self.program, self.form, self.seed, self.members = program, program.form, seed, members
        self.count = members.size
        self.numbers = {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}
        self.shared = all(value.ndim == 0 for value in self.numbers.values())
        self.arrays: dict[str, Array] = {name: np.ascontiguousarray(value)[None] for name, value in
                                         {**self.form.modal, **self.form.physical}.items()}
        self.arrays |= {f"@u{i}": np.ascontiguousarray(modes) for i, modes in enumerate(u)}
        self.spare: dict[str, Array] = {}
        self.ready: dict[int, list[tuple[Body, tuple[str, ...]]]] = {}
        tags = {str(self.form.tag(i)) for i in range(len(u)) if self.form.is_paired(i)}
        self.paired = {name for name in self.form.modal if name.startswith("%") and name.split(".")[1] in tags}
        self.h = float("nan")
        self._run(program.source, 0.0, 0.0)

    @property
    def u(self) -> list[Array]:
        """Modes of the states."""
        return [self.arrays[f"@u{i}"] for i in range(len(self.form.linear))]

    def step(self, t: float, h: float, number: int) -> None:
        """Advance by one step from t to t + h."""
        if h != self.h:
            self._coefficients(h)
        for i in self.program.noisy:
            normals = self._buffer("@normals", self.form.model.grid.shape)
            self.kernels.noise()(normals, self.seed, self.members, number, i)
            self.arrays[f"@w{i}"] = self._contiguous(self.form.transforms[i].white(normals))
        self._run(self.program.steps, t, h)
        for i in range(len(self.form.linear)):
            self.arrays[f"@u{i}"], self.spare[f"@next{i}"] = self.arrays[f"@next{i}"], self.arrays[f"@u{i}"]

    def _coefficients(self, h: float) -> None:
        """Compute the hoisted arrays for this step: one for all members where no parameter varies."""
        self.h = h
        count = 1 if self.shared else self.count
        for name, value in self.program.coefficients.items():
            read = body({name: value}, self._scalars).arrays[0]
            self.arrays[name] = np.zeros((count, *self.arrays[read].shape[1:]))
            if read in self.paired:
                self.paired.add(name)
        self._pass(self.program.coefficients, 0.0, h, count)

    def _run(self, steps: tuple[Pass | Move, ...], t: float, h: float) -> None:
        for step in steps:
            if isinstance(step, Pass):
                for name, value in step.outputs.items():
                    array = _base(name)
                    if array not in self.spare:
                        self.spare[array] = np.empty((self.count, *self._shape(step.space, value)))
                    self.arrays[array] = self.spare[array]
                self._pass(step.outputs, t, h, self.count)
            else:
                transform = self.form.transforms[step.state]
                move = transform.inverse if step.direction == "inverse" else transform.forward
                self.arrays[step.target] = self._contiguous(move(self.arrays[step.source]))

    def _shape(self, space: str, value: Expr) -> tuple[int, ...]:
        if space == "physical":
            return self.form.model.grid.shape
        return self.arrays[_base(body({"": value}, self._scalars).arrays[0])].shape[1:]

    def _pass(self, outputs: Mapping[str, Expr], t: float, h: float, count: int) -> None:
        if id(outputs) not in self.ready:  # the program keeps its passes, so that they are told by their place
            self.ready[id(outputs)] = self._bodies(outputs)
        known: dict[str, Any] = {**self.numbers, "t": t, "@h": h}
        for code, names in self.ready[id(outputs)]:
            scalars = np.empty((len(code.scalars), count))
            for k, name in enumerate(code.scalars):
                scalars[k] = known[name]
            out, inputs = ([self._view(name, code.stride) for name in some] for some in (names, code.arrays))
            self.kernels.passes(code)(out, inputs, scalars)

    def _bodies(self, outputs: Mapping[str, Expr]) -> list[tuple[Body, tuple[str, ...]]]:
        """One body for each shape and stride of output (states may differ in their transforms), and its outputs."""
        groups: dict[tuple[Any, ...], dict[str, Expr]] = {}
        for name, value in outputs.items():
            stride = 2 if name != _base(name) or name in self.paired else 1
            groups.setdefault((self.arrays[_base(name)].shape, stride), {})[name] = value
        return [(body(group, self._scalars, stride), tuple(group)) for (_, stride), group in groups.items()]

    def _view(self, name: str, stride: int) -> Array:
        """The array of this name; every second number of it, from the second on for imaginary parts, at stride 2."""
        return self.arrays[_base(name)][..., int(name.endswith(".im")) :: stride]

    @property
    def _scalars(self) -> tuple[str, ...]:
        return (*self.numbers, "t", "@h")

    def _buffer(self, name: str, shape: tuple[int, ...]) -> Array:
        if name not in self.spare:
            self.spare[name] = np.empty((self.count, *shape))
        return self.spare[name]

    def _contiguous(self, array: Array) -> Array:
        return np.ascontiguousarray(array, dtype=np.float64)


def _base(name: str) -> str:
    """The array's name without the ending that picks real or imaginary parts."""
    return name.removesuffix(".re").removesuffix(".im")
