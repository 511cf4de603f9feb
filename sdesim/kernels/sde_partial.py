"""The method's step over rows of the lanes, and partial steps to save times: what `sde_sweep` evaluates."""

from __future__ import annotations

from typing import Any

from sdesim.kernels.llvm import integer
from sdesim.kernels.machines import I64
from sdesim.kernels.sde_lanes import Lanes, real, repeat
from sdesim.kernels.sde_trace import SDETrace
from sdesim.kernels.sde_tree import word
from sdesim.kernels.sde_walls import meet


class Partial(Lanes):
    """Steps of a trace on the rows of a sweep."""

    tr: SDETrace

    def gather(self, names: str) -> None:
        """Copy rows of the lanes on the list to the rows of the list."""
        with self.each(self.count) as j:
            lane = self.get("list", j)
            for name in ("member", "s", "number", *(f"{n}{c}" for c in range(self.tr.channels) for n in names)):
                self.put(f"g:{name}", j, self.get(name, lane))

    def step(self, target: str, source: str, draws: list[str], prefix: str, clock: list[str], n: Any) -> None:
        """The method's step for n columns; draw names and the parameters' rows are those of the trace."""
        tr, d = self.tr, range(self.tr.dimension)
        named = [f"{prefix}{'z' if name[0] == 'z' else 'a'}{name[1:]}" for name in draws]
        varying = [f"{prefix}p{k}" for k in range(len(tr.varying))]
        rows = [*(f"{target}{i}" for i in d), *(f"{source}{i}" for i in d), *named, *varying, *clock]
        self.call("step", rows, n, *self.uniform())

    def meet(self, ways: tuple[str, str, str], number: str, clock: list[str], n: Any) -> None:
        meet(self.call, self.tr, ways, number, clock, n, (self.v["k0"], self.v["k1"]), self.uniform())

    def happen(self, target: str, prefix: str, end: str, w: str, clock: list[str], n: Any) -> None:
        """Put the states of the rows `target` after the event that has come by the row `end`."""
        tr, key = self.tr, (self.v["k0"], self.v["k1"])
        self.call("clock", [f"{prefix}step", end, w, *clock], n, self.v["t0"], self.v["H"])
        rows = [f"{target}{i}" for i in range(tr.dimension)] + [f"{prefix}p{k}" for k in range(len(tr.varying))]
        self.call("events", [*rows, clock[0], f"{prefix}member", f"{prefix}events"], n, *self.uniform(), *key)

    def uniform(self) -> list[Any]:
        """The parameters that are one number for all."""
        return [self.b.load(self.b.gep(self.v["uniform"], [integer(k)]))
                for k, name in enumerate(self.tr.parameters) if name not in self.tr.varying]  # fmt: skip

    def partial(self) -> None:
        """Partial steps to a save of every lane on the list, or the end of its step; stored."""
        b, n = self.b, self.b.load(self.count)
        self.gather("")
        with self.each(self.count) as k:
            self.start_of_partial(k, self.get("list", k))
        b.store(integer(1), self.kept)
        with repeat(b, lambda: b.icmp_signed("!=", b.load(self.kept), integer(0))):
            for c in range(self.tr.channels):
                rows = [f"g:{name}{c}" for name in "zaWJ"]
                self.call("descend", [*rows, "g:w", "g:ahead", "g:member", "g:s", "g:number"], n, integer(word(c)),
                          self.v["k0"], self.v["k1"])  # fmt: skip
            self.call("move", ["g:w", "g:ahead", "g:number"], n)
            b.store(integer(0), self.kept)
            with self.each(self.count) as k:
                going = b.fcmp_ordered("<", self.get("g:ahead", k), self.get("g:w", k))
                b.store(b.or_(b.load(self.kept), b.zext(going, I64)), self.kept)
        for c in range(self.tr.channels):
            self.call("close", [*(f"g:{name}{c}" for name in "zaWJ"), "g:w", "g:length"], n)
        self.call("clock", ["g:step", "g:x", "g:length", "g:t", "g:h", "g:root"], n, self.v["t0"], self.v["H"])
        draws = [f"{kind}{c}" for kind, c in self.tr.draws]
        self.step("g:f", "g:y", draws, "g:", ["g:t", "g:h", "g:root"], n)
        if self.tr.walls:
            self.meet(("g:f", "g:y", "g:"), "g:half", ["g:t", "g:h"], n)
        if self.tr.hazard:
            self.happen("g:f", "g:", "g:end", "g:length", ["g:t", "g:h", "g:root"], n)
        with self.each(self.count) as k:
            self.store(k, self.get("list", k))

    def start_of_partial(self, k: Any, lane: Any) -> None:
        """Column k of the list's rows: the half of the lane's step with the save, and the way to it."""
        b = self.b
        part = b.load(b.gep(self.v["parts"], [self.get("save", lane)]))
        right = b.fcmp_ordered(">", part, self.get("middle", lane))
        start = b.select(right, self.get("middle", lane), self.get("x", lane))
        length = b.fsub(part, start)
        twice = b.shl(self.get("number", lane), integer(1))
        for name in ("g:number", "g:half"):
            self.put(name, k, b.add(twice, b.zext(right, I64)))
        if self.tr.hazard:
            self.put("g:events", k, self.get("events", lane))
            self.put("g:end", k, b.fadd(start, length))
        for name, value in (("w", self.get("half", lane)), ("ahead", length), ("length", length), ("x", start),
                            ("step", self.get("step", lane))):  # fmt: skip
            self.put(f"g:{name}", k, value)
        for c in range(self.tr.channels):
            for name in "za":
                halves = (self.get(f"{name}{side}{c}", lane) for side in "rl")
                self.put(f"g:{name}{c}", k, b.select(right, *halves))
            self.put(f"g:W{c}", k, real(0.0))
            self.put(f"g:J{c}", k, real(0.0))
        for i in range(self.tr.dimension):
            self.put(f"g:y{i}", k, b.select(right, self.get(f"m{i}", lane), self.get(f"y{i}", lane)))
        for i in range(len(self.tr.varying)):
            self.put(f"g:p{i}", k, self.get(f"p{i}", lane))

    def store(self, k: Any, lane: Any) -> None:
        b, v = self.b, self.v
        j = self.get("save", lane)
        end = b.fadd(self.get("x", lane), self.get("w", lane))
        inside = b.fcmp_ordered("<", b.load(b.gep(v["parts"], [j])), end)
        for i in range(self.tr.dimension):
            row = b.add(b.mul(j, integer(self.tr.dimension)), integer(i))
            index = b.add(b.mul(row, v["stride"]), self.get("position", lane))
            b.store(b.select(inside, self.get(f"g:f{i}", k), self.get(f"f{i}", lane)), b.gep(v["out"], [index]))
        self.add("save", lane, 1)
