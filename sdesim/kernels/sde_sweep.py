"""The driver of `sde_adaptive`: sweeps over the lanes of a block until every member has reached its last save.

    begin     lanes at the start of a root step draw its numbers
    halve     nodes are halved until they are of the level wanted; the right halves wait on the lane's stack, by level
    evaluate  the method's step over the node, over its left half, and from there over its right half; the error
    save      save times within accepted steps, by partial steps
    decide    accept and go on to the node that waits, or go on with the left half; lanes that are done are filled

Choices are selections, not branches, which would be mispredicted about once for each step tried.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from sdesim.kernels.llvm import integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, VOID
from sdesim.kernels.sde_hazard import EVENT_LEVEL
from sdesim.kernels.sde_lanes import LANES, STRIDE, real, repeat
from sdesim.kernels.sde_partial import Partial
from sdesim.kernels.sde_trace import SDETrace
from sdesim.kernels.sde_tree import ALLOWED, DOUBT, FINEST, MEMORY, word
from sdesim.methods.adaptive import LEVELS
from sdesim.streams import Purpose

_WORDS = ("member", "position", "s", "number", "level", "wanted", "save", "accepted", "rejected", "fresh", "doubt",
          "below0", "below1", "events")  # fmt: skip
_OF_LIST = ("list", "g:member", "g:s", "g:number", "g:half", "g:events")
_NODE = ("zl", "al", "zr", "ar")


class Sweep(Partial):
    """Builds `run`; the stack has `stack_rows` rows."""

    arguments = (
        ("n", I64), ("members", I64_POINTER), ("initial", F64_POINTER), ("varying", F64_POINTER),
        ("real", F64_POINTER), ("word", I64_POINTER), ("stack", F64_POINTER), ("uniform", F64_POINTER),
        ("control", F64_POINTER), ("out", F64_POINTER), ("stride", I64), ("saves", I64), ("first", I64),
        ("roots", I64_POINTER), ("parts", F64_POINTER), ("t0", F64), ("H", F64), ("stuck", I64_POINTER),
        ("steps", I64_POINTER), ("k0", I64), ("k1", I64),
    )  # fmt: skip

    def __init__(self, module: ir.Module, tr: SDETrace, functions: dict[str, Any]) -> None:
        self.tr, self.stack_rows = tr, (FINEST + 2) * 2 * tr.channels
        d, c, p = range(tr.dimension), range(tr.channels), range(len(tr.varying))
        self.lasting = [f"{n}{k}" for n, ks in (("y", d), ("p", p), ("z", c), ("a", c)) for k in ks]
        self.lasting += ["x", "w", "step", "rough"]
        passing = [f"{n}{k}" for n, ks in (("m", d), ("c", d), ("f", d), *((h, c) for h in _NODE)) for k in ks]
        chances = range(len(tr.chances))
        passing += [*(f"n{k}" for k in chances), "end", "left", "t3", "h3", "s3"]
        passing += ["half", "middle", "share", "found", "reckoned", *(f"{n}{k}" for n in "ths" for k in range(3))]
        kinds = (("y", d), ("f", d), ("p", p), *((n, c) for n in ("z", "a", "W", "J", *_NODE)))
        listed = [f"g:{n}{k}" for n, ks in kinds for k in ks]
        listed += [*(f"g:n{k}" for k in chances), "g:end"]
        listed += [f"g:{n}" for n in ("ahead", "w", "length", "x", "step", "t", "h", "root")]
        fn = ir.Function(module, ir.FunctionType(VOID, [t for _, t in self.arguments]), "run")
        v = dict(zip((name for name, _ in self.arguments), fn.args, strict=True))
        b = ir.IRBuilder(fn.append_basic_block())
        self.following = b.alloca(I64)  # the position of the next member that has no lane yet
        super().__init__(b, v, [*self.lasting, *passing, *listed], [*_WORDS, *_OF_LIST], functions)
        self.build()

    def waiting(self, lane: Any, level: Any, k: int) -> Any:
        """Where number k of the node that waits at a level is kept."""
        b = self.b
        row = b.add(b.mul(level, integer(2 * self.tr.channels)), integer(k))
        return b.gep(self.v["stack"], [b.add(b.mul(row, integer(STRIDE)), lane)])

    def build(self) -> None:
        b, n = self.b, self.v["n"]
        b.store(b.select(b.icmp_signed("<", n, integer(LANES)), n, integer(LANES)), self.active)
        b.store(b.load(self.active), self.following)
        with self.each(self.active) as lane:
            self.load(lane, lane)
        with repeat(b, lambda: b.icmp_signed(">", b.load(self.active), integer(0))):
            self.begin()
            self.halve()
            self.evaluate()
            self.save()
            self.decide()
        b.ret_void()

    def load(self, lane: Any, position: Any) -> None:
        """Put the member at a position at its start in a lane."""
        b, v = self.b, self.v
        for name in _WORDS:
            self.put(name, lane, integer(1 if name in ("number", "fresh") else 0))
        self.put("doubt", lane, integer(DOUBT))
        for name, row in (("x", real(0.0)), ("step", real(0.0)), ("w", real(1.0)), ("rough", real(0.0))):
            self.put(name, lane, row)
        self.put("position", lane, position)
        self.put("save", lane, v["first"])
        self.put("member", lane, b.load(b.gep(v["members"], [position])))
        for source, name, count in (("initial", "y", self.tr.dimension), ("varying", "p", len(self.tr.varying))):
            for k in range(count):
                index = b.add(b.mul(integer(k), v["stride"]), position)
                self.put(f"{name}{k}", lane, b.load(b.gep(v[source], [index])))

    def begin(self) -> None:
        b, key = self.b, (self.v["k0"], self.v["k1"])
        with self.listing(), self.each(self.active) as i:
            self.append(i, b.icmp_signed("!=", self.get("fresh", i), integer(0)))
        self.gather("")
        for c in range(self.tr.channels):
            for name, purpose in (("z", Purpose.STEP), ("a", Purpose.AUXILIARY)):
                rows = [f"g:{name}{c}", "g:member", "g:s", "g:number"]
                self.call("begin", rows, b.load(self.count), integer(c), integer(purpose), *key)
        with self.each(self.count) as j:
            lane = self.get("list", j)
            for c in range(self.tr.channels):
                for name in "za":
                    self.put(f"{name}{c}", lane, self.get(f"g:{name}{c}", j))

    def halve(self) -> None:
        b, key = self.b, (self.v["k0"], self.v["k1"])
        with self.each(self.active) as i:
            self.put("list", i, i)
        b.store(b.load(self.active), self.count)
        with repeat(b, lambda: b.icmp_signed(">", b.load(self.count), integer(0))):
            self.gather("za")
            for c in range(self.tr.channels):
                rows = [f"g:{name}{c}" for name in ("z", "a", *_NODE)]
                self.call("halve", [*rows, "g:member", "g:s", "g:number"], b.load(self.count), integer(word(c)), *key)
            with self.listing(), self.each(self.count) as j:
                self.place_halves(j, self.get("list", j))

    def place_halves(self, j: Any, lane: Any) -> None:
        """Halves from the list to their lane; a lane that is not of the level wanted goes on with the left one."""
        b, level = self.b, self.get("level", lane)
        deeper = b.icmp_signed("<", level, self.get("wanted", lane))
        below, more = b.add(level, integer(1)), b.zext(deeper, I64)
        for c in range(self.tr.channels):
            for k, name in enumerate("za"):
                left, right = (self.get(f"g:{name}{side}{c}", j) for side in "lr")
                self.put(f"{name}l{c}", lane, left)
                self.put(f"{name}r{c}", lane, right)
                b.store(right, self.waiting(lane, below, 2 * c + k))
                self.put(f"{name}{c}", lane, b.select(deeper, left, self.get(f"{name}{c}", lane)))
        w = self.get("w", lane)
        half = b.fmul(w, real(0.5))
        self.put("w", lane, b.select(deeper, half, w))
        self.put("half", lane, half)
        self.put("middle", lane, b.fadd(self.get("x", lane), half))
        self.put("level", lane, b.add(level, more))
        self.put("share", lane, b.load(b.gep(self.v["control"], [b.add(b.add(level, more), integer(4))])))
        number = b.shl(self.get("number", lane), more)
        self.put("number", lane, number)
        for k in range(2 if self.tr.walls else 0):
            self.put(f"below{k}", lane, b.add(b.shl(number, integer(1)), integer(k)))
        self.append(lane, deeper)

    def evaluate(self) -> None:
        b, n, d = self.b, self.b.load(self.active), range(self.tr.dimension)
        clock = self.v["t0"], self.v["H"]
        for k, (x, w) in enumerate((("x", "w"), ("x", "half"), ("middle", "half"))):
            self.call("clock", ["step", x, w, f"t{k}", f"h{k}", f"s{k}"], n, *clock)
        for k, (target, source, node) in enumerate((("c", "y", ""), ("m", "y", "l"), ("f", "m", "r"))):
            draws = [f"{kind}{node}{c}" for kind, c in self.tr.draws]
            self.step(target, source, draws, "", [f"t{k}", f"h{k}", f"s{k}"], n)
        d = range(self.tr.followed)
        rows = ["found", "reckoned", "rough", "share", "w", *(f"{name}{i}" for name in "ycf" for i in d)]
        numbers = [b.load(b.gep(self.v["control"], [integer(k)])) for k in (0, 3, *(4 + LEVELS + i for i in d))]
        self.call("error", rows, n, *numbers)
        if self.tr.walls:
            self.meet(("m", "y", ""), "below0", ["t1", "h1"], n)
            self.step("f", "m", [f"{kind}r{c}" for kind, c in self.tr.draws], "", ["t2", "h2", "s2"], n)
            self.meet(("f", "m", ""), "below1", ["t2", "h2"], n)
        if self.tr.hazard:
            self.hold()
            self.happen("f", "", "end", "w", ["t3", "h3", "s3"], n)

    def hold(self) -> None:
        """Note the end of each lane's step, and what it leaves until the next event."""
        with self.each(self.active) as i:
            self.put("end", i, self.b.fadd(self.get("x", i), self.get("w", i)))
            self.put("left", i, self.get(f"f{self.tr.dimension - 1}", i))

    # saves

    def save(self) -> None:
        """Round by round the next save of every lane whose accepted step holds one."""
        b, again = self.b, self.b.append_basic_block("again")
        b.branch(again)
        b.position_at_end(again)
        with self.listing(), self.each(self.active) as i:
            j, end = self.get("save", i), b.fadd(self.get("x", i), self.get("w", i))
            root, part = (b.load(b.gep(self.v[name], [j])) for name in ("roots", "parts"))
            here = b.and_(b.icmp_signed("==", root, self.get("s", i)), b.fcmp_ordered("<=", part, end))
            self.append(i, b.and_(here, self.good(i)[1]))
        some = b.icmp_signed(">", b.load(self.count), integer(0))
        work, after = b.append_basic_block("work"), b.append_basic_block("saved")
        b.cbranch(some, work, after)
        b.position_at_end(work)
        self.partial()
        b.branch(again)
        b.position_at_end(after)

    # decisions

    def decide(self) -> None:
        """From the last lane to the first, so that the lane that fills a gap has been decided on."""
        b = self.b
        n = b.load(self.active)
        with loop(b, n) as r:
            lane = b.sub(b.sub(n, integer(1)), r)
            level = self.get("level", lane)
            short, good = self.good(lane)
            self.go_on(lane, good)
            doubt = self.get("doubt", lane)
            doubts = b.icmp_signed(">", doubt, integer(0))
            less = b.sub(doubt, b.zext(doubts, I64))
            self.put("doubt", lane, b.select(short, less, b.select(doubts, integer(DOUBT), integer(0))))
            stuck = b.and_(b.not_(good), b.icmp_signed(">=", level, integer(FINEST)))
            done = b.icmp_signed(">=", self.get("save", lane), self.v["saves"])
            with b.if_then(b.or_(stuck, done)):
                self.finish(lane, stuck)

    def good(self, lane: Any) -> tuple[Any, Any]:
        """Whether the step of a lane is short enough, and whether it is accepted."""
        b = self.b
        doubts = b.icmp_signed(">", self.get("doubt", lane), integer(0))
        own = b.fmul(self.get("found", lane), real(1.0 / ALLOWED))
        short = b.fcmp_ordered("<=", b.select(doubts, self.get("reckoned", lane), own), real(1.0))
        good = b.and_(short, b.not_(doubts))
        if self.tr.hazard:
            fine = b.icmp_signed(">=", self.get("level", lane), integer(EVENT_LEVEL))
            good = b.and_(good, b.or_(fine, b.not_(self.came(lane))))
        return short, good

    def came(self, lane: Any) -> Any:
        """Whether the step of a lane holds an event."""
        return self.b.fcmp_ordered("<=", self.get("left", lane), real(0.0))

    def next_level(self, lane: Any, good: Any) -> Any:
        """The level of the next step, at least one finer after one that is rejected."""
        b, reckoned = self.b, self.get("reckoned", lane)
        likely = b.fmul(reckoned, real(MEMORY))
        grow, shrink = (b.load(b.gep(self.v["control"], [integer(k)])) for k in (1, 2))
        too_long, easy = b.fcmp_ordered(">", likely, real(1.0)), b.fcmp_ordered("<=", reckoned, grow)
        finer = b.select(good, b.sub(b.zext(too_long, I64), b.zext(easy, I64)), integer(1))
        level = b.add(self.get("level", lane), b.add(finer, b.zext(b.fcmp_ordered(">", likely, shrink), I64)))
        return b.select(b.icmp_signed("<", level, integer(FINEST)), level, integer(FINEST))

    def go_on(self, lane: Any, good: Any) -> None:
        """To the node that waits after an accepted step, to the left half after a rejected one."""
        b, one, level = self.b, integer(1), self.get("level", lane)
        self.put("wanted", lane, self.next_level(lane, good))
        following = b.add(self.get("number", lane), one)
        # the next number without its factors of 2 is the node that waits; beyond the root there is none
        zeros = b.cttz(following, ir.Constant(ir.IntType(1), 1))
        up = b.sub(level, zeros)
        beyond = b.icmp_signed("<", up, integer(0))
        new, down = b.and_(good, beyond), b.add(level, one)
        self.put("number", lane, b.select(good, b.lshr(following, zeros), b.shl(self.get("number", lane), one)))
        lower = b.select(good, b.select(beyond, integer(0), up), down)
        self.put("level", lane, lower)
        x = b.select(good, b.fadd(self.get("x", lane), self.get("w", lane)), self.get("x", lane))
        self.put("x", lane, b.select(new, real(0.0), x))
        self.put("w", lane, b.bitcast(b.shl(b.sub(integer(1023), lower), integer(52)), F64))
        self.put("s", lane, b.add(self.get("s", lane), b.zext(new, I64)))
        self.put("step", lane, b.fadd(self.get("step", lane), b.uitofp(new, F64)))
        self.put("fresh", lane, b.zext(new, I64))
        for c in range(self.tr.channels):
            for k, name in enumerate("za"):
                waiting = b.load(self.waiting(lane, lower, 2 * c + k))
                self.put(f"{name}{c}", lane, b.select(good, waiting, self.get(f"{name}l{c}", lane)))
        for i in range(self.tr.dimension):
            self.put(f"y{i}", lane, b.select(good, self.get(f"f{i}", lane), self.get(f"y{i}", lane)))
        if self.tr.hazard:
            self.put("events", lane, b.add(self.get("events", lane), b.zext(b.and_(good, self.came(lane)), I64)))
        self.put("accepted", lane, b.add(self.get("accepted", lane), b.zext(good, I64)))
        self.put("rejected", lane, b.add(self.get("rejected", lane), b.zext(b.not_(good), I64)))

    def finish(self, lane: Any, stuck: Any) -> None:
        """Note what became of the lane's member, and fill the lane with the next member or from the last lane."""
        b = self.b
        position, following = self.get("position", lane), b.load(self.following)
        b.store(b.zext(stuck, I64), b.gep(self.v["stuck"], [position]))
        b.store(self.get("accepted", lane), b.gep(self.v["steps"], [position]))
        b.store(self.get("rejected", lane), b.gep(self.v["steps"], [b.add(position, self.v["stride"])]))
        with b.if_else(b.icmp_signed("<", following, self.v["n"])) as (more, none):
            with more:
                self.load(lane, following)
                b.store(b.add(following, integer(1)), self.following)
            with none:
                last = b.sub(b.load(self.active), integer(1))
                b.store(last, self.active)
                for name in (*self.lasting, *_WORDS):
                    self.put(name, lane, self.get(name, last))
                with loop(b, integer(self.stack_rows)) as row:
                    first = b.mul(row, integer(STRIDE))
                    source, target = (b.gep(self.v["stack"], [b.add(first, i)]) for i in (last, lane))
                    b.store(b.load(source), target)
