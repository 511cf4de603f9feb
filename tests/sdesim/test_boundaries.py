"""Ghost cells meet their conditions; contradictory boundaries are refused."""

import numpy as np
import pytest

from sdesim.boundaries import (
    Absorbing,
    Dirichlet,
    Neumann,
    Periodic,
    Reflecting,
    Robin,
    describe,
    from_dict,
    ghost_coefficients,
    normalise,
    robin,
    to_dict,
)
from sdesim.calculus import evaluate

CONDITIONS = [Dirichlet(2.5), Neumann(-1.5), Robin(2.0, 0.5, 3.0), Robin(0.0, 2.0, 1.0), Robin("1 + y", 2, "t*k"),
              Dirichlet("sin(y) + k")]


def one(condition):
    return normalise({"x": condition}, ("y", "x"), ("u",), ("k",))["u"]["x"][0]


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("h", [0.1, 2.0])
def test_the_ghost_meets_the_condition_at_the_edge(condition, h):
    """a (u + g)/2 + b (g − u)/h = c for the ghost that A and B give, whatever u is."""
    known = {"y": np.linspace(0.0, 1.0, 5), "t": 0.7, "k": -0.3}
    normal = one(condition)
    A, B = ghost_coefficients(normal, h, known)
    a, b, c = evaluate(robin(normal), known)
    for u in (-1.0, 0.0, 4.0):
        ghost = A + B * u
        np.testing.assert_allclose(a * (u + ghost) / 2 + b * (ghost - u) / h, c + 0.0 * ghost, atol=1e-12)


def test_a_robin_condition_that_the_grid_cannot_meet():
    with pytest.raises(ValueError, match=r"a/2 \+ b/h vanishes"):
        ghost_coefficients(one(Robin(2.0, -0.5, 1.0)), 0.5, {})
    with pytest.raises(ValueError, match=r"a/2 \+ b/h vanishes"):
        ghost_coefficients(one(Robin("2*y", -0.5, 1.0)), 0.5, {"y": np.array([0.5, 1.0])})
    with pytest.raises(ValueError, match="finite"), np.errstate(all="ignore"):
        ghost_coefficients(one(Dirichlet("1/y")), 0.5, {"y": np.array([0.0, 1.0])})


def test_sides_states_and_the_default():
    sides = normalise({"x": Periodic(), "y": (Dirichlet(1), Neumann())}, ("y", "x"), ("u", "v"), ())
    assert sides["u"] == sides["v"]
    assert sides["u"]["x"] == (Periodic(), Periodic())
    sides = normalise({"v": {"x": Dirichlet(0)}}, ("x",), ("u", "v"), ())
    assert describe(sides["u"]["x"][0]) == "∂u/∂n = 0"
    assert describe(sides["v"]["x"][1]) == "u = 0"
    mixed = normalise({"x": Periodic(), "v": {"x": Dirichlet(0)}}, ("x",), ("u", "v"), ())
    assert isinstance(mixed["u"]["x"][0], Periodic) and isinstance(mixed["v"]["x"][0], Dirichlet)


@pytest.mark.parametrize("boundary, error, message", [
    ({"x": (Periodic(), Dirichlet(0))}, ValueError, "contradicts its opposite"),
    ({"x": (Neumann(), Periodic())}, ValueError, "contradicts its opposite"),
    ({"z": Periodic()}, KeyError, "z"),
    ({"v": {"x": Periodic()}}, KeyError, "v"),
    ({"u": {"q": Periodic()}}, KeyError, "no axis q"),
    ({"x": 3.0}, TypeError, "got 3.0"),
    ({"x": (Periodic(),)}, TypeError, "pair"),
    (Periodic(), TypeError, "mapping"),
    ({"x": Robin(0, 0, 1)}, ValueError, "says nothing"),
    ({"x": Dirichlet("x + 1")}, ValueError, "unknown name 'x'"),
    ({"x": Dirichlet("u")}, ValueError, "unknown name 'u'"),
])
def test_what_is_no_boundary(boundary, error, message):
    with pytest.raises(error, match=message):
        normalise(boundary, ("y", "x"), ("u",), ("k",))


@pytest.mark.parametrize("condition", [*CONDITIONS, Periodic()])
def test_description_round_trip(condition):
    assert one(from_dict(to_dict(one(condition)))) == one(condition)


@pytest.mark.parametrize("kind", [Reflecting, Absorbing])
def test_bounds_of_an_sde(kind):
    assert kind(0.0, None) == kind(lo=0.0)
    with pytest.raises(ValueError, match="lo < hi"):
        kind(1.0, 1.0)
    with pytest.raises(ValueError, match="at least one end"):
        kind()
