"""Fused CPU kernels for SDEs with steps that follow an error estimate: many members, each with steps of its own.

A lane holds a member. In each sweep a lane tries one node of its tree (`kernels.sde_tree`): what costs
arithmetic (noise, halves, the method's steps, the error) runs over rows, one number for each lane, in loops that LLVM
vectorises; what is choice (accept, halve, pass on, save) is scalar code between them. Lanes that need noise are
gathered in a list first. A lane whose member is done takes the next member, so that no lane idles.
"""

from __future__ import annotations

import ctypes
from typing import Any

from llvmlite import ir

from sdesim.calculus import evaluate
from sdesim.kernels.llvm import Compiled
from sdesim.kernels.machines import F64, I64
from sdesim.kernels.sde_hazard import hazard_function
from sdesim.kernels.sde_lanes import STRIDE, RowFunction
from sdesim.kernels.sde_sweep import Sweep
from sdesim.kernels.sde_trace import SDETrace
from sdesim.kernels.sde_tree import descent, excess, instants, judged, place, split, whole
from sdesim.kernels.sde_walls import wall_functions
from sdesim.streams import normal_pair


def _named(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{k}" for k in range(count)]


def _counter(v: Any) -> tuple[list[Any], tuple[Any, Any]]:
    return [v["member"], v["s"], v["number"], v["word"]], (v["k0"], v["k1"])


def _path_functions(module: ir.Module) -> dict[str, Any]:
    """What draws the path: nodes, their halves, and the way down to a save."""

    def begin(m: Any, v: Any) -> dict[str, Any]:
        counter, key = _counter(v)
        first, second = normal_pair(m, [counter[0], v["s"] >> m.u64(1), v["channel"], v["word"]], key)
        return {"z": m.select((v["s"] & m.u64(1)) != m.u64(0), second, first)}

    def halve(m: Any, v: Any) -> dict[str, Any]:
        return dict(zip(("zl", "al", "zr", "ar"), split(m, (v["z"], v["a"]), *_counter(v)), strict=True))

    def descend(m: Any, v: Any) -> dict[str, Any]:
        node, path = descent(m, (v["z"], v["a"]), (v["W"], v["J"]), v["w"], v["ahead"], *_counter(v))
        return {"z": node[0], "a": node[1], "W": path[0], "J": path[1]}

    def move(m: Any, v: Any) -> dict[str, Any]:
        return dict(zip(("number", "w", "ahead"), place(m, v["number"], v["w"], v["ahead"]), strict=True))

    def close(m: Any, v: Any) -> dict[str, Any]:
        return dict(zip("za", whole(m, (v["W"], v["J"]), (v["z"], v["a"]), v["w"], v["length"]), strict=True))

    node, words, path, key = ["z", "a"], ["member", "s", "number"], ["W", "J"], [("k0", I64), ("k1", I64)]
    make: dict[str, tuple[Any, ...]] = {
        "begin": (begin, ["z"], words, [("channel", I64), ("word", I64), *key]),
        "halve": (halve, [*node, "zl", "al", "zr", "ar"], words, [("word", I64), *key]),
        "descend": (descend, [*node, *path, "w", "ahead"], words, [("word", I64), *key]),
        "move": (move, ["w", "ahead"], ["number"]),
        "close": (close, [*node, *path, "w", "length"]),
    }
    return {name: RowFunction(module, name, *parts).fn for name, parts in make.items()}


def row_functions(module: ir.Module, tr: SDETrace) -> dict[str, Any]:
    """The functions of a sweep by name; their rows in order are the arguments that `sde_sweep` gives them."""
    d, varying = tr.dimension, [f"p:{name}" for name in tr.varying]

    def clock(m: Any, v: Any) -> dict[str, Any]:
        times = instants(m, v["step"], v["x"], v["w"], v["t0"], v["H"])
        return dict(zip(("t:", "h:", "s:"), times, strict=True))

    def error(m: Any, v: Any) -> dict[str, Any]:
        rows = [[v[name] for name in _named(p, tr.followed)] for p in ("y", "c", "f")]
        error = excess(m, rows[0], rows[1], rows[2], v["w"], v["rtol"], [v[a] for a in _named("atol", tr.followed)])
        three = judged(m, error, v["rough"], v["share"], v["cap"])
        return dict(zip(("found", "reckoned", "rough"), three, strict=True))

    def step(m: Any, v: Any) -> dict[str, Any]:
        return dict(zip(_named("f", d), evaluate(tr.step, v, m), strict=True))

    states = [name for kind in "ycf" for name in _named(kind, tr.followed)]
    uniform = [(f"p:{name}", F64) for name in tr.parameters if name not in tr.varying]
    rows = [*_named("f", d), *_named("y:", d), *tr.names, *varying, "t:", "h:", "s:"]
    make: dict[str, tuple[Any, ...]] = {
        "clock": (clock, ["step", "x", "w", "t:", "h:", "s:"], (), [("t0", F64), ("H", F64)]),
        "error": (error, ["found", "reckoned", "rough", "share", "w", *states], (),
                  [(name, F64) for name in ("rtol", "cap", *_named("atol", tr.followed))]),
        "step": (step, rows, (), uniform),
    }  # fmt: skip
    own = {name: RowFunction(module, name, *parts).fn for name, parts in make.items()}
    return _path_functions(module) | wall_functions(module, tr, uniform) | hazard_function(module, tr, uniform) | own


class AdaptiveKernel:
    """The compiled kernel of one trace; `reals`, `words` and `stack` are the shapes of its work space."""

    def __init__(self, tr: SDETrace) -> None:
        module = ir.Module()
        self.trace = tr
        sweep = Sweep(module, tr, row_functions(module, tr))
        self.reals, self.words, self.stack = (
            (rows, STRIDE) for rows in (len(sweep.reals), len(sweep.words), sweep.stack_rows)
        )
        self.code = Compiled(module)
        types = {I64: ctypes.c_int64, F64: ctypes.c_double}
        self.run = self.code.function("run", *(types.get(t, ctypes.c_void_p) for _, t in Sweep.arguments))
