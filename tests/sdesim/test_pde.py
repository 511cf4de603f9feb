"""A PDE is read in every form that is allowed, says what it is, and refuses what is no equation."""

import numpy as np
import pytest

from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin
from sdesim.calculus import evaluate, free_symbols
from sdesim.fields import ColouredNoise, WhiteNoise
from sdesim.grids import Grid
from sdesim.models.pde import PDE
from sdesim.parsing import parse

LINE = Grid(x=(0.0, 1.0, 8))
PLANE = Grid(x=(0.0, 1.0, 6), y=(0.0, 2.0, 4))
GRAY_SCOTT = {
    "diffusivity": {"u": "Du", "v": "Dv"}, "reaction": {"u": "-u*v**2 + F*(1 - u)", "v": "u*v**2 - (F + k)*v"},
    "parameters": {"Du": 2e-5, "Dv": 1e-5, "F": 0.04, "k": 0.06}, "boundary": {"x": Periodic(), "y": Periodic()},
}


def test_one_equation_in_four_languages():
    sympy = pytest.importorskip("sympy")
    text = PDE(LINE, diffusivity=1.0, reaction="sin(u) - k*u**3", parameters={"k": 2.0})
    called = PDE(LINE, diffusivity=1.0, reaction=lambda u, k: np.sin(u) - k * u**3, parameters={"k": 2.0})
    tree = PDE(LINE, diffusivity=1.0, reaction={"u": parse("sin(u) - k*u**3")}, parameters={"k": 2.0})
    u, k = sympy.symbols("u k")
    algebra = PDE(LINE, diffusivity=1, reaction=sympy.sin(u) - k * u**3, parameters={"k": 2.0})
    assert text == called == tree
    assert hash(text) == hash(called)
    for model in (text, algebra):
        assert evaluate([model.reaction["u"]], {"u": 0.3, "k": 2.0})[0] == pytest.approx(np.sin(0.3) - 0.054)


def test_diffusivity_in_every_form():
    field = np.linspace(1.0, 2.0, 24).reshape(4, 6)
    model = PDE(PLANE, diffusivity=field)
    (name,) = model.fields
    assert free_symbols(model.diffusivity["u"]["u"]) == {name}
    assert np.array_equal(model.fields[name], field) and not model.fields[name].flags.writeable
    model = PDE(PLANE, diffusivity=[[2.0, "c"], [0.5, 1.0]], parameters={"c": 0.5})
    (first, second) = model.diffusivity["u"]["u"]
    assert [part.value for part in first] == [2.0, "c"] and second[1].value == 1.0
    model = PDE(PLANE, ("u", "v"), diffusivity={"u": {"u": 1.0, "v": "u/2"}, "v": 0.1})
    assert set(model.diffusivity["u"]) == {"u", "v"} and set(model.diffusivity["v"]) == {"v"}
    assert PDE(PLANE, ("u", "v"), diffusivity=0.3).diffusivity["v"]["v"].value == 0.3
    assert PDE(PLANE, ("u", "v"), diffusivity={"u": 1.0}).diffusivity == {"u": {"u": parse("1")}}


def test_arrays_become_coefficient_fields():
    K, source = np.ones((4, 6)), np.arange(24.0).reshape(4, 6)
    model = PDE(PLANE, diffusivity="K*(1 + x)", reaction=source, parameters={"K": K, "a": 1})
    assert set(model.fields) == {"K", "reaction_u"} and dict(model.parameters) == {"a": 1.0}
    xarray = pytest.importorskip("xarray")
    turned = xarray.DataArray(source.T, dims=("x", "y"))
    assert np.array_equal(PDE(PLANE, diffusivity=1.0, parameters={"S": turned}).fields["S"], source)
    with pytest.raises(ValueError, match="dimensions of the grid, y, x; got x, q"):
        PDE(PLANE, diffusivity=1.0, reaction=turned.rename(y="q"))
    assert np.array_equal(PDE(PLANE, diffusivity=1.0, reaction=turned).fields["reaction_u"], source)


