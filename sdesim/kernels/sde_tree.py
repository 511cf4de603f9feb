"""A Brownian path that is there before anyone looks: a binary tree over each root step, written once for every machine.

A root step of length H is node 1, and node n has the halves 2n and 2n + 1; a node at level l is w = 2⁻ˡ long in units
of H. It holds two standard normals for each Wiener process, z = ΔW/√h and a with ∫(W − W₀) ds = ½h√h (z + a/√3), as
a step of length h = wH wants them. Those of the root are the numbers of fixed step s of size H, so that both runs have
one path; those of the halves follow from the node's and from two fresh normals ζ, η of the node's own place:

    z' = z/√2 ± (√6 a + √2 ζ)/4,   a' = (√2 a − √6 ζ)/4 ± η/√2            (+ the left half, − the right one)

(Foster, Lyons & Oberhauser 2020, doi:10.1137/19M1260980, §2; Jelinčič & Foster 2024, arXiv:2405.06464, §3: the law of
both halves given the whole). So the path is one function of seed, member and process, whatever steps are tried.

The path up to a point inside a node is put together from the left halves that are passed on the way down to it; points
lie on the grid of 2⁻³² H, at which every way ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sdesim.arithmetic import Machine, Value
from sdesim.streams import Purpose, normal_pair

FINEST = 30
"""The level of the smallest step that is tried; its halves are of the next."""
RESOLUTION = 2.0**-32
"""The spacing of the points of the path, in root steps: nodes have numbers of 32 bits."""

MEMORY = 0.8
"""What is left, from one try to the next, of the squared error that is expected at least."""
ALLOWED = 16.0
"""The squared error of a single step that is still accepted, in units of what is aimed at."""
DOUBT = 2
"""How often a member's first step is halved after it was found short enough."""

Pair = tuple[Value, Value]


def word(channel: int) -> int:
    """The last word of the counter for the tree of a Wiener process."""
    return int(Purpose.TREE) | channel << 8


def wall_word(k: int) -> int:
    """The last word of the counter for number k of what meets bounds."""
    return int(Purpose.WALL) | k << 8


def split(m: Machine, node: Pair, counter: Sequence[Value], key: Sequence[Value]) -> tuple[Value, Value, Value, Value]:
    """(z, a) of the left half and (z, a) of the right half of a node; `counter` says where it stands."""
    zeta, eta = normal_pair(m, counter, key)
    z, a = node
    middle, lean = z * m.number(math.sqrt(0.5)), a * m.number(math.sqrt(6.0) / 4) + zeta * m.number(math.sqrt(2.0) / 4)
    shape, fork = a * m.number(math.sqrt(2.0) / 4) - zeta * m.number(math.sqrt(6.0) / 4), eta * m.number(math.sqrt(0.5))
    return middle + lean, shape + fork, middle - lean, shape - fork


def joined(m: Machine, path: Pair, node: Pair, w: Value) -> Pair:
    """(W, ∫W) at the end of a node of length w from those at its beginning, in units of the root step."""
    (W, J), (z, a) = path, node
    root = m.sqrt(w)
    own = (w * root) * (m.number(0.5) * (z + a * m.number(1.0 / math.sqrt(3.0))))
    return W + z * root, (J + W * w) + own


def descent(
    m: Machine, node: Pair, path: Pair, w: Value, ahead: Value, counter: Sequence[Value], key: Sequence[Value]
) -> tuple[Pair, Pair]:
    """(node, path) one level further down on the way to a point that lies `ahead` of the node's beginning."""
    going, half = ahead < w, w * m.number(0.5)
    right = ahead > half
    zl, al, zr, ar = split(m, node, counter, key)
    W, J = joined(m, path, (zl, al), half)
    passed = going & right
    z = m.select(going, m.select(right, zr, zl), node[0])
    a = m.select(going, m.select(right, ar, al), node[1])
    return (z, a), (m.select(passed, W, path[0]), m.select(passed, J, path[1]))


def place(m: Machine, number: Value, w: Value, ahead: Value) -> tuple[Value, Value, Value]:
    """(number, w, ahead) of the node that `descent` comes to."""
    going, half = ahead < w, w * m.number(0.5)
    passed = going & (ahead > half)
    below = number + number + m.select(passed, m.u64(1), m.u64(0))
    return m.select(going, below, number), m.select(going, half, w), m.select(passed, ahead - half, ahead)


def whole(m: Machine, path: Pair, node: Pair, w: Value, length: Value) -> Pair:
    """(z, a) of the way from where the descent began to the point, `length` long: what a partial step wants."""
    W, J = joined(m, path, node, w)
    root = m.sqrt(length)
    z = W / root
    return z, ((J + J) / (length * root) - z) * m.number(math.sqrt(3.0))


def instants(m: Machine, step: Value, x: Value, w: Value, t0: Value, H: Value) -> tuple[Value, Value, Value]:
    """(t, h, √h) of a step that begins x root steps into root step `step` and is w of one long."""
    h = w * H
    return t0 + (step + x) * H, h, m.sqrt(h)


def excess(
    m: Machine, y: Sequence[Value], coarse: Sequence[Value], fine: Sequence[Value], w: Value, rtol: Value,
    atol: Sequence[Value],
) -> Value:  # fmt: skip
    """The square of error/tolerance of a step: the mean over the states of ((fine − coarse)/(atol + rtol|x|))²/w.

    NaN, which is below no bound, for a step that is not finite.
    """
    total = None
    for y0, big, small, absolute in zip(y, coarse, fine, atol, strict=True):
        before, after = m.abs(y0), m.abs(small)
        ratio = (small - big) / (absolute + rtol * m.select(after > before, after, before))
        total = ratio * ratio if total is None else total + ratio * ratio
    return total / (w * m.number(float(len(y))))


def judged(m: Machine, error: Value, rough: Value, share: Value, cap: Value) -> tuple[Value, Value, Value]:
    """(the squared error found, the one to be reckoned with, that of a root step).

    What is reckoned with is no less than the errors before make likely, for a difference of two results may vanish by
    chance. `rough` is the squared error of a root step so far, of which a step has the `share`; a large or undefined
    error counts as `cap`.
    """
    found, likely = m.select(error <= cap, error, cap), (rough * share) * m.number(MEMORY)
    reckoned = m.select(likely > found, likely, found)
    return found, reckoned, reckoned / share
