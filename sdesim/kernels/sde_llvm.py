"""Fused CPU kernels for SDEs: one block of members through every step and every save, in one call.

The module has these functions. `fill` draws the normals of one Wiener process for two steps, or four in float32 (they
belong to one member), `fill_signs` random signs; `step` applies the traced method to every member of the block; `run`
holds the loops over saves and steps. Rows are separate `noalias` arguments and the loop over members is innermost, so
LLVM vectorises both; states and noise of a block stay in the first-level cache.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from llvmlite import ir

from sdesim.arithmetic import FUNCTIONS
from sdesim.calculus import evaluate, walk
from sdesim.kernels.llvm import Compiled, integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, REAL, VOID, LLVMMachine
from sdesim.kernels.sde_bridge import COLUMNS, joint, single
from sdesim.kernels.sde_counts import llvm_counts
from sdesim.kernels.sde_cut import LLVMCut
from sdesim.kernels.sde_events import llvm_jumps
from sdesim.kernels.sde_fill import CHAIN, fill_function, rows_function
from sdesim.kernels.sde_trace import SDETrace
from sdesim.reals import DOUBLE, Format
from sdesim.streams import Purpose, normals_of, signs_of, units_of

BLOCK = 512
_RARE = {"interleave.count": 1}  # loops of saves: less code, quicker compiled
_SCALARS = ("t:", "h:", "s:")


def _step(module: ir.Module, tr: SDETrace, form: Format = DOUBLE) -> Any:
    """step(states…, normals…, varying parameters…, counts…, n, t, h, √h, uniform parameters): X ↦ X' in place."""
    counts = [node for level in tr.counts for node in level]
    rows = tr.dimension + len(tr.draws) + len(tr.varying) + len(counts)
    real, pointer = REAL[form], REAL[form].as_pointer()
    fn, b = rows_function(module, "step", [pointer] * rows + [I64, real, real, real, pointer], rows)
    args = list(fn.args)
    n, uniform = args[rows], args[rows + 4]
    m = LLVMMachine(b, form)
    env: dict[Any, Any] = {name: m.wrap(a) for name, a in zip(_SCALARS, args[rows + 1 : rows + 4], strict=True)}
    for k, name in enumerate(tr.parameters):
        if name not in tr.varying:
            env[f"p:{name}"] = m.wrap(b.load(b.gep(uniform, [integer(k)])))
    # what depends on nothing of the member is computed once, before the loop
    names = [*(f"y:{j}" for j in range(tr.dimension)), *tr.names, *(f"p:{name}" for name in tr.varying)]
    env |= _hoisted(tr, set(names), env, m)

    def local(i: Any, known: Mapping[Any, Any]) -> dict[Any, Any]:
        own = {**dict(zip(names, args, strict=False)), **known}
        return env | {name: m.wrap(b.load(b.gep(row, [i]))) for name, row in own.items()}

    held = dict(zip(counts, args[rows - len(counts) : rows], strict=True))
    llvm_counts(module, m, tr.counts, held, lambda name: args[names.index(name)], n, local)
    slow = sum(node.op == "pow" or node.op in FUNCTIONS for node in walk(tr.step))
    with loop(b, n, hints=CHAIN[form] if 0 < slow <= 2 else None) as i:
        results = evaluate(tr.step, local(i, held), m)
        for value, row in zip(results, args, strict=False):
            b.store(value.value, b.gep(row, [i]))
    b.ret_void()
    return fn


def _hoisted(tr: SDETrace, per_member: set[str], env: dict[Any, Any], m: LLVMMachine) -> dict[Any, Any]:
    """Values of the maximal uniform subgraphs, keyed by the node itself."""
    varies: dict[Any, bool] = {}
    wanted = []
    for node in walk(tr.step):
        varies[node] = node.value in per_member if node.op == "symbol" else any(varies[a] for a in node.args)
        wanted += [a for a in node.args if varies[node] and not varies[a] and a.args]
    wanted += [e for e in tr.step if not varies[e] and e.args]
    nodes = list(dict.fromkeys(wanted))
    return dict(zip(nodes, evaluate(nodes, env, m), strict=True))