def test_structure():
    model = PDE(PLANE, ("u", "v"), **GRAY_SCOTT)
    assert not model.is_linear and model.is_constant_coefficient()
    assert model.uses("reaction") == {"u", "v", "F", "k"} and model.uses("diffusivity") == {"Du", "Dv"}
    assert model.noise_kind == "none" and model.noise_colour == "none"
    assert PDE(LINE, diffusivity="1 + x", reaction="a*u + sin(x) + t", parameters={"a": 1}).is_linear
    assert not PDE(LINE, diffusivity="1 + x").is_constant_coefficient()
    assert not PDE(LINE, diffusivity="u").is_linear
    assert not PDE(LINE, diffusivity=1.0, velocity={"x": "u/2"}).is_linear
    assert not PDE(LINE, diffusivity=1.0, reaction="ddx(u)**2").is_linear
    assert PDE(LINE, diffusivity=1.0, reaction="x*ddx(u)").is_linear
    noisy = PDE(LINE, ("u", "v"), diffusivity=1.0, noise={"u": WhiteNoise("k"), "v": ColouredNoise("u", 0.1)},
                parameters={"k": 1})
    assert noisy.noise_kind == "multiplicative" and noisy.noise_colour == "mixed"
    assert PDE(LINE, diffusivity=1.0, noise=WhiteNoise(2)).noise_kind == "additive"


def test_affine_reaction():
    model = PDE(LINE, ("u", "v"), diffusivity=1.0, parameters={"k": 3.0}, reaction={"u": "2 - k*(u - x) + v/2"})
    source, slopes = model.affine_reaction("u")
    known = {"k": 3.0, "x": 0.5}
    assert evaluate([source, slopes["u"], slopes["v"]], known) == [3.5, -3.0, 0.5]
    with pytest.raises(ValueError, match="not affine"):
        PDE(LINE, diffusivity=1.0, reaction="u*ddx(u)").affine_reaction("u")
    with pytest.raises(ValueError, match="not affine"):
        PDE(LINE, diffusivity=1.0, reaction="u**2").affine_reaction("u")


MODELS = [
    PDE(PLANE, ("u", "v"), units={"u": "mol m-3"}, **GRAY_SCOTT),
    PDE(PLANE, diffusivity=[[2.0, "c"], ["c", 1.0]], parameters={"c": 0.5},
        noise=ColouredNoise("c", {"x": 1.0, "y": 2.0}, 1.5),
        boundary={"x": (Dirichlet("sin(y)"), Robin(1, "c", 2)), "y": (Neumann(0.5), Neumann())}),
    PDE(PLANE, diffusivity=np.linspace(1, 2, 24).reshape(4, 6), velocity={"x": "u/2", "y": "exp(-x)"},
        reaction=np.ones((4, 6)), noise=WhiteNoise("1 + u")),
    PDE(LINE, ("u", "v"), diffusivity={"u": {"v": 1.0}}, velocity={"v": {"x": 1.0}}),
]


@pytest.mark.parametrize("model", MODELS)
def test_description_round_trip(model):
    again = PDE.from_dict(model.to_dict())
    assert again == model and hash(again) == hash(model)
    assert str(again) == str(model) and again.to_latex() == model.to_latex()
    assert again.boundary == model.boundary and again.units == model.units


@pytest.mark.parametrize("model", MODELS)
def test_equal_models_only(model):
    assert sum(model == other for other in MODELS) == 1
    data = model.to_dict()
    for name, value in data["fields"].items():
        assert PDE.from_dict({**data, "fields": {**data["fields"], name: value + 1e-16 + value * 1e-15}}) != model
    with pytest.raises(AttributeError):
        model.grid = LINE
    with pytest.raises(TypeError):
        model.parameters["c"] = 2.0


