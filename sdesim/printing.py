"""Expressions written out: plain text that reads back to the same graph, and LaTeX.

Parentheses follow the written order exactly (a + (b + c) keeps them), because the order of a sum decides its bits:
`parse(to_text(node)) is node`.
"""

from __future__ import annotations

import math

from sdesim.calculus import constant_value, walk
from sdesim.expressions import COMPARISONS, Expr

_INFIX = {"add": (" + ", 5), "sub": (" - ", 5), "mul": ("*", 6), "div": ("/", 6)}
_ATOM, _POWER, _NEGATIVE, _COMPARE = 10, 8, 7, 4
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
).split()


def _number(value: float) -> tuple[str, int]:
    if value == math.pi:
        return "pi", _ATOM
    if value == 0.0 and math.copysign(1.0, value) < 0:
        return "-0.0", _NEGATIVE
    text = repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return (text, _NEGATIVE) if text.startswith("-") else (text, _ATOM)


def _wrap(part: tuple[str, int], lowest: int) -> str:
    text, strength = part
    return text if strength >= lowest else f"({text})"


def _text(node: Expr, parts: list[tuple[str, int]]) -> tuple[str, int]:
    if node.op == "const":
        return _number(node.value)
    if node.op == "symbol":
        return node.value, _ATOM
    if node.op == "load":
        name, offset = node.value
        return f"{name}[{', '.join(f'{o:+d}' for o in offset)}]", _ATOM
    if node.op in _INFIX:
        sign, level = _INFIX[node.op]
        return _wrap(parts[0], level) + sign + _wrap(parts[1], level + 1), level
    if node.op == "neg":
        return "-" + _wrap(parts[0], _NEGATIVE), _NEGATIVE
    if node.op == "pow":
        return _wrap(parts[0], _POWER + 1) + "**" + _wrap(parts[1], _POWER), _POWER
    if node.op in COMPARISONS:
        return (
            f"{_wrap(parts[0], _COMPARE + 1)} {COMPARISONS[node.op]} {_wrap(parts[1], _COMPARE + 1)}",
            _COMPARE,
        )
    if node.op == "not":
        return "not " + _wrap(parts[0], 3), 3
    if node.op in ("and", "or"):
        level = 2 if node.op == "and" else 1
        return f"{_wrap(parts[0], level)} {node.op} {_wrap(parts[1], level + 1)}", level
    return f"{node.op}({', '.join(text for text, _ in parts)})", _ATOM


def to_text(node: Expr) -> str:
    """The expression as text in the grammar of `sdesim.parsing`.

    >>> from sdesim.parsing import parse
    >>> to_text(parse("a-(b - c)*2"))
    'a - (b - c)*2'
    """
    done: dict[Expr, tuple[str, int]] = {}
    for n in walk([node]):
        done[n] = _text(n, [done[a] for a in n.args])
    return done[node][0]


def name_to_latex(name: str) -> str:
    """A variable's name as mathematics: Greek letters and subscripts.

    >>> name_to_latex("sigma_x")
    '\\\\sigma_{x}'
    """
    if name.startswith("dd") and name.endswith(")"):
        axis, _, state = name[2:-1].partition("(")
        return rf"\partial_{{{name_to_latex(axis)}}} {name_to_latex(state)}"
    stem, _, below = name.partition("_")
    digits = stem.rstrip("0123456789")
    if digits != stem and digits and not below:
        stem, below = digits, stem[len(digits) :]
    head = "\\" + stem if stem in _GREEK else stem if len(stem) == 1 else rf"\mathrm{{{stem}}}"
    below = "\\" + below if below in _GREEK else below.replace("_", ",")
    return rf"{head}_{{{below}}}" if below else head


def _latex_number(value: float) -> tuple[str, int]:
    text, strength = _number(value)
    if text == "pi":
        return r"\pi", _ATOM
    mantissa, _, exponent = text.partition("e")
    return (rf"{mantissa} \cdot 10^{{{int(exponent)}}}", 6) if exponent else (text, strength)


_LATEX_FUNCTIONS = {"abs": r"\left|{}\right|", "sqrt": r"\sqrt{{{}}}", "exp": r"e^{{{}}}"}


def _latex(node: Expr, parts: list[tuple[str, int]]) -> tuple[str, int]:
    def wrap(part: tuple[str, int], lowest: int) -> str:
        return part[0] if part[1] >= lowest else rf"\left({part[0]}\right)"

    if node.op == "const":
        return _latex_number(node.value)
    if node.op in ("symbol", "load"):
        return name_to_latex(node.value if node.op == "symbol" else node.value[0]), _ATOM
    if node.op == "div":
        return rf"\frac{{{parts[0][0]}}}{{{parts[1][0]}}}", 6
    if node.op in _INFIX:
        sign, level = _INFIX[node.op]
        first = parts[0][0] if parts[0][0].startswith("-") else wrap(parts[0], level)
        second = wrap(parts[1], level + (node.op == "sub"))
        if second.startswith("-"):  # a + −b is a − b; other minus signs in the middle are put in parentheses
            sign, second = (" - ", second[1:]) if node.op == "add" else (sign, rf"\left({second}\right)")
        if node.op == "mul":
            sign = r" \cdot " if second[0].isdigit() else " "
        return first + sign + second, level
    if node.op == "neg":
        return "-" + wrap(parts[0], 6), 5
    if node.op == "pow":
        if constant_value(node.args[1]) == 0.5:
            return rf"\sqrt{{{parts[0][0]}}}", _ATOM
        return rf"{wrap(parts[0], _POWER + 1)}^{{{parts[1][0]}}}", _POWER
    if node.op in COMPARISONS:
        sign = {"le": r"\le", "ge": r"\ge", "ne": r"\ne", "eq": "="}.get(node.op, COMPARISONS[node.op])
        return f"{parts[0][0]} {sign} {parts[1][0]}", _COMPARE
    if node.op in ("and", "or", "not"):
        sign = {"and": r" \wedge ", "or": r" \vee ", "not": r"\neg "}[node.op]
        return (sign + wrap(parts[0], 3) if node.op == "not" else sign.join(wrap(p, 3) for p in parts)), 2
    if node.op == "where":
        condition, yes, no = (p[0] for p in parts)
        return rf"\begin{{cases}} {yes} & {condition} \\ {no} & \text{{otherwise}} \end{{cases}}", _ATOM
    if node.op in _LATEX_FUNCTIONS:
        return _LATEX_FUNCTIONS[node.op].format(parts[0][0]), _POWER if node.op == "exp" else _ATOM
    name = rf"\{node.op}" if node.op != "sign" else r"\operatorname{sign}"
    return rf"{name}\left({', '.join(p[0] for p in parts)}\right)", _ATOM


def to_latex(node: Expr) -> str:
    """The expression as LaTeX mathematics.

    >>> from sdesim.parsing import parse
    >>> print(to_latex(parse("-theta*x**2/sqrt(k_1)")))
    \\frac{-\\theta x^{2}}{\\sqrt{k_{1}}}
    """
    done: dict[Expr, tuple[str, int]] = {}
    for n in walk([node]):
        done[n] = _latex(n, [done[a] for a in n.args])
    return done[node][0]
