"""What an equation and a name must be before any work begins.

An equation is a number, not a comparison; the parts of it that hold no symbol are finite (1/0, log(0) and 9**9**9**9
are not); and written out it is short enough to be read back from a file. A name reads back as itself: an identifier
that is no keyword, in Unicode's normal form NFKC (which Python's grammar applies to what it reads: µ becomes μ).
"""

from __future__ import annotations

import keyword
import math
import unicodedata

from sdesim.calculus import evaluate, walk
from sdesim.expressions import BOOLEAN, Expr
from sdesim.printing import to_text

MAX_LENGTH, MAX_DEPTH, MAX_NODES = 20_000, 200, 20_000
# the names that a Dataset keeps for itself, and the time
TAKEN = ("t", "time", "member", "status", "last_good_time", "bin")


def _written(node: Expr) -> tuple[int, int]:
    """(operations, depth) of the expression as text, where a shared part is written out each time it is used."""
    count: dict[Expr, int] = {}
    depth: dict[Expr, int] = {}
    for n in walk([node]):
        count[n] = 1 + sum(count[a] for a in n.args)
        negative = n.op == "const" and math.copysign(1.0, n.value) < 0
        depth[n] = 1 + max((depth[a] for a in n.args), default=int(negative))
    return count[node], depth[node]


def _not_finite(node: Expr) -> Expr | None:
    """The first part without symbols whose value is infinite or NaN."""
    fixed: list[Expr] = []
    known: set[Expr] = set()
    for n in walk([node]):
        if n.op not in ("symbol", "load") and all(a in known for a in n.args):
            known.add(n)
            fixed.append(n)
    values = evaluate(fixed, {})
    return next((n for n, value in zip(fixed, values, strict=True) if not math.isfinite(value)), None)


def objection(node: Expr) -> str | None:
    """Why the expression cannot serve as an equation, with the cure; None if it can.

    >>> from sdesim.parsing import parse
    >>> objection(parse("x + 1/0"))
    '1/0 is not a finite number'
    """
    count, depth = _written(node)
    if count > MAX_NODES or depth > MAX_DEPTH:
        return (
            f"{count} operations nested {depth} deep when written out; at most {MAX_NODES} and {MAX_DEPTH} can be kept "
            "with the data: give the repeated parts states or parameters of their own, or split it up"
        )
    if node.op in BOOLEAN:
        return f"the comparison {node!r} is used as a number; write where({node!r}, 1, 0)"
    culprit = _not_finite(node)
    if culprit is not None:
        return f"{culprit!r} is not a finite number"
    length = len(to_text(node))
    return f"{length} characters when written out; at most {MAX_LENGTH} can be kept" if length > MAX_LENGTH else None


def check_name(name: object, kind: str, taken: tuple[str, ...] = TAKEN) -> None:
    """Raise ValueError unless `name` can name a state or a parameter (`kind`) and be read back from an equation.

    >>> check_name("lambda", "parameter")
    Traceback (most recent call last):
    ...
    ValueError: 'lambda' cannot name a parameter: it is a keyword of the grammar; write lambda_ for example
    """
    if not isinstance(name, str) or not name.isidentifier():
        why = "wanted an identifier (letters, digits and _, no digit first)"
    elif keyword.iskeyword(name):
        why = f"it is a keyword of the grammar; write {name}_ for example"
    elif unicodedata.normalize("NFKC", name) != name:
        normal = unicodedata.normalize("NFKC", name)
        why = f"equations are read in Unicode's normal form; write {normal!r} ({normal!a}), not {name!a}"
    elif name in taken:
        why = f"that name is kept for the time, the Dataset and the functions of the grammar ({', '.join(taken)})"
    else:
        return
    raise ValueError(f"{name!r} cannot name a {kind}: {why}")