class _Run:
    """Builds `run`, which takes members by blocks, each through `block`: for each save, step up to it, take a bridged
    partial step if it lies between steps, store.
    """

    def __init__(self, module: ir.Module, tr: SDETrace, form: Format) -> None:
        self.tr, self.form, self.step = tr, form, _step(module, tr, form)
        real = REAL[form].as_pointer()
        # the clock stays float64 in either format
        fixed = {
            "uniform": real, "stride": I64, "saves": I64, "due": I64_POINTER, "bridge": real, "t0": F64, "h": F64,
            "root": F64, "k0": I64, "k1": I64,
        }  # fmt: skip
        own = {"members": I64_POINTER, "n": I64, "out": real}
        after = {"after": I64, "context": I64_POINTER, "wide": F64_POINTER, "done": I64_POINTER}
        of_block = {**own, "state": real, "varying": real, "scratch": real, **fixed, **after}
        self.arguments = {**own, "initial": real, "given": real, "count": I64, "work": real, **fixed, **after}
        self.jumps = llvm_jumps(module, tr) if tr.jumps and not tr.cut else None
        self.cut = LLVMCut(module, tr, self.step) if tr.cut else None
        self.fill = fill_function(module, "fill", normals_of, form)
        self.fills = {"z": (self.fill, Purpose.STEP), "a": (self.fill, Purpose.AUXILIARY)}
        if any(kind == "b" for kind, _ in tr.draws):
            self.fills["b"] = fill_function(module, "fill_signs", signs_of, form), Purpose.SIGN
        if any(kind == "u" for kind, _ in tr.draws):
            self.fills["u"] = fill_function(module, "fill_uniforms", units_of), Purpose.COUNT
        fn = ir.Function(module, ir.FunctionType(I64, list(of_block.values())), "block")
        self.b = ir.IRBuilder(fn.append_basic_block())
        self.a = dict(zip(of_block, fn.args, strict=True))
        # scratch rows: draws of the steps of one counter in turn, W and J of the bridge, draws of a partial step, waste
        # rows (numbers of a bridge that nothing needs), a copy of the state
        n = len(tr.draws)
        self.W, self.J = form.draws * n, form.draws * n + tr.channels
        self.partial = self.J + tr.channels
        self.waste, self.copy = self.partial + n, self.partial + n + form.draws - 1
        self.flags = self.copy + tr.dimension  # whose step has jumps
        self.counts = self.flags + 1 + (tr.dimension if tr.cut else 0)
        self.scratch_rows = self.counts + sum(len(level) for level in tr.counts)
        self.work_rows = tr.dimension + len(tr.varying) + self.scratch_rows
        self.build()
        self.by_blocks(module, fn, {**fixed, **after})

    def by_blocks(self, module: ir.Module, block: Any, fixed: dict[str, Any]) -> None:
        """run: for each block copy its states and parameters to the work space, then `block`, which may stop it."""
        fn = ir.Function(module, ir.FunctionType(VOID, list(self.arguments.values())), "run")
        b, a = ir.IRBuilder(fn.append_basic_block()), dict(zip(self.arguments, fn.args, strict=True))
        d, v = self.tr.dimension, len(self.tr.varying)
        rows = [b.gep(a["work"], [integer(k * BLOCK)]) for k in range(d + v + 1)]
        with loop(b, b.udiv(b.add(a["n"], integer(BLOCK - 1)), integer(BLOCK)), name="block") as k:
            first = b.mul(k, integer(BLOCK))
            left = b.sub(a["n"], first)
            n = b.select(b.icmp_signed("<", left, integer(BLOCK)), left, integer(BLOCK))
            for j, row in enumerate(rows[:-1]):
                base, number = ("initial", j) if j < d else ("given", j - d)
                source = b.gep(a[base], [b.add(b.mul(integer(number), a["count"]), first)])
                with loop(b, n, hints=_RARE) as i:
                    b.store(b.load(b.gep(source, [i])), b.gep(row, [i]))
            own = [b.gep(a["members"], [first]), n, b.gep(a["out"], [first]), rows[0], rows[d], rows[d + v]]
            stop = b.call(block, [*own, *(a[name] for name in fixed)])
            with b.if_then(b.icmp_signed("!=", stop, integer(0))):
                b.ret_void()
        b.ret_void()

    def row(self, base: str, index: Any) -> Any:
        """Row `index` (int or i64 value) of a block of rows of BLOCK numbers."""
        offset = integer(index * BLOCK) if isinstance(index, int) else self.b.mul(index, integer(BLOCK))
        return self.b.gep(self.a[base], [offset])

    def build(self) -> None:
        b, a = self.b, self.a
        done = b.alloca(I64)
        b.store(integer(0), done)
        with loop(b, a["saves"], name="save") as j:
            due = b.load(b.gep(a["due"], [j]))
            with loop(b, due, b.load(done), name="step") as s:
                self.advance(s)
            b.store(due, done)
            self.store_save(j, due)
        with b.if_then(b.icmp_signed("!=", a["after"], integer(0))):
            self.hand_over(a["saves"], a["out"])
            b.store(b.add(b.load(a["done"]), a["n"]), a["done"])
        b.ret(integer(0))

    def normals(self, s: Any) -> None:
        """Draw the rows of the counter that step s belongs to, if s begins it."""
        begins = self.b.icmp_signed("==", self.b.and_(s, integer(self.form.draws - 1)), integer(0))
        with self.b.if_then(begins):
            self.draw(s)

    def draw(self, s: Any) -> None:
        b, a = self.b, self.a
        for k, (kind, word) in enumerate(self.tr.draws):
            fill, purpose = self.fills[kind]
            rows = [self.row("scratch", i * len(self.tr.draws) + k) for i in range(self.form.draws)]
            words = [b.udiv(s, integer(self.form.draws)), integer(word), integer(purpose), a["k0"], a["k1"]]
            b.call(fill, [*rows, a["members"], a["n"], *words])

    def noise_row(self, s: Any, k: int) -> Any:
        """The row of draw k that belongs to step s."""
        turn = self.b.and_(s, integer(self.form.draws - 1))
        return self.row("scratch", self.b.add(self.b.mul(turn, integer(len(self.tr.draws))), integer(k)))

    def real(self, value: Any) -> Any:
        """A float64 in the kernel's format."""
        return LLVMMachine(self.b, self.form).narrow(LLVMMachine(self.b).wrap(value)).value

    def time(self, s: Any) -> Any:
        return self.b.fadd(self.a["t0"], self.b.fmul(self.b.sitofp(s, F64), self.a["h"]))

    def call_step(self, states: list[Any], draws: list[Any], s: Any, h: Any, root: Any) -> None:
        """A step of h from step s's time; its jumps come after it where s is even, else before, or cut it."""
        b, a, t = self.b, self.a, self.time(s)
        varying = [self.row("varying", k) for k in range(len(self.tr.varying))]
        if self.cut:
            spare = [self.row("scratch", k) for k in range(self.flags, self.counts)]
            tail = [a["members"], a["n"], s, t, h, a["uniform"], a["k0"], a["k1"]]
            self.cut.emit(b, states, draws, varying, spare, tail, [a["n"], t, h, root, a["uniform"]])
            return
        odd = b.icmp_signed("==", b.and_(s, integer(1)), integer(1))
        if self.jumps:
            tail = [self.row("scratch", self.flags), a["members"], a["n"], s]
            with b.if_then(odd):
                b.call(self.jumps, [*states, *varying, *tail, t, h, a["uniform"], a["k0"], a["k1"]])
        counts = [self.row("scratch", k) for k in range(self.counts, self.scratch_rows)]
        b.call(self.step, [*states, *draws, *varying, *counts, a["n"], self.real(t), h, root, a["uniform"]])
        if self.jumps:
            with b.if_then(b.not_(odd)):
                b.call(self.jumps, [*states, *varying, *tail, b.fadd(t, h), h, a["uniform"], a["k0"], a["k1"]])

    def advance(self, s: Any) -> None:
        self.normals(s)
        states = [self.row("state", i) for i in range(self.tr.dimension)]
        draws = [self.noise_row(s, k) for k in range(len(self.tr.draws))]
        self.call_step(states, draws, s, self.real(self.a["h"]), self.real(self.a["root"]))

    def store_save(self, j: Any, due: Any) -> None:
        """Store save j: the state itself on the step grid, else a partial step with a bridged increment."""
        b = self.b
        first = b.mul(j, integer(COLUMNS))
        weights = [b.load(b.gep(self.a["bridge"], [b.add(first, integer(k))])) for k in range(COLUMNS)]
        between = b.fcmp_ordered(">", weights[3], ir.Constant(REAL[self.form], 0.0))
        with b.if_else(between) as (off_grid, on_grid):
            with off_grid:
                self.partial_step(due, weights)
                self.copy_out(j, [self.row("scratch", self.copy + i) for i in range(self.tr.dimension)])
            with on_grid:
                self.copy_out(j, [self.row("state", i) for i in range(self.tr.dimension)])

    def copy_out(self, j: Any, rows: list[Any]) -> None:
        """The states of save j to `out`, or to the function `after`."""
        b, a = self.b, self.a
        with b.if_else(b.icmp_signed("==", a["after"], integer(0))) as (keep, fold):
            with keep:
                for i, row in enumerate(rows):
                    index = b.add(b.mul(j, integer(self.tr.dimension)), integer(i))
                    target = b.gep(a["out"], [b.mul(index, a["stride"])])
                    with loop(b, a["n"], hints=_RARE) as k:
                        b.store(b.load(b.gep(row, [k])), b.gep(target, [k]))
            with fold:
                self.hand_over(j, rows[0])

    def hand_over(self, j: Any, x: Any) -> None:
        """Give `after` the states of save j, in consecutive rows widened to float64; return where it stops the run."""
        b, a = self.b, self.a
        if self.form is not DOUBLE:
            with loop(b, integer(self.tr.dimension * BLOCK), hints=_RARE) as i:
                b.store(b.fpext(b.load(b.gep(x, [i])), F64), b.gep(a["wide"], [i]))
            x = a["wide"]
        kind = ir.FunctionType(I64, [I64_POINTER, I64, F64_POINTER, I64]).as_pointer()
        stop = b.call(b.inttoptr(a["after"], kind), [a["context"], j, x, a["n"]])
        with b.if_then(b.icmp_signed("!=", stop, integer(0))):
            b.store(j, b.gep(a["done"], [integer(1)]))
            b.ret(integer(1))

    def partial_step(self, s: Any, weights: list[Any]) -> None:
        """From the state at step s, a step of length θh on a copy, its normals drawn from the bridge of this step."""
        b, tr = self.b, self.tr
        h, root, ordinal = weights[3:6]
        self.normals(s)
        first = b.fcmp_ordered("==", ordinal, ir.Constant(REAL[self.form], 0.0))
        bridged = {}
        for c in range(tr.channels):
            spare = [self.row("scratch", self.waste + i) for i in range(self.form.draws - 1)]
            zeta = [self.row("scratch", self.partial + c), *spare]
            bridged[c] = zeta[0]
            if tr.joint and tr.joint[c] >= 0:
                zeta[1] = bridged[tr.joint[c]] = self.row("scratch", self.partial + tr.joint[c])
            channel = b.or_(b.shl(b.fptoui(ordinal, I64), integer(16)), integer(c))
            words = [s, channel, integer(Purpose.BRIDGE), self.a["k0"], self.a["k1"]]
            b.call(self.fill, [*zeta, self.a["members"], self.a["n"], *words])
            self.bridge(c, s, zeta, weights, first)
        for i in range(tr.dimension):
            source, target = self.row("state", i), self.row("scratch", self.copy + i)
            with loop(b, self.a["n"], hints=_RARE) as k:
                b.store(b.load(b.gep(source, [k])), b.gep(target, [k]))
        states = [self.row("scratch", self.copy + i) for i in range(tr.dimension)]
        draws = [bridged[k] if k in bridged else self.noise_row(s, k) for k in range(len(tr.draws))]
        self.call_step(states, draws, s, h, root)

    def bridge(self, c: int, s: Any, zeta: list[Any], weights: list[Any], first: Any) -> None:
        """From fresh normals `zeta` to those of the partial step, in place; W and J are kept for the next save."""
        b, m = self.b, LLVMMachine(self.b, self.form)
        w, zero, start = [m.wrap(v) for v in weights], m.number(0.0), m.wrap(first)
        paths = [self.row("scratch", self.W + c), self.row("scratch", self.J + c)]
        auxiliary = self.tr.joint[c] if self.tr.joint else -1
        rows = [self.noise_row(s, k) for k in (c, auxiliary) if k >= 0]
        with loop(b, self.a["n"], hints=_RARE) as k:
            values = [m.wrap(b.load(b.gep(row, [k]))) for row in (*rows, *paths, *zeta[:2])]
            before = [m.select(start, zero, v) for v in values[len(rows) : len(rows) + 2]]
            results: tuple[Any, ...]
            if auxiliary >= 0:
                results = joint(m, w, values[0], values[1], before[0], before[1], (values[4], values[5]))
            else:
                results = single(w, values[0], before[0], values[3])
            targets = [*paths, *zeta[:2]] if auxiliary >= 0 else [paths[0], zeta[0]]
            for value, row in zip(results, targets, strict=True):
                b.store(value.value, b.gep(row, [k]))


class SDEKernel:
    """The compiled kernel of one trace in one format; `work_rows` rows of BLOCK numbers are its work space.

    run(members, n, out, initial, given, count, work, uniform, stride, saves, due, bridge, t₀, h, √h, k0, k1, after,
    context, wide, done): n members, their numbers, initial states (state, count), parameters (parameter, count), `out`
    (save, state, stride). With `after` (an address, else 0) nothing is stored: after(context, save, states, n) is
    called at each save of a block, and past the last, until it does not return 0; `done` then holds the members of
    whole blocks, and the save that was refused. `wide` has room for the states of a block in float64.
    """

    def __init__(self, tr: SDETrace, form: Format = DOUBLE) -> None:
        module = ir.Module()
        self.trace = tr
        self.module = module
        run = _Run(module, tr, form)
        self.work_rows = run.work_rows
        self.code = Compiled(module)
        types = {I64: ctypes.c_int64, F64: ctypes.c_double}
        self.run = self.code.function("run", *(types.get(t, ctypes.c_void_p) for t in run.arguments.values()))
