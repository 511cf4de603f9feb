"""The machines that generate code: LLVM values and C text, with the arithmetic of `sdesim.arithmetic`.

`sdesim.calculus.evaluate` on one of these machines *is* the code generator: each operator on a value emits one
instruction (LLVM) or one line (C). Neither contracts a·b + c, so both give the bits of the NumPy reference.
"""

from __future__ import annotations

import struct
from typing import Any

from llvmlite import ir

from sdesim.reals import DOUBLE, SINGLE, Format

F64, F32, I64, I32, I1 = ir.DoubleType(), ir.FloatType(), ir.IntType(64), ir.IntType(32), ir.IntType(1)
VOID = ir.VoidType()
REAL = {DOUBLE: F64, SINGLE: F32}
F64_POINTER, I64_POINTER = F64.as_pointer(), I64.as_pointer()


class LLVMValue:
    """A real number, an integer or an i1 in LLVM IR; its operators emit instructions through the machine's builder."""

    __hash__ = None  # type: ignore[assignment]
    __slots__ = ("machine", "value")

    def __init__(self, machine: LLVMMachine, value: Any) -> None:
        self.machine, self.value = machine, value

    def _emit(self, real: str, integer: str, other: LLVMValue) -> LLVMValue:
        name = integer if isinstance(self.value.type, ir.IntType) else real
        return LLVMValue(self.machine, getattr(self.machine.builder, name)(self.value, other.value))

    def _compare(self, sign: str, other: LLVMValue) -> LLVMValue:
        builder = self.machine.builder
        if isinstance(self.value.type, ir.IntType):
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

    def __init__(self, builder: ir.IRBuilder, form: Format = DOUBLE) -> None:
        self.builder, self.form = builder, form
        self.type, self.word_type = REAL[form], I64 if form is DOUBLE else I32

    def wrap(self, value: Any) -> LLVMValue:
        return LLVMValue(self, value)

    def number(self, value: float) -> LLVMValue:
        return self.wrap(ir.Constant(self.type, float(value)))

    def word(self, value: int) -> LLVMValue:
        return self.wrap(ir.Constant(self.word_type, int(value)))

    def u64(self, value: int) -> LLVMValue:
        return self.wrap(ir.Constant(I64, int(value)))

    def select(self, condition: LLVMValue, if_true: LLVMValue, if_false: LLVMValue) -> LLVMValue:
        return self.wrap(self.builder.select(condition.value, if_true.value, if_false.value))

    def _intrinsic(self, name: str, x: LLVMValue) -> LLVMValue:
        return self.wrap(self.builder.call(self.builder.module.declare_intrinsic(name, [x.value.type]), [x.value]))

    def sqrt(self, x: LLVMValue) -> LLVMValue:
        return self._intrinsic("llvm.sqrt", x)

    def abs(self, x: LLVMValue) -> LLVMValue:
        return self._intrinsic("llvm.fabs", x)

    def bits(self, x: LLVMValue) -> LLVMValue:
        return self.wrap(self.builder.bitcast(x.value, self.word_type))

    def real(self, u: LLVMValue) -> LLVMValue:
        return self.wrap(self.builder.bitcast(u.value, self.type))

    def low(self, u: LLVMValue) -> LLVMValue:
        return u if self.word_type == I64 else self.wrap(self.builder.trunc(u.value, self.word_type))

    def wide(self) -> LLVMMachine:
        return LLVMMachine(self.builder)

    def widen(self, x: LLVMValue) -> LLVMValue:
        return self.wide().wrap(x.value if self.type == F64 else self.builder.fpext(x.value, F64))

    def narrow(self, x: LLVMValue) -> LLVMValue:
        return self.wrap(x.value if self.type == F64 else self.builder.fptrunc(x.value, self.type))


class CValue:
    """The name of a C variable of type double, float, u64, u32 or bool; its operators append one line of C each."""

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

    def __init__(self, prefix: str = "v", form: Format = DOUBLE, lines: list[str] | None = None) -> None:
        self.lines = [] if lines is None else lines
        self.prefix, self.form = prefix, form
        self.kind, self.word_kind = ("double", "u64") if form is DOUBLE else ("float", "u32")

    def let(self, kind: str, text: str) -> CValue:
        name = f"{self.prefix}{len(self.lines)}"
        self.lines.append(f"const {kind} {name} = {text};")
        return CValue(self, name, kind)

    def wrap(self, text: str, kind: str = "") -> CValue:
        return CValue(self, text, kind or self.kind)

    def number(self, value: float) -> CValue:
        rounded = struct.unpack("<f", struct.pack("<f", value))[0] if self.kind == "float" else float(value)
        if rounded - rounded == 0.0:
            text = rounded.hex() + ("f" if self.kind == "float" else "")
            return self.wrap(f"({text})" if text.startswith("-") else text)
        pattern = struct.unpack("<Q", struct.pack("<d", value))[0]
        return self.wrap(f"({self.kind})as_double({pattern:#x}ull)")

    def word(self, value: int) -> CValue:
        return self.wrap(f"{value:#x}{'ull' if self.word_kind == 'u64' else 'u'}", self.word_kind)

    def u64(self, value: int) -> CValue:
        return self.wrap(f"{value:#x}ull", "u64")

    def select(self, condition: CValue, if_true: CValue, if_false: CValue) -> CValue:
        return self.let(if_true.kind, f"{condition.text} ? {if_true.text} : {if_false.text}")

    def sqrt(self, x: CValue) -> CValue:
        return self.let(self.kind, f"sqrt({x.text})")

    def abs(self, x: CValue) -> CValue:
        return self.let(self.kind, f"fabs({x.text})")

    def bits(self, x: CValue) -> CValue:
        return self.let(self.word_kind, f"as_bits({x.text})")

    def real(self, u: CValue) -> CValue:
        return self.let(self.kind, f"as_{self.kind}({u.text})")

    def low(self, u: CValue) -> CValue:
        return u if self.word_kind == "u64" else self.let("u32", f"(u32){u.text}")

    def wide(self) -> CMachine:
        return CMachine(self.prefix, lines=self.lines)

    def widen(self, x: CValue) -> CValue:
        return self.wide().let("double", f"(double){x.text}")

    def narrow(self, x: CValue) -> CValue:
        return self.let(self.kind, f"({self.kind}){x.text}")
