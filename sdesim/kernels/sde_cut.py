"""The loop over the parts of a step that jumps cut, in LLVM and in C; the parts themselves are `sde_segments`.

In the LLVM kernel every member takes the method's step, vectorised; those who have an event in it are then put back to
where they were and go through their parts one by one, by the same compiled step.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir

from sdesim.kernels.llvm import integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, CMachine, CValue, LLVMMachine
from sdesim.kernels.sde_events import environment, head
from sdesim.kernels.sde_jumps import MAX_EVENTS, due
from sdesim.kernels.sde_segments import Rest, beginning, landed, part, pause, remaining
from sdesim.kernels.sde_trace import SDETrace


class LLVMCut:
    """The functions of a cut step; `emit` puts one in place of a call of the method's own step."""

    def __init__(self, module: ir.Module, tr: SDETrace, step: Any) -> None:
        self.tr, self.step = tr, step
        self.mark, self.parts = self._mark(module), self._parts(module, self._member(module))

    def emit(
        self, b: ir.IRBuilder, states: list[Any], draws: list[Any], varying: list[Any], spare: list[Any],
        tail: list[Any], step: list[Any],
    ) -> None:  # fmt: skip
        """The step of a block: `spare` are a row of flags and one for each state, `tail` (members, n, s, t, h, …), and
        `step` the arguments of the method's step after its rows.
        """
        b.call(self.mark, [*states, *varying, *spare, *tail])
        b.call(self.step, [*states, *draws, *varying, *step])
        b.call(self.parts, [*states, *varying, *draws, *spare, *tail])

    def _mark(self, module: ir.Module) -> Any:
        """mark(states…, varying…, flags, held…, members, n, s, t, h, uniform, k0, k1): who has events; held states."""
        tr, rows = self.tr, self.tr.dimension + len(self.tr.varying)
        assert tr.jumps is not None
        spare = 1 + tr.dimension
        fn, b, args = head(tr, module, "mark", [*[F64_POINTER] * spare, I64_POINTER, I64])
        (flags, *held), (members, n, s, t, h, uniform, k0, k1) = args[rows : rows + spare], args[rows + spare :]
        m = LLVMMachine(b)
        with loop(b, n) as i:
            env = environment(tr, b, m, args[:rows], i, uniform) | {"t:": m.wrap(t)}
            key, who = (m.wrap(k0), m.wrap(k1)), m.wrap(b.load(b.gep(members, [i])))
            some = due(m, tr.jumps, env, who, m.wrap(s), key, m.wrap(h))
            b.store(m.select(some, m.number(1.0), m.number(0.0)).value, b.gep(flags, [i]))
            for source, target in zip(args, held, strict=False):
                b.store(b.load(b.gep(source, [i])), b.gep(target, [i]))
        b.ret_void()
        return fn

    def _parts(self, module: ir.Module, one: Any) -> Any:
        """parts(states…, varying…, draws…, flags, held…, members, n, s, t, h, uniform, k0, k1): who has events."""
        tr, rows = self.tr, self.tr.dimension + len(self.tr.varying)
        spare, every = 1 + tr.dimension, rows + len(self.tr.draws)
        middle = [*[F64_POINTER] * (len(tr.draws) + spare), I64_POINTER, I64]
        fn, b, args = head(tr, module, "parts", middle)
        (flags, *held), (members, n, *rest) = args[every : every + spare], args[every + spare :]
        with loop(b, n) as i, b.if_then(b.fcmp_ordered("!=", b.load(b.gep(flags, [i])), ir.Constant(F64, 0.0))):
            for source, target in zip(held, args, strict=False):
                b.store(b.load(b.gep(source, [i])), b.gep(target, [i]))
            b.call(one, [*args[:every], i, b.load(b.gep(members, [i])), *rest])
        b.ret_void()
        return fn

    def _member(self, module: ir.Module) -> Any:
        """cut(states…, varying…, draws…, i, member, s, t, h, uniform, k0, k1): every part of one member's step."""
        tr, d, rows = self.tr, self.tr.dimension, self.tr.dimension + len(self.tr.varying)
        assert tr.jumps is not None
        fn, b, args = head(tr, module, "cut", [*[F64_POINTER] * len(tr.draws), I64, I64])
        i, member, s, t, h, uniform, k0, k1 = args[rows + len(tr.draws) :]
        m, at = LLVMMachine(b), [b.gep(row, [i]) for row in args[: rows + len(tr.draws)]]
        key, here = (m.wrap(k0), m.wrap(k1)), at[:d]
        fixed = environment(tr, b, m, args[:rows], i, uniform)
        own, path = [b.alloca(F64) for _ in tr.draws], [(b.alloca(F64), b.alloca(F64)) for _ in range(tr.channels)]
        count, pos, left = b.alloca(I64), b.alloca(F64), b.alloca(F64)
        b.store(integer(0), count)
        b.store(ir.Constant(F64, 0.0), pos)
        b.store(h, left)
        self._keep(b, path, beginning(m, tr, [m.wrap(b.load(row)) for row in at[rows:]]))
        body, after = fn.append_basic_block("part"), fn.append_basic_block("end")
        b.branch(body)
        b.position_at_end(body)

        def known() -> dict[Any, Any]:
            now = m.wrap(t) + m.wrap(b.load(pos))
            return fixed | {f"y:{j}": m.wrap(b.load(y)) for j, y in enumerate(here)} | {"t:": now}

        k, over = b.load(count), m.wrap(b.load(left))
        rest: Rest = [(m.wrap(b.load(U)), m.wrap(b.load(V))) for U, V in path]
        place, env = (m.wrap(member), m.wrap(s), m.wrap(k)), known()
        length, *chosen = pause(m, tr.jumps, env, place, key, over)
        draws, rest = part(m, tr, rest, over / m.wrap(h), length / over, place, key)
        self._keep(b, path, rest)
        for value, target in zip(draws, own, strict=True):
            b.store(value.value, target)
        scalars = [integer(1), env["t:"].value, length.value, m.sqrt(length).value, uniform]
        b.call(self.step, [*here, *own, *at[d:rows], *scalars])
        b.store((m.wrap(b.load(pos)) + length).value, pos)
        values = landed(m, tr.jumps, known(), place, key, tuple(chosen))
        b.store(remaining(m, over, length, m.wrap(h)).value, left)
        following, came = b.add(k, integer(1)), chosen[0]
        b.store(following, count)
        for value, target in zip(values, here, strict=True):
            b.store(value.value, target)
        b.cbranch(b.and_(came.value, b.icmp_signed("<", following, integer(MAX_EVENTS))), body, after)
        b.position_at_end(after)
        for value, target in zip(values, here, strict=True):
            b.store(m.select(came, m.number(math.nan), value).value, target)
        b.ret_void()
        return fn

    @staticmethod
    def _keep(b: ir.IRBuilder, path: list[Any], rest: Any) -> None:
        for pair, values in zip(path, rest, strict=True):
            for target, value in zip(pair, values, strict=True):
                b.store(value.value, target)


