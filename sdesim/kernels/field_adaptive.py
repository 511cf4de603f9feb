"""Fused CPU kernels for fields whose steps follow their error: the loop of one member, between two calls of Python.

`advance` goes from save to save as `field_free.follow` does, with the same lines of `methods.field_control`, until the
last save is reached (0), no step is small enough (1), or the next step has a number of stages that no program is there
for (2): then it is traced and `advance` goes on. All that it must remember is in two short arrays, `reals` and `words`,
and in the buffers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from sdesim.kernels.field_driver import Run, most_slots
from sdesim.kernels.field_layout import Layout
from sdesim.kernels.field_llvm import Sweeps
from sdesim.kernels.field_names import Names
from sdesim.kernels.field_pairs import Pairs
from sdesim.kernels.field_schedule import PEAKS
from sdesim.kernels.llvm import integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, LLVMMachine
from sdesim.methods.field import SPARE
from sdesim.methods.field_control import (
    GROWTH,
    first_step,
    following,
    is_stuck,
    longest,
    refused_factor,
    smaller,
    tried,
)
from sdesim.stencils import Stencil

REALS = ("t", "h", "before", "growth", "real", "imaginary", "dt", "factor")
"""The time, the next step, the error before, by what a step may grow; the bounds on the eigenvalues, the longest step,
and what edges add to the bounds."""
WORDS = ("interval", "begun", "rung", "accepted", "rejected", "evaluations", "code")
DONE, STUCK, WANTED = 0, 1, 2
_NEW = {"times": F64_POINTER, "rungs": I64_POINTER, "reaches": F64_POINTER, "costs": I64_POINTER,
        "sizes": I64_POINTER, "factors": I64_POINTER, "scales": I64_POINTER, "scratch": F64_POINTER,
        "peaks": I64_POINTER, "reals": F64_POINTER, "words": I64_POINTER, "roles": I64_POINTER}
"""Programs: number 0 is the beginning, k + 1 rung k. `scales` holds 1.0 where a number is a multiple of h, else 0."""


class Advance(Run):
    """Emits `run(arguments)` for one member."""

    arguments = ("member", "intervals", "stride", "initial", "out", "members", "parameters", "statics",
                 "static_strides", "edges", "edge_strides", "buffers", "noise", "k0", "k1", *_NEW)
    pointers = {**Run.pointers, **_NEW}

    def __init__(self, module: ir.Module, stencil: Stencil, layout: Layout, names: Names, sweeps: list[Any],
                 buffers: int, slots: int, pairs: Pairs) -> None:
        super().__init__(module, stencil, layout, names, sweeps, buffers, slots)
        self.embedded, self.moving, self.m = pairs.embedded, pairs.moving, LLVMMachine(self.b)
        self.renamed, self.rung = self.b.alloca(I64, integer(buffers)), self.b.alloca(I64)
        self.b.store(integer(0), self.count)

    def _real(self, name: str) -> Any:
        return self.b.gep(self.a["reals"], [integer(REALS.index(name))])

    def _word(self, name: str) -> Any:
        return self.b.gep(self.a["words"], [integer(WORDS.index(name))])

    def _value(self, name: str) -> Any:
        """One of `reals` as a number of the machine."""
        return self.m.wrap(self.b.load(self._real(name)))

    def _set(self, name: str, value: Any) -> None:
        self.b.store(value.value, self._real(name))

    def _count_up(self, name: str, by: Any = None) -> None:
        place = self._word(name)
        self.b.store(self.b.add(self.b.load(place), integer(1) if by is None else by), place)

    def _peaks(self) -> Any:
        return self.a["peaks"]

    def emit(self) -> None:
        b, a = self.b, self.a
        self._tables(a["member"])
        self._places()
        with b.if_then(b.icmp_signed("==", b.load(self._word("begun")), integer(0))):
            self._start()
        again, work, end = (b.append_basic_block(name) for name in ("again", "work", "end"))
        b.branch(again)
        b.position_at_end(again)
        code = b.load(self._word("code"))
        unfinished = b.icmp_signed("<", b.load(self._word("interval")), a["intervals"])
        b.cbranch(b.and_(unfinished, b.icmp_signed("==", code, integer(DONE))), work, end)
        b.position_at_end(work)
        self._step()
        b.branch(again)
        b.position_at_end(end)
        b.ret_void()

    def _places(self) -> None:
        """The buffers by their roles."""
        b = self.b
        with loop(b, integer(self.buffers)) as k:
            at = b.mul(b.load(b.gep(self.a["roles"], [k])), integer(self.layout.size))
            b.store(b.gep(self.a["buffers"], [at]), b.gep(self.table, [k]))

    def _rename(self, schedule: Any) -> None:
        b, roles = self.b, self.a["roles"]
        with loop(b, integer(self.buffers)) as k:
            role = b.load(b.gep(schedule, [b.add(k, integer(1))]))
            b.store(b.load(b.gep(roles, [role])), b.gep(self.renamed, [k]))
        with loop(b, integer(self.buffers)) as k:
            b.store(b.load(b.gep(self.renamed, [k])), b.gep(roles, [k]))
        self._places()

    def _start(self) -> None:
        """The initial state, its slope, its bounds and the first step."""
        b, a, m = self.b, self.a, self.m
        for state in range(self.states):
            at = b.mul(b.add(b.mul(integer(state), a["stride"]), a["member"]), integer(self.layout.cells))
            b.call(self.load_state, [b.load(b.gep(self.table, [integer(state)])), b.gep(a["initial"], [at])])
        self._set("t", m.wrap(b.load(a["times"])))
        self._run(integer(0), m.number(0.0))
        self._rename(self._schedule(integer(0)))
        self._learn()
        self._set("h", first_step(m, self._value("real"), self._value("imaginary"), self._value("dt")))
        self._set("before", m.number(1.0))
        self._set("growth", m.number(GROWTH))
        for name in ("begun", "evaluations"):
            b.store(integer(1), self._word(name))

    def _schedule(self, program: Any) -> Any:
        return self.b.inttoptr(self._item("rungs", program), I64_POINTER)

    def _run(self, program: Any, h: Any) -> None:
        """All passes of a program at the time t, for a step of h."""
        b, a = self.b, self.a
        factors, scales = (b.inttoptr(self._item(name, program), F64_POINTER) for name in ("factors", "scales"))
        with loop(b, self._item("sizes", program)) as k:
            factor = b.load(b.gep(factors, [k]))
            scaled = b.fcmp_ordered("!=", b.load(b.gep(scales, [k])), ir.Constant(F64, 0.0))
            b.store(b.select(scaled, b.fmul(factor, h.value), factor), b.gep(a["scratch"], [k]))
        for k in range(PEAKS):
            b.store(integer(0), b.gep(a["peaks"], [integer(k)]))
        schedule, t = self._schedule(program), b.load(self._real("t"))
        b.store(integer(1 + self.buffers), self.cursor)
        with loop(b, b.load(schedule), name="pass"):
            self._pass(a["member"], schedule, a["scratch"], t)

    def _peak(self, k: int) -> Any:
        bits = self.b.load(self.b.gep(self.a["peaks"], [integer(k)]))
        return self.m.wrap(self.b.bitcast(bits, F64))

    def _learn(self) -> None:
        """The bounds that the last program found."""
        if self.moving:
            for k, name in ((1, "real"), (2, "imaginary")):
                self._set(name, self._peak(k) * self._value("factor"))

    def _find_rung(self, h: Any) -> Any:
        """The first rung that reaches h·ρ, or the last."""
        b, rung = self.b, self.rung
        wanted = (h * self._value("real")) * self.m.number(SPARE)
        b.store(integer(0), rung)
        head, body, after = (b.append_basic_block(name) for name in ("rung", "higher", "found"))
        b.branch(head)
        b.position_at_end(head)
        k = b.load(rung)
        short = b.fcmp_ordered("<", b.load(b.gep(self.a["reaches"], [k])), wanted.value)
        inside = b.icmp_signed("<", k, integer(len(self.embedded.rungs) - 1))
        b.cbranch(b.and_(short, inside), body, after)
        b.position_at_end(body)
        b.store(b.add(k, integer(1)), rung)
        b.branch(head)
        b.position_at_end(after)
        return b.load(rung)

    def _step(self) -> None:
        b, m = self.b, self.m
        times = self.a["times"]
        end = m.wrap(b.load(b.gep(times, [b.add(b.load(self._word("interval")), integer(1))])))
        left = end - self._value("t")
        most = longest(m, self.embedded, self._value("dt"), self._value("real"), self._value("imaginary"))
        h, last = tried(m, smaller(m, self._value("h"), most), left)
        k = self._find_rung(h)
        program = b.add(k, integer(1))
        b.store(k, self._word("rung"))
        stuck = b.and_(b.not_(last.value), is_stuck(m, h, end - m.wrap(b.load(times))).value)
        missing = b.icmp_signed("==", self._item("rungs", program), integer(0))
        with b.if_else(b.or_(missing, stuck)) as (then, otherwise):
            with then:
                b.store(b.select(stuck, integer(STUCK), integer(WANTED)), self._word("code"))
            with otherwise:
                self._run(program, h)
                self._count_up("evaluations", self._item("costs", k))
                self._judge(program, h, last, end)

    def _judge(self, program: Any, h: Any, last: Any, end: Any) -> None:
        b, m = self.b, self.m
        error = self._peak(0)
        with b.if_else((error <= m.number(1.0)).value) as (accepted, refused):
            with accepted:
                self._accept(program, h, last, end, error)
            with refused:
                self._set("h", h * refused_factor(m, self.embedded.power, error))
                self._set("growth", m.number(1.0))
                self._count_up("rejected")

    def _accept(self, program: Any, h: Any, last: Any, end: Any, error: Any) -> None:
        b, m = self.b, self.m
        wanted, growth, before = self._value("h"), self._value("growth"), self._value("before")
        after, remembered = following(m, self.embedded.power, h, wanted, growth, error, before)
        self._set("h", after)
        self._set("before", remembered)
        self._set("growth", m.number(GROWTH))
        self._set("t", m.select(last, end, self._value("t") + h))
        self._rename(self._schedule(program))
        self._learn()
        self._count_up("accepted")
        with b.if_then(last.value):
            for state in range(self.states):
                buffer = b.load(b.gep(self.table, [integer(state)]))
                b.call(self.save_state, [buffer, self._saved(self.a["member"], b.load(self._word("interval")), state)])
            self._count_up("interval")


def build(pairs: Pairs, names: Names) -> ir.Module:
    """The module of a pair's kernels with its `run`."""
    module, stencil = ir.Module(), pairs.stencil
    layout = Layout(stencil.model.grid.shape)
    sweeps = Sweeps(module, stencil, layout, names)
    functions = [sweeps.sweep(kernel, k) for k, kernel in enumerate(pairs.kernels)]
    Advance(module, stencil, layout, names, functions, pairs.buffers, most_slots(pairs.kernels), pairs).emit()
    return module
