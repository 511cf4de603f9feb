"""The loop over the events of a step, in LLVM and in C; the event itself is `sde_jumps.event`.

In the LLVM kernel a first loop over the block's members tells, vectorised, who has anything to come in this step; only
those enter the scalar loop over events.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from sdesim.kernels.llvm import integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, VOID, CMachine, CValue, LLVMMachine
from sdesim.kernels.sde_jumps import MAX_EVENTS, due, event
from sdesim.kernels.sde_trace import SDETrace


def environment(
    tr: SDETrace, b: ir.IRBuilder, m: LLVMMachine, rows: list[Any], i: Any, uniform: Any
) -> dict[Any, Any]:
    """States and parameters of the member at place i; `rows` are those of the states and the varying parameters."""
    names = [*(f"y:{j}" for j in range(tr.dimension)), *(f"p:{name}" for name in tr.varying)]
    env: dict[Any, Any] = {name: m.wrap(b.load(b.gep(row, [i]))) for name, row in zip(names, rows, strict=True)}
    for k, name in enumerate(tr.parameters):
        if name not in tr.varying:
            env[f"p:{name}"] = m.wrap(b.load(b.gep(uniform, [integer(k)])))
    return env


def head(tr: SDETrace, module: ir.Module, name: str, middle: list[Any]) -> tuple[Any, ir.IRBuilder, list[Any]]:
    """A function of the rows, of `middle`, and of (s, t, h, uniform, k0, k1)."""
    rows = tr.dimension + len(tr.varying)
    types = [F64_POINTER] * rows + middle + [I64, F64, F64, F64_POINTER, I64, I64]
    fn = ir.Function(module, ir.FunctionType(VOID, types), name)
    fn.attributes.add("noinline")
    for a in fn.args[:rows]:
        a.add_attribute("noalias")
    return fn, ir.IRBuilder(fn.append_basic_block()), list(fn.args)


def llvm_jumps(module: ir.Module, tr: SDETrace) -> Any:
    """jumps(states…, varying parameters…, flags, members, n, s, t, h, uniform parameters, k0, k1): X ↦ J X in place."""
    assert tr.jumps is not None
    one = _llvm_member(module, tr)
    rows = tr.dimension + len(tr.varying)
    fn, b, args = head(tr, module, "jumps", [F64_POINTER, I64_POINTER, I64])
    flags, members, n, s, t, h, uniform, k0, k1 = args[rows:]
    flags.add_attribute("noalias")
    m = LLVMMachine(b)
    key = (m.wrap(k0), m.wrap(k1))
    with loop(b, n) as i:
        env = environment(tr, b, m, args[:rows], i, uniform) | {"t:": m.wrap(t)}
        some = due(m, tr.jumps, env, m.wrap(b.load(b.gep(members, [i]))), m.wrap(s), key, m.wrap(h))
        b.store(m.select(some, m.number(1.0), m.number(0.0)).value, b.gep(flags, [i]))
    with loop(b, n) as i:
        some = b.fcmp_ordered("!=", b.load(b.gep(flags, [i])), ir.Constant(F64, 0.0))
        with b.if_then(some):
            b.call(one, [*args[:rows], i, b.load(b.gep(members, [i])), s, t, h, uniform, k0, k1])
    b.ret_void()
    return fn


def _llvm_member(module: ir.Module, tr: SDETrace) -> Any:
    """events(states…, varying parameters…, i, member, s, t, h, uniform, k0, k1): every event of one member's step."""
    assert tr.jumps is not None
    rows = tr.dimension + len(tr.varying)
    fn, b, args = head(tr, module, "events", [I64, I64])
    i, member, s, t, h, uniform, k0, k1 = args[rows:]
    m = LLVMMachine(b)
    fixed = environment(tr, b, m, args[:rows], i, uniform) | {"t:": m.wrap(t)}
    before = b.block
    body, after = fn.append_basic_block("event"), fn.append_basic_block("end")
    b.branch(body)
    b.position_at_end(body)
    k, remaining, *states = [b.phi(kind) for kind in (I64, F64, *[F64] * tr.dimension)]
    starts = [integer(0), h, *(fixed[f"y:{j}"].value for j in range(tr.dimension))]
    own = {f"y:{j}": m.wrap(y) for j, y in enumerate(states)}
    words = m.wrap(member), m.wrap(s), m.wrap(k), (m.wrap(k0), m.wrap(k1))
    values, left, came = event(m, tr.jumps, fixed | own, *words, m.wrap(remaining))
    next_k = b.add(k, integer(1))
    end = b.block
    ends = [next_k, left.value, *(v.value for v in values)]
    for phi, first, following in zip((k, remaining, *states), starts, ends, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(following, end)
    b.cbranch(b.and_(came.value, b.icmp_signed("<", next_k, integer(MAX_EVENTS))), body, after)
    b.position_at_end(after)
    for row, value in zip(args, values, strict=False):
        b.store(m.select(came, m.number(float("nan")), value).value, b.gep(row, [i]))
    b.ret_void()
    return fn


def c_jumps(tr: SDETrace, index: int) -> str:
    """jumps_<index>(y, p, t, h, member, s, k0, k1): X ↦ J X of one member, in place."""
    assert tr.jumps is not None
    m = CMachine()
    env: dict[Any, Any] = {f"y:{i}": m.wrap(f"y[{i}]") for i in range(tr.dimension)}
    env |= {f"p:{name}": m.wrap(f"p[{k}]") for k, name in enumerate(tr.parameters)} | {"t:": m.wrap("t")}
    member, s, k, k0, k1 = (CValue(m, name, "u64") for name in ("member", "s", "k", "k0", "k1"))
    values, left, came = event(m, tr.jumps, env, member, s, k, (k0, k1), m.wrap("remaining"))
    held = [f"const double next{i} = {value.text};" for i, value in enumerate(values)]
    held += [f"y[{i}] = next{i};" for i in range(tr.dimension)]
    held += [f"remaining = {left.text};", f"if (!{came.text}) return;"]
    lines = "".join(f"    {line}\n" for line in [*m.lines, *held])
    lost = " ".join(f"y[{i}] = as_double(0x7ff8000000000000ull);" for i in range(tr.dimension))
    return (
        f"DEVICE void jumps_{index}(double* y, const double* p, double t, double h, u64 member, u64 s, "
        "u64 k0, u64 k1)\n"
        "{\n"
        f"  double remaining = h;\n  for (u64 k = 0; k < {MAX_EVENTS}ull; k++) {{\n{lines}  }}\n  {lost}\n}}\n"
    )
