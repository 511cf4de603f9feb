"""Equations: text that reads back, derivatives, one meaning from text, functions and SymPy, and nothing executed."""

import math
import time

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from sdesim.calculus import differentiate, evaluate, free_symbols, substitute
from sdesim.expressions import (
    COMPARISONS,
    binary,
    compare,
    const,
    function,
    is_zero,
    load,
    logical,
    maximum,
    minimum,
    symbol,
    where,
)
from sdesim.parsing import EquationError, as_expr, parse
from sdesim.printing import to_latex, to_text

NAMES = ("x", "y", "k_1")
SMOOTH = ("sqrt", "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh")


def graphs(smooth=False):
    """Random expressions, grown from symbols and numbers."""
    numbers = st.floats(allow_nan=False, allow_infinity=False) if not smooth else st.sampled_from([0.5, 1.0, 2.0, -1.5])
    leaves = st.one_of(st.sampled_from(NAMES).map(symbol), numbers.map(const), st.integers(-99, 99).map(const))

    def grow(inner):
        arithmetic = st.builds(binary, st.sampled_from(["add", "sub", "mul", "div", "pow"][: 3 if smooth else 5]), inner, inner)
        functions = st.builds(function, st.sampled_from(("sin", "cos", "tanh") if smooth else (*SMOOTH, "abs", "sign")), inner)
        if smooth:
            return st.one_of(arithmetic, functions, inner.map(lambda a: -a))
        conditions = st.builds(compare, st.sampled_from(sorted(COMPARISONS)), inner, inner)
        conditions = st.one_of(
            conditions,
            st.builds(lambda op, a, b: logical(op, a, b), st.sampled_from(["and", "or"]), conditions, conditions),
            conditions.map(lambda a: logical("not", a)),
        )
        both = st.builds(lambda f, a, b: f(a, b), st.sampled_from([minimum, maximum]), inner, inner)
        return st.one_of(arithmetic, functions, both, inner.map(lambda a: -a), st.builds(where, conditions, inner, inner))

    return st.recursive(leaves, grow, max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(graphs())
def test_text_reads_back_to_the_same_graph(graph):
    assert parse(to_text(graph)) is graph


@settings(max_examples=60, deadline=None)
@given(graphs(smooth=True), st.tuples(*[st.floats(0.2, 1.5)] * 3))
def test_derivatives_equal_those_of_sympy(graph, point):
    env = dict(zip(NAMES, point, strict=True))
    symbols = {name: sympy.Symbol(name) for name in NAMES}
    slope = sympy.diff(sympy.sympify(to_text(graph), locals=symbols), symbols["x"])  # our own text, not a user's
    ours = float(evaluate([differentiate(graph, "x")], env)[0])
    theirs = float(slope.subs(env))
    assert math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize("text", [
    *(f"{f}(k_1*x + 1/3)" for f in SMOOTH), "x**3", "x**-2", "x**2.5", "x**(1/3)", "2**x", "x**x", "x**k_1", "(x + 1)**y",
    "1/(1 + x**2)", "x/y", "y/x", "abs(x - 2)*x", "where(x > 0.3, x**2, x**3)", "min(x**2, y)", "max(x, y)*x", "-x*-y/x",
    "x - (y - x)", "sqrt(x*y)", "max(x*2, 0, y)", "sign(x)*x", "where(x < y and not y < 0.1 or x > 5, sin(x), y)",
])  # fmt: skip
def test_derivatives_equal_central_differences(text):
    node, h = parse(text, names=NAMES), 1e-5
    env = {"x": np.array([0.31, 0.77, 1.9]), "y": np.array([0.6, 0.6, 2.4]), "k_1": 0.8}
    up, down = (evaluate([node], {**env, "x": env["x"] + step})[0] for step in (h, -h))
    # central differences: h²·f'''/6 and round-off ε·f/h, both below 1e-8 here
    np.testing.assert_allclose(evaluate([differentiate(node, "x")], env)[0], (up - down) / (2 * h), rtol=1e-7, atol=1e-8)


def test_a_derivative_by_what_does_not_occur_is_a_structural_zero():
    node = parse("exp(y)*sin(y) + where(y > 0, max(y, 1), abs(y)) - k_1**y")
    assert is_zero(differentiate(node, "x"))
    assert not is_zero(parse("x - x"))  # a number that happens to vanish is not structural


SPELLINGS = {
    "polynomial": ("x - x**3/3 + k*y", lambda x, y, k: x - x**3 / 3 + k * y, lambda x, y, k: x - x**3 / 3 + k * y),
    "functions": (
        "exp(-x)*sin(k*y) + tanh(x)/sqrt(y)",
        lambda x, y, k: np.exp(-x) * np.sin(k * y) + np.tanh(x) / np.sqrt(y),
        lambda x, y, k: sympy.exp(-x) * sympy.sin(k * y) + sympy.tanh(x) / sympy.sqrt(y),
    ),
    "pieces": (
        "where(x > k, x**1.5, -abs(x - y))",
        lambda x, y, k: np.where(x > k, x**1.5, -np.abs(x - y)),
        lambda x, y, k: sympy.Piecewise((x ** sympy.Rational(3, 2), x > k), (-sympy.Abs(x - y), True)),
    ),
    "extremes": (
        "max(x, y, k) - min(x, 2*y)*pi",
        lambda x, y, k: np.maximum(np.maximum(x, y), k) - np.minimum(x, 2 * y) * np.pi,
        lambda x, y, k: sympy.Max(x, y, k) - sympy.Min(x, 2 * y) * sympy.pi,
    ),
    "logic": (
        "where(x > k and y > k or x == 1, log(y), cosh(x) - sinh(k))",
        lambda x, y, k: np.where(np.logical_or(np.logical_and(x > k, y > k), x == 1), np.log(y), np.cosh(x) - np.sinh(k)),
        lambda x, y, k: sympy.Piecewise(
            (sympy.log(y), sympy.Or(sympy.And(x > k, y > k), sympy.Eq(x, 1))), (sympy.cosh(x) - sympy.sinh(k), True)
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_text_function_and_sympy_mean_the_same(name):
    text, function_, symbolic = SPELLINGS[name]
    names = ("x", "y", "k")
    draws = np.random.default_rng(1)
    env = {n: draws.uniform(0.1, 2.0, 50) for n in names}
    env["x"][:5] = 1.0
    with np.errstate(invalid="ignore"):
        plain = function_(**env)
    for form in (text, function_, symbolic(*sympy.symbols(names))):
        # SymPy reorders sums: equal to round-off, not to the bit
        np.testing.assert_allclose(evaluate([as_expr(form, names)], env)[0], plain, rtol=1e-13, atol=1e-14)


HOSTILE = {
    "import": "__import__('os').system('true')",
    "attribute": "x.__class__",
    "dunder chain": "().__class__.__bases__[0].__subclasses__()",
    "lambda": "lambda: 0",
    "called lambda": "(lambda x: x)(1)",
    "list": "[x for x in (1, 2)]",
    "generator": "sum(x for x in (1, 2))",
    "set": "{x}",
    "dict": "{'x': 1}",
    "tower": "9**9**9**9",
    "tower inside": "x + 9**9**9**9",
    "division by zero": "x*(1/0)",
    "log of zero": "max(x, log(0))",
    "root of a negative number": "x + sqrt(-2)",
    "brackets": "(" * 10000,
    "closed brackets": "(" * 150 + "x" + ")" * 150 + "+" + "(" * 9000,
    "signs": "-" * 10000 + "x",
    "nots": "not " * 4000 + "x",
    "long sum": "+".join(["x"] * 9000),
    "nested calls": "sin(" * 250 + "x" + ")" * 250,
    "too long": "x + " * 100_000 + "x",
    "huge integer": "9" * 5000,
    "big integer": "x*" + "9" * 400,
    "overflow": "1e999",
    "caret": "x^2",
    "matrix product": "x @ x",
    "modulo": "x % 2",
    "floor": "x // 2",
    "shift": "x << 2",
    "bits": "x & 3",
    "complement": "~x",
    "keyword argument": "sin(x=1)",
    "star": "max(*x)",
    "string": "'x'",
    "bytes": "b'x'",
    "complex": "x + 1j",
    "boolean": "x*True",
    "none": "None",
    "ellipsis": "...",
    "tuple": "x, x",
    "walrus": "(y := x)",
    "f-string": "f'{x}'",
    "subscript": "x[0]",
    "slice": "x[1:2]",
    "await": "await x",
    "yield": "(yield x)",
    "homoglyph": "ѕin(x)",
    "statement": "x = 1",
    "two statements": "x; x",
    "two lines": "x\nimport os",
    "nothing": "",
    "blanks": "   ",
    "null": "x\0",
    "surrogate": "x\ud800",
    "membership": "x in x",
    "identity": "x is x",
    "comparison as number": "x > 0",
    "comparison in a sum": "x + (x > 0)",
    "number as condition": "where(x, 1, 2)",
    "boolean operator on numbers": "x and x",
    "function without argument": "sin",
    "too many arguments": "sin(x, x)",
    "too few arguments": "where(x > 0, 1)",
    "unknown function": "gamma(x)",
    "call of a number": "2(x)",
    "derivative where none is": "ddx(x)",
}


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_refused_at_once(text):
    begin = time.perf_counter()
    with pytest.raises(EquationError) as caught:
        as_expr(text, names=["x"], what="drift of x")
    assert str(caught.value).startswith("drift of x")
    assert len(str(caught.value)) < 1500
    assert time.perf_counter() - begin < 1.0


def test_errors_name_what_was_found_what_there_is_and_the_cure():
    with pytest.raises(EquationError, match=r"drift of x 'k\*z': unknown name 'z'; the names known here are k, x"):
        parse("k*z", names=["x", "k"], what="drift of x")
    with pytest.raises(EquationError, match=r"powers are written \*\*"):
        parse("x^2")
    with pytest.raises(EquationError, match="unknown function 'gamma'; the functions are abs, cos"):
        parse("gamma(x)")
    with pytest.raises(EquationError, match="write it with an argument"):
        parse("sin*x", names=["x"])
    with pytest.raises(EquationError, match=r"write where\(x > 0, 1, 0\)"):
        as_expr("x > 0")
    with pytest.raises(EquationError, match=r"1/0 is not a finite number"):
        as_expr("x + 1/0")


FUNCTIONS = {
    "if": (lambda x: 1.0 if x > 0 else 2.0, r"where\(condition"),
    "if equal": (lambda x: 1.0 if x == 0 else 2.0, r"where\(condition"),
    "if unequal": (lambda x: 1.0 if x != 0 else 2.0, r"where\(condition"),
    "and": (lambda x: np.where(x > 0 and x < 1, 1, 2), r"where\(condition"),
    "chained": (lambda x: np.where(0 < x < 1, 1, 2), r"where\(condition"),
    "membership": (lambda x: 1.0 if x in (1, 2) else 0.0, r"where\(condition"),
    "max of Python": (lambda x: max(x, 0), r"where\(condition"),
    "math": (lambda x: math.sin(x), "NumPy's functions"),
    "method": (lambda x: x.sum(), "cannot be traced"),
    "index": (lambda x: x[0], "cannot be traced"),
    "loop": (lambda x: sum(v for v in x), "cannot be iterated"),
    "unknown ufunc": (lambda x: np.arctan(x), "functions that have one"),
    "unknown name": (lambda x, q: x * q, "asks for 'q'; the names known here are k, x"),
    "complex": (lambda x: 1j * x, "real number"),
    "nothing": (lambda x: None, "real number"),
    "array": (lambda x: x * np.ones(3), "cannot hold an array"),
    "NaN": (lambda x: float("nan"), "not a finite number"),
    "comparison": (lambda x: x > 0, r"where\(x > 0"),
    "its own error": (lambda x: 1 / 0, "division by zero"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_cannot_be_traced_say_why(name):
    fn, message = FUNCTIONS[name]
    with pytest.raises(EquationError, match=message):
        as_expr(fn, names=["x", "k"], what="drift of x")


def test_equality_in_a_function_is_a_condition_not_an_identity():
    node = as_expr(lambda x: np.where(x == 0, 1.0, np.where(x != 2, 3.0, 4.0)), names=["x"])
    assert evaluate([node], {"x": np.array([0.0, 1.0, 2.0])})[0].tolist() == [1.0, 3.0, 4.0]
    assert symbol("x") != symbol("y") and symbol("x") == symbol("x")  # elsewhere graphs are keys


def test_defaults_of_a_function_stand_for_names_that_are_not_known():
    assert as_expr(lambda x, k=2.0, q=3.0: x * k * q, names=["x", "k"]) is parse("x*k*3")
    assert as_expr(lambda x, *, k: x * k, names=["x", "k"]) is parse("x*k")


def test_what_cannot_be_kept_with_the_data_is_refused():
    def doubled(x):
        for _ in range(40):
            x = x - x * x
        return x

    def long_sum(x):
        return sum((x**i for i in range(1, 300)), 0.0 * x)

    for fn in (doubled, long_sum):
        with pytest.raises(EquationError, match="can be kept with the data"):
            as_expr(fn, names=["x"])


def test_sympy_without_a_form_here_is_named():
    x = sympy.Symbol("x")
    for node, name in ((sympy.gamma(x), "gamma"), (sympy.I * x, "ImaginaryUnit"), (sympy.oo * x, "nfinity")):
        with pytest.raises(EquationError, match=name):
            as_expr(node, names=["x"])
    with pytest.raises(EquationError, match="last case"):
        as_expr(sympy.Piecewise((x, x > 0)), names=["x"])
    with pytest.raises(EquationError, match="unknown name 'q'"):
        as_expr(sympy.Symbol("q"), names=["x"])
    with pytest.raises(EquationError):
        as_expr(sympy.Symbol("__import__('os')"), names=["x"])


def test_equal_graphs_are_one_object_and_written_order_is_kept():
    x, y = symbol("x"), symbol("y")
    assert (x + y) * 2 is (x + y) * 2
    assert x + y is not y + x
    assert parse("a + (b + c)") is not parse("(a + b) + c")
    assert load("u", (0, 1)) is load("u", (0, 1))
    assert const(0.0) is not const(-0.0)


def test_substitution_is_simultaneous():
    swapped = substitute(parse("x - 2*y"), {"x": symbol("y"), "y": symbol("x")})
    assert swapped is parse("y - 2*x")
    assert free_symbols(substitute(parse("x*k"), {"k": 3.0})) == {"x"}


def test_constants_and_the_users_own_names():
    assert parse("pi").value == math.pi and parse("e").value == math.e
    assert parse("e*x", names=["e", "x"]) is symbol("e") * symbol("x")
    with pytest.raises(KeyError, match="no value for 'k'"):
        evaluate([parse("k")], {"x": 1.0})


@pytest.mark.parametrize("text, latex", [
    ("a - b*c/2", r"a - \frac{b c}{2}"),
    ("x*-2", r"x \left(-2\right)"),
    ("x - -3", r"x - \left(-3\right)"),
    ("x + -y", r"x - y"),
    ("-theta_1*x", r"-\theta_{1} x"),
    ("(a + b)*(c - d)", r"\left(a + b\right) \left(c - d\right)"),
    ("(x + 1)**2/sqrt(y)", r"\frac{\left(x + 1\right)^{2}}{\sqrt{y}}"),
    ("exp(-x)**2", r"\left(e^{-x}\right)^{2}"),
    ("2*3*x", r"2 \cdot 3 x"),
    ("x**0.5", r"\sqrt{x}"),
    ("abs(x) + 1e-9", r"\left|x\right| + 1 \cdot 10^{-9}"),
    ("where(x > 0, x, -x)", r"\begin{cases} x & x > 0 \\ -x & \text{otherwise} \end{cases}"),
])  # fmt: skip
def test_latex(text, latex):
    assert to_latex(parse(text)) == latex
