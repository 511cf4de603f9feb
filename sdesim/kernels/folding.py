"""What a kernel calls at each save of a block of members: its states join the statistics while they are in the cache.

  fold(context, save, x, n)      0, or 1 where nothing was changed: a state is not finite, or a histogram has no room
      for it; x holds rows of n numbers, one for each state. After the last save of a block (save = skip + times) its
      moments join those of all members. If a save is refused the block's earlier ones stay counted in histograms and
      exits; whoever stops there takes them back.

The context is an array of i64: numbers, and addresses of arrays, by the places in `PLACES`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from sdesim.kernels.llvm import integer, loop
from sdesim.kernels.machines import F64_POINTER, I64, I64_POINTER

# times that are left out, times, states of a time, whether a row of exit times comes after them, the distance of rows;
# members so far, bins; then addresses: moments and products of the block, of all members; scale, first bin and counts
# of histograms, the ends of their room (2, rows); how many are outside their bounds, the exit time of one inside
PLACES = ("skip", "times", "states", "bounded", "stride", "count", "bins", "found", "crossed",
          "kept", "products", "scale", "first", "counts", "room", "exits", "alive")  # fmt: skip
_NUMBERS = 7
_WHOLE = ("counts", "exits")
MOMENTS = 4
"""Numbers kept of each row: mean, Σ(x − mean)², minimum, maximum."""


def fold_function(module: ir.Module, parts: dict[str, ir.Function]) -> None:
    """Adds `fold` to the module of the functions `parts` of `kernels.moments` and `kernels.histogram`."""
    fn = ir.Function(module, ir.FunctionType(I64, [I64_POINTER, I64, F64_POINTER, I64]), "fold")
    b = ir.IRBuilder(fn.append_basic_block("entry"))
    context, save, x, n = fn.args
    flag = b.alloca(I64)
    b.store(integer(0), flag)
    v: dict[str, Any] = {}
    for k, name in enumerate(PLACES):
        value = b.load(b.gep(context, [integer(k)]))
        v[name] = value if k < _NUMBERS else b.inttoptr(value, I64_POINTER if name in _WHOLE else F64_POINTER)
    t, states = b.sub(save, v["skip"]), v["states"]
    pairs = b.sdiv(b.mul(states, b.sub(states, integer(1))), integer(2))
    with b.if_then(b.icmp_signed("<", t, integer(0))):
        b.ret(integer(0))
    with b.if_then(b.icmp_signed("==", t, v["times"])):
        sums = (v["found"], v["crossed"], v["kept"], v["products"])
        b.call(parts["merge"], [v["times"], states, n, v["count"], *sums])
        b.store(b.add(v["count"], n), b.gep(context, [integer(PLACES.index("count"))]))
        b.ret(integer(0))
    each = {"found": b.mul(states, integer(MOMENTS)), "crossed": pairs, "scale": states, "first": states,
            "counts": b.mul(states, v["bins"])}  # fmt: skip
    own = {name: b.gep(v[name], [b.mul(t, size)]) for name, size in each.items()}
    rows = [x, integer(1), integer(0), states, v["stride"], n]
    b.call(parts["moments"], [x, states, v["stride"], n, own["found"], flag])
    _room(b, v, t, own["found"], flag)
    with b.if_then(b.icmp_signed("!=", b.load(flag), integer(0))):
        b.ret(integer(1))
    b.call(parts["products"], [*rows, own["found"], own["crossed"]])
    b.call(parts["count"], [x, states, v["stride"], n, own["found"], integer(MOMENTS), own["scale"], own["first"],
                            own["counts"], v["bins"]])  # fmt: skip
    with b.if_then(b.icmp_signed("!=", v["bounded"], integer(0))):
        exit_time, slot = b.gep(x, [b.mul(states, v["stride"])]), b.gep(v["exits"], [t])
        alive = b.load(v["alive"])
        with loop(b, n, name="exit") as i:
            out = b.fcmp_ordered(">", b.load(b.gep(exit_time, [i])), alive)
            b.store(b.add(b.load(slot), b.zext(out, I64)), slot)
    b.ret(integer(0))


def _room(b: ir.IRBuilder, v: dict[str, Any], t: Any, found: Any, flag: Any) -> None:
    """Raise the flag where the extremes of a state at time t lie outside the room of its histogram."""
    states = v["states"]
    with loop(b, states, name="room") as i:
        low, high = (b.load(b.gep(found, [b.add(b.mul(i, integer(MOMENTS)), integer(k))])) for k in (2, 3))
        row = b.add(b.mul(t, states), i)
        ends = (row, b.add(b.mul(v["times"], states), row))
        least, end = (b.load(b.gep(v["room"], [at])) for at in ends)
        fits = b.and_(b.fcmp_ordered(">=", low, least), b.fcmp_ordered("<", high, end))
        b.store(b.or_(b.load(flag), b.zext(b.not_(fits), I64)), flag)
