"""What bounds make of the steps that follow an error estimate, in LLVM and in C: `methods.bounded`, after the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from sdesim.calculus import evaluate
from sdesim.kernels.llvm import integer
from sdesim.kernels.machines import I64, CMachine
from sdesim.kernels.sde_lanes import RowFunction
from sdesim.kernels.sde_trace import SDETrace
from sdesim.kernels.sde_tree import wall_word
from sdesim.streams import normal_pair


def wall_functions(module: ir.Module, tr: SDETrace, uniform: list[tuple[str, Any]]) -> dict[str, Any]:
    """The functions that `meet` calls, if there are bounds: one draws a normal, one moves the end of a step."""
    if not tr.walls:
        return {}
    ends = [f"e:{i}" for i in range(tr.dimension)]

    def chance(m: Any, v: Any) -> dict[str, Any]:
        return {"z": normal_pair(m, [v["member"], v["s"], v["number"], v["word"]], (v["k0"], v["k1"]))[0]}

    def walls(m: Any, v: Any) -> dict[str, Any]:
        return dict(zip(ends, evaluate(tr.walls, v, m), strict=True))

    key = [("word", I64), ("k0", I64), ("k1", I64)]
    rows = [*ends, *(f"y:{i}" for i in range(tr.dimension)), *(f"a:{k}" for k in tr.chances),
            *(f"p:{name}" for name in tr.varying), "t:", "h:"]  # fmt: skip
    return {
        "chance": RowFunction(module, "chance", chance, ["z"], ["member", "s", "number"], key).fn,
        "walls": RowFunction(module, "walls", walls, rows, (), uniform).fn,
    }


def meet(
    call: Callable[..., None], tr: SDETrace, ways: tuple[str, str, str], number: str, clock: list[str], n: Any,
    key: tuple[Any, Any], uniform: list[Any],
) -> None:  # fmt: skip
    """Emit what bounds make of a step, `ways` being the names of its end's rows, its start's, and of their list.

    `number` is the row of the nodes whose random numbers they are; `call` emits a call of a function on rows.
    """
    target, source, prefix = ways
    own = [f"{prefix}n{k}" for k in range(len(tr.chances))]
    for k, row in enumerate(own):
        call("chance", [row, f"{prefix}member", f"{prefix}s", number], n, integer(wall_word(k)), *key)
    d, varying = range(tr.dimension), [f"{prefix}p{k}" for k in range(len(tr.varying))]
    call("walls", [*(f"{target}{i}" for i in d), *(f"{source}{i}" for i in d), *own, *varying, *clock], n, *uniform)


def c_walls(tr: SDETrace, index: int) -> str:
    """wall_i(y, end, p, t, h, member, s, number, k0, k1): what bounds make of a step from y to `end`, in place."""
    if not tr.walls:
        return ""
    m, d = CMachine(), range(tr.dimension)
    env: dict[Any, Any] = {f"y:{i}": m.wrap(f"y[{i}]") for i in d} | {f"e:{i}": m.wrap(f"end[{i}]") for i in d}
    env |= {f"a:{which}": m.wrap(f"n[{k}]") for k, which in enumerate(tr.chances)}
    env |= {f"p:{name}": m.wrap(f"p[{k}]") for k, name in enumerate(tr.parameters)}
    results = evaluate(tr.walls, env | {"t:": m.wrap("t"), "h:": m.wrap("h")}, m)
    draws = [f"pair(member, s, number, {wall_word(k)}ull, k0, k1, n[{k}], spare);" for k in range(len(tr.chances))]
    lines = [*draws, *m.lines, *(f"const double next{i} = {value.text};" for i, value in enumerate(results)),
             *(f"end[{i}] = next{i};" for i in d)]  # fmt: skip
    return (
        f"DEVICE void wall_{index}(const double* y, double* end, const double* p, double t, double h, u64 member, "
        f"u64 s, u64 number, u64 k0, u64 k1) {{\n  double n[{max(1, len(tr.chances))}], spare;\n"
        + "".join(f"  {line}\n" for line in lines) + "}\n"
    )  # fmt: skip


def c_meet(tr: SDETrace, index: int) -> tuple[str, str]:
    """What the loop of a thread does with bounds: (after an accepted step, after a partial step to a save)."""
    if not tr.walls:
        return "", ""
    place = "p, t, h, member, (u64)s, 2*number"
    accepted = f"""if (good) {{
      clock(step, x, part, t0, H, t, h, root);
      wall_{index}(y, half, {place}, k0, k1);
      clock(step, middle, part, t0, H, t, h, root);
      step_{index}(half, zr, ar, p, t, h, root, fine);
      wall_{index}(half, fine, {place} + 1, k0, k1);
    }}
    """
    return accepted, f"wall_{index}(right ? half : y, last, {place} + right, k0, k1);"
