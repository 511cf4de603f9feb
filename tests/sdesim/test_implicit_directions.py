"""Alternating directions: lines, parts, orders by manufactured data for each kind of edge, stability, conservation."""

import numpy as np
import pytest
from scipy.linalg import expm

from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin
from sdesim.grids import Grid
from sdesim.kernels import implicit_directions
from sdesim.kernels.field_reference import Reference
from sdesim.kernels.field_static import static_arrays
from sdesim.kernels.implicit_directions import Directional, directions
from sdesim.kernels.implicit_operator import Operator, split
from sdesim.kernels.implicit_thomas import Line
from sdesim.methods.field_implicit import ALTERNATING
from sdesim.methods.vector import Vector
from sdesim.models.pde import PDE
from sdesim.stencil_integrate import stencil_run
from sdesim.stencils import discretise


def solve(model, method, u, times, dt, **more):
    return stencil_run(model, method, np.asarray(u, float), None, times, dt, members=np.arange(np.shape(u)[1]), **more)


def box(*cells):
    return Grid(**{axis: (0.0, 1.0, n) for axis, n in zip("xyz", cells)})


# --- lines


@pytest.mark.parametrize("shape", [(5, 7), (40, 50), (3, 4, 5), (17, 9, 33), (1, 20), (20, 1), (2, 2), (33, 3)])
def test_lines_have_the_bits_of_their_reference_and_solve_their_equations(shape):
    rng = np.random.default_rng(0)
    for axis in range(len(shape)):
        for wraps in (False, True):
            for lead in (1, 2):
                low, high = rng.random((2, lead, *shape))
                here = -(low + high)
                if not wraps:
                    np.moveaxis(low, axis + 1, 0)[0] = np.moveaxis(high, axis + 1, 0)[-1] = 0.0
                line = Line([low, here, high], axis, wraps)
                y, f = rng.random((2, 2, *shape))
                x, back = np.empty_like(y), np.empty_like(y)
                line.solve(3.0, y, f, x)
                line.apply(x, back)
                assert np.array_equal(x, line.reference_solve(3.0, y, f))
                assert np.array_equal(back, line.reference_apply(x))
                assert np.abs(x - 3.0 * back - (y - 3.0 * f)).max() < 1e-12


@pytest.mark.parametrize("change", [
    {"diffusivity": "1 + x*y", "boundary": {"x": (Dirichlet("sin(t + y)"), Robin(1.0, 0.5, "cos(t*y)"))}},
    {"diffusivity": [["2 + x", "0.5*y"], ["0.5*y", "1 + t"]], "cross_flux": "limited"},
    {"diffusivity": [[2.0, 0.5], [0.3, 1.0]], "boundary": {"x": Periodic(), "y": Periodic()}},
    {"diffusivity": 0.1, "velocity": {"x": "sin(y)", "y": "x*cos(t)"}, "advection": "upwind", "reaction": "x - 2*u"},
    {"diffusivity": 0.1, "velocity": {"x": "1 + y"}, "advection": "limited", "reaction": "u*(1 - u) + ddx(u)"},
])  # fmt: skip
def test_the_parts_add_up_to_the_right_hand_side(change):
    model = PDE(box(9, 7), **change)
    stencil = discretise(model)
    m = Directional(directions(stencil, "craig_sneyd"), {}, 2.0)
    u = np.random.default_rng(0).random((1, 1, 7, 9))
    reference = Reference(stencil, {}, {k: v[0] for k, v in static_arrays(stencil, {}).items()})
    wanted = reference.f(0.4, Vector([u[0, 0]]))[0]
    parts = m.parts_at(0.4, u)
    assert np.allclose(sum(parts)[0, 0], wanted, rtol=1e-12, atol=1e-10)
    assert np.array_equal(m.parts_at(0.4, np.asfortranarray(u))[1], parts[1])  # however it lies in memory


# --- orders


EDGES = {
    "periodic": {"x": Periodic(), "y": Periodic()},
    "no flux": {},
    "dirichlet": {"x": (Dirichlet("cos(t)*cos(3*y)"), Dirichlet("sin(t)*y")), "y": Dirichlet("sin(t)*x**2")},
    "neumann": {"x": (Neumann("cos(t)*cos(3*y)"), Neumann("sin(t)*y")), "y": Neumann("sin(t)*x**2")},
    "robin": {"x": Robin(1.0, 0.5, "cos(t)*cos(3*y)"), "y": (Robin(2.0, 1.0, "sin(t)*x"), Dirichlet("cos(t)*x"))},
}


