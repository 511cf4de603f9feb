"""The machines that generate code: LLVM values and C text, with the arithmetic of `sdesim.arithmetic`.

`sdesim.calculus.evaluate` on one of these machines *is* the code generator: each operator on a value emits one
instruction (LLVM) or one line (C). Neither contracts a·b + c, so both give the bits of the NumPy reference.
"""

from __future__ import annotations

import struct
from typing import Any

from llvmlite import ir

F64, I64, I32, I1, VOID = ir.DoubleType(), ir.IntType(64), ir.IntType(32), ir.IntType(1), ir.VoidType()
F64_POINTER, I64_POINTER = F64.as_pointer(), I64.as_pointer()


class LLVMValue:
    """A double, an i64 or an i1 in LLVM IR; its operators emit instructions through the machine's builder."""

    __hash__ = None  # type: ignore[assignment]
    __slots__ = ("machine", "value")

    def __init__(self, machine: LLVMMachine, value: Any) -> None:
        self.machine, self.value = machine, value

    def _emit(self, real: str, integer: str, other: LLVMValue) -> LLVMValue:
        name = real if self.value.type == F64 else integer
        return LLVMValue(self.machine, getattr(self.machine.builder, name)(self.value, other.value))

    def _compare(self, sign: str, other: LLVMValue) -> LLVMValue:
        builder = self.machine.builder
        if self.value.type != F64:
            return LLVMValue(self.machine, builder.icmp_unsigned(sign, self.value, other.value))
        # only != holds for NaN, as in NumPy and C
        compare = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
        return LLVMValue(self.machine, compare(sign, self.value, other.value))

    def __add__(self, other: LLVMValue) -> LLVMValue:
        return self._emit("fadd", "add", other)

    def __sub__(self, other: LLVMValue) -> LLVMValue:
        return self._emit("fsub", "sub", other)

    def __mul__(self, other: LLVMValue) -> LLVMValue:
        return self._emit("fmul", "mul", other)

    def __truediv__(self, other: LLVMValue) -> LLVMValue:
        return self._emit("fdiv", "udiv", other)

    def __neg__(self) -> LLVMValue:
        return LLVMValue(self.machine, self.machine.builder.fneg(self.value))

    def __and__(self, other: LLVMValue) -> LLVMValue:
        return self._emit("", "and_", other)

    def __or__(self, other: LLVMValue) -> LLVMValue:
        return self._emit("", "or_", other)

    def __xor__(self, other: LLVMValue) -> LLVMValue:
        return self._emit("", "xor", other)

    def __lshift__(self, other: LLVMValue) -> LLVMValue:
        return self._emit("", "shl", other)

    def __rshift__(self, other: LLVMValue) -> LLVMValue:
        return self._emit("", "lshr", other)

    def __invert__(self) -> LLVMValue:
        return LLVMValue(self.machine, self.machine.builder.not_(self.value))

    def __lt__(self, other: LLVMValue) -> LLVMValue:
        return self._compare("<", other)

    def __le__(self, other: LLVMValue) -> LLVMValue:
        return self._compare("<=", other)

    def __gt__(self, other: LLVMValue) -> LLVMValue:
        return self._compare(">", other)

    def __ge__(self, other: LLVMValue) -> LLVMValue:
        return self._compare(">=", other)

    def __eq__(self, other: LLVMValue) -> LLVMValue:  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: LLVMValue) -> LLVMValue:  # type: ignore[override]
        return self._compare("!=", other)


