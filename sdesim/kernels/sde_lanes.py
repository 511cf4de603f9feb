"""Rows of numbers, a column for each lane: functions that LLVM vectorises over them, and scalar code between those."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from sdesim.kernels.llvm import integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, VOID, LLVMMachine

LANES = 256
STRIDE = LANES + 8


def real(value: float) -> ir.Constant:
    """A float64 constant."""
    return ir.Constant(F64, value)


@contextmanager
def repeat(b: ir.IRBuilder, more: Callable[[], Any]) -> Iterator[None]:
    """Emit `while more(): …`; the body is what is built inside the `with`."""
    head, body, after = (b.append_basic_block(name) for name in ("while", "do", "done"))
    b.branch(head)
    b.position_at_end(head)
    b.cbranch(more(), body, after)
    b.position_at_end(body)
    yield
    b.branch(head)
    b.position_at_end(after)


class RowFunction:
    """A loop over rows: `body(machine, values)` gives what is stored, by the name of the row, for each lane.

    `reals` and `words` name rows of floats and of integers, which are distinct; `scalars` are numbers for all lanes.
    """

    def __init__(
        self, module: ir.Module, name: str, body: Callable[..., dict[str, Any]], reals: Iterable[str],
        words: Iterable[str] = (), scalars: Sequence[tuple[str, Any]] = (),
    ) -> None:  # fmt: skip
        rows = [*((r, F64_POINTER) for r in reals), *((w, I64_POINTER) for w in words)]
        types = [*(t for _, t in rows), I64, *(t for _, t in scalars)]
        self.fn = ir.Function(module, ir.FunctionType(VOID, types), name)
        self.fn.attributes.add("noinline")
        for a in self.fn.args[: len(rows)]:
            a.add_attribute("noalias")
        b = ir.IRBuilder(self.fn.append_basic_block())
        m = LLVMMachine(b)
        pointers = {r: p for (r, _), p in zip(rows, self.fn.args, strict=False)}
        fixed = {s: m.wrap(a) for (s, _), a in zip(scalars, self.fn.args[len(rows) + 1 :], strict=True)}
        with loop(b, self.fn.args[len(rows)]) as i:
            values = fixed | {r: m.wrap(b.load(b.gep(p, [i]))) for r, p in pointers.items()}
            for row, value in body(m, values).items():
                b.store(value.value, b.gep(pointers[row], [i]))
        b.ret_void()


class Lanes:
    """A work space of rows by name, `reals` of floats and `words` of integers, at the pointers v["real"] and v["word"].

    Rows are `STRIDE` apart, one cache line more than they hold: else a column of all rows would share two sets of the
    cache. `functions` are those of `RowFunction`; `kept` and `count` are the lengths of the list of lanes, the row
    "list", as it is made and as it is worked on.
    """

    def __init__(
        self, b: ir.IRBuilder, v: dict[str, Any], reals: Sequence[str], words: Sequence[str],
        functions: dict[str, Any],
    ) -> None:  # fmt: skip
        self.b, self.v, self.functions = b, v, functions
        self.reals = {name: k for k, name in enumerate(reals)}
        self.words = {name: k for k, name in enumerate(words)}
        self.active, self.count, self.kept = (b.alloca(I64) for _ in range(3))

    def row(self, name: str) -> Any:
        base, table = ("real", self.reals) if name in self.reals else ("word", self.words)
        return self.b.gep(self.v[base], [integer(table[name] * STRIDE)])

    def get(self, name: str, i: Any) -> Any:
        return self.b.load(self.b.gep(self.row(name), [i]))

    def put(self, name: str, i: Any, value: Any) -> None:
        self.b.store(value, self.b.gep(self.row(name), [i]))

    def add(self, name: str, i: Any, more: int) -> Any:
        value = self.b.add(self.get(name, i), integer(more))
        self.put(name, i, value)
        return value

    def call(self, name: str, rows: list[str], n: Any, *scalars: Any) -> None:
        self.b.call(self.functions[name], [*(self.row(r) for r in rows), n, *scalars])

    @contextmanager
    def each(self, counter: Any) -> Iterator[Any]:
        with loop(self.b, self.b.load(counter)) as i:
            yield i

    def append(self, lane: Any, whether: Any) -> None:
        """Put a lane on the list if `whether` (i1) holds."""
        b = self.b
        kept = b.load(self.kept)
        self.put("list", kept, lane)
        b.store(b.add(kept, b.zext(whether, I64)), self.kept)

    @contextmanager
    def listing(self) -> Iterator[None]:
        """A new list is made of what is appended inside the `with`."""
        self.b.store(integer(0), self.kept)
        yield
        self.b.store(self.b.load(self.kept), self.count)