def exact_in_time(model, u, end):
    """The cells' own solution of u' = Lu + p cos t + q sin t from t = 0: a cos t + c sin t and decaying modes of L."""
    operator = Operator(split(discretise(model), "tr_bdf2"), {})
    n = u.size
    L = operator.apply(np.eye(n).reshape(1, n, *u.shape))[0].reshape(n, n).T
    p, q = (operator.source(t).ravel().copy() for t in (0.0, np.pi / 2))
    a = np.linalg.solve(np.eye(n) + L @ L, -(L @ p + q))
    c = L @ a + p
    return (a * np.cos(end) + c * np.sin(end) + expm(L * end) @ (u.ravel() - a)).reshape(u.shape)


@pytest.mark.parametrize("edge", list(EDGES))
@pytest.mark.parametrize("method", ALTERNATING)
def test_order_two_in_time_with_every_kind_of_edge(method, edge):
    model = PDE(box(14, 11), diffusivity=0.4 if edge == "periodic" else "0.3 + 0.2*x*(1 - x) + 0.1*y", boundary=EDGES[edge],
                reaction="cos(t)*(1 + x*y) - 0.5*u")
    y, x = np.meshgrid(model.grid.coordinates["y"], model.grid.coordinates["x"], indexing="ij")
    u = np.sin(2 * np.pi * x) * np.cos(2 * np.pi * y) + 1.0
    truth = exact_in_time(model, u, 1.0)
    errors = [np.sqrt(np.mean((solve(model, method, u[None, None], [0.0, 1.0], 1.0 / n)[0][-1, 0, 0] - truth) ** 2))
              for n in (20, 40)]
    assert np.log2(errors[0] / errors[1]) > 1.8, errors


@pytest.mark.parametrize("method", ["craig_sneyd", "modified_craig_sneyd", "hundsdorfer_verwer"])
@pytest.mark.parametrize("axes", [2, 3])
def test_order_two_in_time_with_mixed_derivatives(method, axes):
    D = [[0.3, 0.1, 0.05], [0.1, 0.2, 0.02], [0.05, 0.02, 0.1]]
    grid = box(*(9, 8, 7)[:axes])
    model = PDE(grid, diffusivity=[row[:axes] for row in D[:axes]], boundary=dict.fromkeys(grid.axes, Periodic()))
    phase = sum((k + 1) * c for k, c in enumerate(grid.mesh.values()))
    u = np.broadcast_to(np.cos(2 * np.pi * phase), grid.shape)
    truth = exact_in_time(model, u, 0.1)
    errors = [np.abs(solve(model, method, u[None, None], [0.0, 0.1], 0.1 / n)[0][-1, 0, 0] - truth).max()
              for n in (20, 40)]
    assert np.log2(errors[0] / errors[1]) > 1.8, errors


def test_order_two_with_a_tensor_that_varies_between_walls_and_a_reaction():
    model = PDE(box(10, 9), diffusivity=[["0.02 + 0.01*x", "0.01*y"], ["0.01*y", "0.02 + 0.01*t"]], cross_flux="central",
                reaction="u*(1 - u)", boundary={"x": Dirichlet("0.5 + 0.2*sin(3*t)*y")})
    y, x = np.meshgrid(model.grid.coordinates["y"], model.grid.coordinates["x"], indexing="ij")
    u = (0.5 + 0.4 * np.sin(np.pi * x) * np.cos(np.pi * y))[None, None]
    truth = solve(model, "rk4", u, [0.0, 1.0], 0.005)[0][-1]
    for method in ALTERNATING[1:]:
        errors = [np.abs(solve(model, method, u, [0.0, 1.0], 1.0 / n)[0][-1] - truth).max() for n in (10, 20, 40)]
        assert np.all(np.log2(np.divide(errors[:-1], errors[1:])) > 1.8), (method, errors)


def test_boundary_values_of_the_stages_make_an_edge_that_moves_as_accurate_as_the_rest(monkeypatch):
    edges = {"x": (Dirichlet("cos(3*t)*sin(0.3)*cos(1.5*y + 0.2)"), Dirichlet("cos(3*t)*sin(2.3)*cos(1.5*y + 0.2)")),
             "y": (Dirichlet("cos(3*t)*sin(2*x + 0.3)*cos(0.2)"), Dirichlet("cos(3*t)*sin(2*x + 0.3)*cos(1.7)"))}
    model = PDE(box(28, 28), diffusivity="1 + 0.3*y", boundary=edges)
    y, x = np.meshgrid(model.grid.coordinates["y"], model.grid.coordinates["x"], indexing="ij")
    u = (np.sin(2 * x + 0.3) * np.cos(1.5 * y + 0.2))[None, None]
    truth = solve(model, "hundsdorfer_verwer", u, [0.0, 0.5], 0.5 / 200)[0][-1]

    def error():
        return np.abs(solve(model, "douglas", u, [0.0, 0.5], 0.5 / 40)[0][-1] - truth).max()

    mended = error()
    monkeypatch.setattr(implicit_directions.Axis, "_left", lambda self, start, end, later: np.zeros(1))
    assert error() > 3.0 * mended


# --- laws