class LLVMMachine:
    """Emits LLVM IR at the builder's position."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def wrap(self, value: Any) -> LLVMValue:
        return LLVMValue(self, value)

    def f64(self, value: float) -> LLVMValue:
        return self.wrap(ir.Constant(F64, float(value)))

    def u64(self, value: int) -> LLVMValue:
        return self.wrap(ir.Constant(I64, int(value)))

    def select(self, condition: LLVMValue, if_true: LLVMValue, if_false: LLVMValue) -> LLVMValue:
        return self.wrap(self.builder.select(condition.value, if_true.value, if_false.value))

    def _intrinsic(self, name: str, x: LLVMValue) -> LLVMValue:
        return self.wrap(self.builder.call(self.builder.module.declare_intrinsic(name, [F64]), [x.value]))

    def sqrt(self, x: LLVMValue) -> LLVMValue:
        return self._intrinsic("llvm.sqrt", x)

    def abs(self, x: LLVMValue) -> LLVMValue:
        return self._intrinsic("llvm.fabs", x)

    def bits(self, x: LLVMValue) -> LLVMValue:
        return self.wrap(self.builder.bitcast(x.value, I64))

    def real(self, u: LLVMValue) -> LLVMValue:
        return self.wrap(self.builder.bitcast(u.value, F64))


class CValue:
    """The name of a C variable of type double, u64 or bool; its operators append one line of C each."""

    __hash__ = None  # type: ignore[assignment]
    __slots__ = ("kind", "machine", "text")

    def __init__(self, machine: CMachine, text: str, kind: str) -> None:
        self.machine, self.text, self.kind = machine, text, kind

    def _emit(self, sign: str, other: CValue) -> CValue:
        return self.machine.let(self.kind, f"{self.text} {sign} {other.text}")

    def _compare(self, sign: str, other: CValue) -> CValue:
        return self.machine.let("bool", f"{self.text} {sign} {other.text}")

    def __add__(self, other: CValue) -> CValue:
        return self._emit("+", other)

    def __sub__(self, other: CValue) -> CValue:
        return self._emit("-", other)

    def __mul__(self, other: CValue) -> CValue:
        return self._emit("*", other)

    def __truediv__(self, other: CValue) -> CValue:
        return self._emit("/", other)

    def __neg__(self) -> CValue:
        return self.machine.let(self.kind, f"-{self.text}")

    def __and__(self, other: CValue) -> CValue:
        return self._emit("&", other)

    def __or__(self, other: CValue) -> CValue:
        return self._emit("|", other)

    def __xor__(self, other: CValue) -> CValue:
        return self._emit("^", other)

    def __lshift__(self, other: CValue) -> CValue:
        return self._emit("<<", other)

    def __rshift__(self, other: CValue) -> CValue:
        return self._emit(">>", other)

    def __invert__(self) -> CValue:
        return self.machine.let("bool", f"!{self.text}")

    def __lt__(self, other: CValue) -> CValue:
        return self._compare("<", other)

    def __le__(self, other: CValue) -> CValue:
        return self._compare("<=", other)

    def __gt__(self, other: CValue) -> CValue:
        return self._compare(">", other)

    def __ge__(self, other: CValue) -> CValue:
        return self._compare(">=", other)

    def __eq__(self, other: CValue) -> CValue:  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: CValue) -> CValue:  # type: ignore[override]
        return self._compare("!=", other)


class CMachine:
    """Appends lines of C (CUDA C, or C++ on the host) to `lines`; each value is a fresh `const` variable."""

    def __init__(self, prefix: str = "v") -> None:
        self.lines: list[str] = []
        self.prefix = prefix

    def let(self, kind: str, text: str) -> CValue:
        name = f"{self.prefix}{len(self.lines)}"
        self.lines.append(f"const {kind} {name} = {text};")
        return CValue(self, name, kind)

    def wrap(self, text: str, kind: str = "double") -> CValue:
        return CValue(self, text, kind)

    def f64(self, value: float) -> CValue:
        value = float(value)
        if value - value == 0.0:
            text = value.hex()
            return self.wrap(f"({text})" if text.startswith("-") else text)
        pattern = struct.unpack("<Q", struct.pack("<d", value))[0]
        return self.wrap(f"as_double({pattern:#x}ull)")

    def u64(self, value: int) -> CValue:
        return self.wrap(f"{value:#x}ull", "u64")

    def select(self, condition: CValue, if_true: CValue, if_false: CValue) -> CValue:
        return self.let(if_true.kind, f"{condition.text} ? {if_true.text} : {if_false.text}")

    def sqrt(self, x: CValue) -> CValue:
        return self.let("double", f"sqrt({x.text})")

    def abs(self, x: CValue) -> CValue:
        return self.let("double", f"fabs({x.text})")

    def bits(self, x: CValue) -> CValue:
        return self.let("u64", f"as_bits({x.text})")

    def real(self, u: CValue) -> CValue:
        return self.let("double", f"as_double({u.text})")