def test_equations_in_words():
    text = str(MODELS[1])
    assert "∂u/∂t = ∇·([2, c; c, 1] ∇u) + (c) ξ_u" in text
    assert "x: u = sin(y) at the low side, 1·u + c·∂u/∂n = 2 at the high side" in text
    latex = MODELS[0].to_latex()
    assert latex.count(r"\frac{\partial") == 2 and latex.count(r"\nabla\cdot") == 2
    for model in MODELS:
        latex = model.to_latex()
        assert latex.count("{") == latex.count("}") and latex.count(r"\left") == latex.count(r"\right")
        assert model._repr_latex_().startswith("$")


@pytest.mark.parametrize("arguments, error, message", [
    ({"diffusivity": -1.0}, ValueError, "must not be negative; got -1"),
    ({"diffusivity": "k", "parameters": {"k": -2.0}}, ValueError, "must not be negative"),
    ({"diffusivity": "x - 0.5"}, ValueError, "somewhere on the grid"),
    ({"diffusivity": np.full((4, 6), -1.0)}, ValueError, "somewhere on the grid"),
    ({"diffusivity": np.full((4, 6), np.nan)}, ValueError, "24 values that are not finite"),
    ({"diffusivity": [[1.0, 2.0], [2.0, 1.0]]}, ValueError, "negative in any direction; its lowest eigenvalue is -1"),
    ({"diffusivity": [[1.0, 0.0]]}, ValueError, "2 × 2"),
    ({"diffusivity": np.ones((6, 4))}, ValueError, r"shape \(4, 6\)"),
    ({"diffusivity": "kapa", "parameters": {"kappa": 1.0}}, ValueError, "unknown name 'kapa'.*kappa"),
    ({"diffusivity": "z"}, ValueError, "unknown name 'z'"),
    ({"diffusivity": 1.0, "reaction": "ddz(u)"}, ValueError, "ddz"),
    ({"diffusivity": 1.0, "reaction": "ddx(w)"}, ValueError, "w"),
    ({"diffusivity": 1.0, "reaction": {"w": "u"}}, KeyError, "the states are u"),
    ({"diffusivity": {"w": 1.0}}, KeyError, "the states are u"),
    ({"diffusivity": 1.0, "velocity": {"z": 1.0}}, KeyError, "z"),
    ({"diffusivity": 1.0, "velocity": 1.0}, TypeError, "mapping"),
    ({"diffusivity": 1.0, "noise": 0.1}, TypeError, "WhiteNoise"),
    ({"diffusivity": 1.0, "noise": WhiteNoise("q")}, ValueError, "unknown name 'q'"),
    ({"diffusivity": 1.0, "boundary": {"x": (Periodic(), Neumann())}}, ValueError, "contradicts its opposite"),
    ({"diffusivity": 1.0, "state": ("x",)}, ValueError, "a coordinate"),
    ({"diffusivity": 1.0, "state": ("sin",)}, ValueError, "a function"),
    ({"diffusivity": 1.0, "state": ("t",)}, ValueError, "the time"),
    ({"diffusivity": 1.0, "state": ("u", "u")}, ValueError, "its own name"),
    ({"diffusivity": 1.0, "state": ()}, ValueError, "at least one state"),
    ({"diffusivity": 1.0, "state": ("2u",)}, ValueError, "like a variable"),
    ({"diffusivity": 1.0, "parameters": {"u": 1.0}}, ValueError, "u"),
    ({"diffusivity": 1.0, "parameters": {"k": np.ones(3)}}, ValueError, r"shape \(4, 6\)"),
    ({"diffusivity": 1.0, "units": {"u": 3}}, TypeError, "strings"),
    ({"diffusivity": 1.0, "state": ("u", "v"), "reaction": "u"}, TypeError, "several states"),
])
def test_what_is_no_equation(arguments, error, message):
    with pytest.raises(error, match=message):
        PDE(PLANE, **arguments)


def test_a_pde_needs_a_grid():
    with pytest.raises(TypeError, match="lives on a Grid"):
        PDE((0, 1, 8), diffusivity=1.0)