def c_cut(tr: SDETrace, index: int) -> str:
    """cut_<index>(y, z, p, t, h, root, member, s, k0, k1): a step of one member, cut at its events, in place."""
    assert tr.jumps is not None
    first, m = CMachine(), CMachine()
    begin = beginning(first, tr, [first.wrap(f"z[{k}]") for k in range(len(tr.draws))])
    start = [*first.lines, *_c_path(begin)]
    fixed: dict[Any, Any] = {f"p:{name}": m.wrap(f"p[{k}]") for k, name in enumerate(tr.parameters)}
    fixed |= {f"y:{i}": m.wrap(f"y[{i}]") for i in range(tr.dimension)}
    member, s, k, k0, k1 = (CValue(m, name, "u64") for name in ("member", "s", "k", "k0", "k1"))
    place, key, left = (member, s, k), (k0, k1), m.wrap("left")
    length, *chosen = pause(m, tr.jumps, fixed | {"t:": m.wrap("now")}, place, key, left)
    came, fit = chosen[:2]
    m.lines.append(f"if (k == 0 && {fit.text} && !{came.text}) {{ step_{index}(y, z, p, t, h, root); return; }}")
    rest = [(m.wrap(f"U[{c}]"), m.wrap(f"V[{c}]")) for c in range(tr.channels)]
    draws, rest = part(m, tr, rest, left / m.wrap("h"), length / left, place, key)
    m.lines += [*_c_path(rest), *(f"own[{i}] = {value.text};" for i, value in enumerate(draws))]
    m.lines += [f"step_{index}(y, own, p, now, {length.text}, {m.sqrt(length).text});", f"pos = pos + {length.text};",
                "now = t + pos;"]  # fmt: skip
    ends = landed(m, tr.jumps, fixed | {"t:": m.wrap("now")}, place, key, tuple(chosen))
    m.lines += [f"const double next{i} = {value.text};" for i, value in enumerate(ends)]
    m.lines += [f"y[{i}] = next{i};" for i in range(tr.dimension)]
    m.lines += [f"left = {remaining(m, left, length, m.wrap('h')).text};", f"if (!{came.text}) return;"]
    body = "".join(f"    {line}\n" for line in m.lines)
    lost = " ".join(f"y[{i}] = as_double(0x7ff8000000000000ull);" for i in range(tr.dimension))
    room, draws_room = max(1, tr.channels), max(1, len(tr.draws))
    return (
        f"DEVICE void cut_{index}(double* y, const double* z, const double* p, double t, double h, double root, "
        f"u64 member, u64 s, u64 k0, u64 k1)\n{{\n"
        f"  double left = h, pos = 0.0, now = t, U[{room}], V[{room}], own[{draws_room}];\n"
        + "".join(f"  {line}\n" for line in start)
        + f"  for (u64 k = 0; k < {MAX_EVENTS}ull; k++) {{\n{body}  }}\n  {lost}\n}}\n"
    )


def _c_path(rest: Any) -> list[str]:
    return [f"{name}[{c}] = {v.text};" for c, pair in enumerate(rest) for name, v in zip("UV", pair, strict=True)]