@pytest.mark.parametrize("edge", [Periodic(), Neumann()], ids=["periodic", "no flux"])
@pytest.mark.parametrize("method", ALTERNATING)
def test_steps_of_any_length_are_stable_and_keep_the_total(method, edge):
    rng = np.random.default_rng(0)
    D = 10.0 ** (4 * rng.random((20, 24)))  # contrast 10⁴ from cell to cell
    model = PDE(box(24, 20), diffusivity=D, boundary={"x": edge, "y": edge})
    u = rng.random((1, 1, 20, 24))
    for dt in (1e-5, 1e-2, 10.0):
        states = solve(model, method, u, np.arange(4) * 50 * dt, dt)[0].reshape(4, -1)
        assert np.abs(states.mean(axis=1) - u.mean()).max() < 1e-14
        assert np.all(np.diff(states.std(axis=1)) <= 1e-9)  # what rounding leaves of h·λ = 10⁸


@pytest.mark.parametrize("method", ["craig_sneyd", "hundsdorfer_verwer"])
def test_strong_mixed_derivatives_are_stable_at_long_steps(method):
    # D = [[1, 9], [9, 100]], correlation 0.9, between walls; the step is 10⁵ times the explicit limit
    model = PDE(box(24, 20), diffusivity=[[1.0, 9.0], [9.0, 100.0]], cross_flux="central")
    u = np.random.default_rng(0).random((1, 1, 20, 24))
    states = solve(model, method, u, np.arange(4) * 500.0, 10.0)[0].reshape(4, -1)
    assert np.abs(states.mean(axis=1) - u.mean()).max() < 1e-14
    assert np.all(states.std(axis=1) <= u.std())


@pytest.mark.parametrize(("shape", "change", "fits"), [
    ((10, 10, 10), {"diffusivity": "where((x - 0.5)**2 + (y - 0.5)**2 + (z - 0.5)**2 < 0.1, 1, 0.0001)"}, False),
    ((10, 10, 10), {"diffusivity": "where(x < 0.5, 1, 0.0001)"}, True),  # what is along x commutes with the rest
    ((24, 20), {"diffusivity": [[1.0, 9.0], [9.0, 100.0]], "cross_flux": "central"}, False),
    ((24, 20), {"diffusivity": [[1.0, 9.0], [9.0, 100.0]], "boundary": {"x": Periodic(), "y": Periodic()}}, True),
    ((10, 10, 10), {"diffusivity": "1 + x*y*z", "reaction": "0.5*u"}, True),  # grows by itself
], ids=["ball", "layers", "mixed", "mixed, periodic", "growth"])  # fmt: skip
def test_steps_that_let_a_mode_grow_are_refused_before(shape, change, fits):
    model = PDE(box(*shape), **change)
    u = np.random.default_rng(0).random((1, 1, *model.grid.shape))
    dt = 0.2 if "reaction" in change else 10.0
    if fits:
        states = solve(model, "modified_craig_sneyd", u, [0.0, 20 * dt], dt)[0]
        assert states[-1].std() < u.std()
    else:
        with pytest.raises(ValueError, match=r"a mode grows .* times in each; use \"tr_bdf2\""):
            solve(model, "modified_craig_sneyd", u, [0.0, 20 * dt], dt)


def test_members_are_the_same_bits_in_any_blocks():
    model = PDE(box(12, 10), diffusivity="k + x", parameters={"k": 1.0}, boundary={"x": Periodic()})
    u, k = np.random.default_rng(0).random((1, 4, 10, 12)), np.array([1.0, 2.0, 3.0, 4.0])
    whole = stencil_run(model, "hundsdorfer_verwer", u, {"k": k}, [0.0, 0.1], 0.02, members=np.arange(4), threads=2)[0]
    part = stencil_run(model, "hundsdorfer_verwer", u[:, 2:3], {"k": k[2:3]}, [0.0, 0.1], 0.02, members=[2])[0]
    assert np.array_equal(whole[:, :, 2:3], part)


# --- what is refused


@pytest.mark.parametrize(("method", "change", "message"), [
    ("craig_sneyd", {"diffusivity": "1 + u**2"}, "do not depend|not depend on the states"),
    ("craig_sneyd", {"state": ("u", "v"), "diffusivity": {"u": {"u": 1.0, "v": 0.2}, "v": 1.0}}, "each state alone"),
    ("douglas", {"diffusivity": [[1.0, 0.2], [0.2, 1.0]]}, "order 1 with mixed"),
    ("douglas", {"reaction": "u*(1 - u)"}, "order 1 with mixed"),
])
def test_what_alternating_directions_cannot_do_is_said_before(method, change, message):
    model = PDE(box(8, 8), **{"diffusivity": 1.0, **change})
    with pytest.raises(ValueError, match=message):
        solve(model, method, np.zeros((len(model.state), 1, 8, 8)), [0.0, 1.0], 0.1)
