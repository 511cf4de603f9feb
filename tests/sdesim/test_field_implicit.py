"""Implicit methods for fields: orders by manufactured solutions, solvers, conservation, noise, what is refused."""

import numpy as np
import pytest

from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin
from sdesim.fields import WhiteNoise
from sdesim.grids import Grid
from sdesim.kernels.implicit_aggregation import Aggregation
from sdesim.kernels.implicit_multigrid import Multigrid, conjugate_gradients
from sdesim.kernels.implicit_operator import Operator, split
from sdesim.kernels.implicit_solvers import Solver
from sdesim.kernels.implicit_sparse import matrix
from sdesim.methods.field_implicit import ALTERNATING, ARK436, ARS232, IMPLICIT_METHODS
from sdesim.models.pde import PDE
from sdesim.stencil_integrate import stencil_run
from sdesim.stencils import discretise

ALL = tuple(name for name in IMPLICIT_METHODS if name not in ALTERNATING)
PI = "3.141592653589793"


def solve(model, method, u, times, dt, **more):
    return stencil_run(model, method, np.asarray(u, float), None, times, dt,
                       members=np.arange(np.shape(u)[1]), **more)


# --- the tableaus against the order conditions of additive Runge–Kutta methods


@pytest.mark.parametrize(("tableau", "order"), [(ARS232, 2), (ARK436, 4)])
def test_order_conditions_of_the_additive_pairs(tableau, order):
    s = len(tableau.c)
    A = [np.zeros((s, s)) for _ in range(2)]
    for M, rows in zip(A, (tableau.implicit, tableau.explicit)):
        for i, row in enumerate(rows):
            M[i, : len(row)] = row
    c, weights = np.array(tableau.c), (np.array(tableau.b_implicit), np.array(tableau.b_explicit))
    for M in A:
        assert np.allclose(M.sum(axis=1), c, atol=1e-14)
    for b in weights:
        assert np.isclose(b.sum(), 1.0)
        assert np.isclose(b @ c, 1 / 2)
        if order == 4:
            assert np.isclose(b @ c**2, 1 / 3)
            assert np.isclose(b @ c**3, 1 / 4)
            for M in A:
                assert np.isclose(b @ M @ c, 1 / 6)
                assert np.isclose(b @ (c * (M @ c)), 1 / 8)
                assert np.isclose(b @ M @ c**2, 1 / 12)
                for N in A:
                    assert np.isclose(b @ M @ N @ c, 1 / 24)


# --- orders in time and space by manufactured solutions u = e^{−t} g(x) + …, for each kind of edge

_G = {"periodic": ("sin(2*PI*x)", "2*PI*cos(2*PI*x)", "-4*PI**2*sin(2*PI*x)"),
      "other": ("sin(2*x + 0.3)", "2*cos(2*x + 0.3)", "-4*sin(2*x + 0.3)")}
_EDGES = {
    "periodic": Periodic(),
    "dirichlet": (Dirichlet("cos(t)*sin(0.3)"), Dirichlet("cos(t)*sin(2.3)")),
    "neumann": (Neumann("-2*cos(t)*cos(0.3)"), Neumann("2*cos(t)*cos(2.3)")),
    "robin": (Robin(1.0, 0.5, "cos(t)*(sin(0.3) - cos(0.3))"), Robin(2.0, 1.0, "cos(t)*(2*sin(2.3) + 2*cos(2.3))")),
}


def manufactured(edge, n):
    """u = cos(t) g(x) under ∂u/∂t = ∂((1 + x(1−x)/2) ∂u) + source, on cells; and u as a function of t."""
    g, g1, g2 = (text.replace("PI", PI) for text in _G.get(edge, _G["other"]))
    grid = Grid(x=(0.0, 1.0, n))
    source = f"-sin(t)*({g}) - cos(t)*((0.5 - x)*({g1}) + (1 + 0.5*x*(1 - x))*({g2}))"
    model = PDE(grid, diffusivity="1 + 0.5*x*(1 - x)", reaction=source, boundary={"x": _EDGES[edge]})
    x = grid.coordinates["x"]
    shape = np.sin(2 * np.pi * x) if edge == "periodic" else np.sin(2 * x + 0.3)
    return model, lambda t: (np.cos(t) * shape)[None, None]


@pytest.mark.parametrize("edge", list(_EDGES))
@pytest.mark.parametrize("method", ALL)
def test_order_in_time(method, edge):
    # The source is explicit and balances a stiff implicit part, which costs ARK4 (stage order 2) one of its four
    # orders, and an edge that moves in time a further one; without either it has all four (below, Fisher's equation).
    model, exact = manufactured(edge, 24)
    truth, order = exact_in_time(model, exact(0.3)[0, 0], 0.3, 1.3), IMPLICIT_METHODS[method].order
    errors = [np.sqrt(np.mean((solve(model, method, exact(0.3), [0.3, 1.3], 1.0 / n)[0][-1] - truth) ** 2))
              for n in ((40, 80, 160) if edge == "periodic" else (10, 20, 40))]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    least = order - 0.3 if order < 4 else 2.8 if edge == "periodic" else 2.0
    assert orders[-1] > least, (errors, orders)


def exact_in_time(model, u, start, end):
    """The cells' own solution of u' = Lu + p cos t + q sin t: a cos t + c sin t and the decaying modes of L."""
    from scipy.linalg import expm

    operator = Operator(split(discretise(model), "tr_bdf2"), {})
    n = u.size
    L = operator.apply(np.eye(n)[None])[0].T
    p, q = (operator.source(t)[0, 0].copy() for t in (0.0, np.pi / 2))
    a = np.linalg.solve(np.eye(n) + L @ L, -(L @ p + q))
    c = L @ a + p
    forced = [a * np.cos(t) + c * np.sin(t) for t in (start, end)]
    return forced[1] + expm(L * (end - start)) @ (u - forced[0])


@pytest.mark.parametrize("edge", list(_EDGES))
def test_order_in_space(edge):
    errors = []
    for n in (16, 32, 64):
        model, exact = manufactured(edge, n)
        errors.append(np.abs(solve(model, "ark436", exact(0.0), [0.0, 0.5], 0.02)[0][-1] - exact(0.5)).max())
    assert np.all(np.log2(np.divide(errors[:-1], errors[1:])) > 1.8), errors


def test_ark436_is_of_order_four_with_an_explicit_reaction():
    # Fisher's equation between walls without flux: nothing moves at the edges, so no order is lost
    grid = Grid(x=(0.0, 10.0, 40))
    model = PDE(grid, diffusivity=1.0, reaction="u*(1 - u)")
    u = np.exp(-((grid.coordinates["x"] - 5.0) ** 2))[None, None]
    for method, order in (("ars232", 2), ("ark436", 4), ("backward_euler", 1)):
        runs = [solve(model, method, u, [0.0, 2.0], 2.0 / n)[0][-1] for n in (16, 32, 64, 256)]
        errors = [np.abs(r - runs[-1]).max() for r in runs[:-1]]
        assert np.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.35), method


# --- solvers: each gives the inverse of the operator's own matrix, and the one that structure asks for


@pytest.mark.parametrize(("shape", "diffusivity", "edge", "name"), [
    ((9,), "1 + x", Periodic(), "tridiagonal"),
    ((9,), 0.7, (Dirichlet(1.0), Robin(1.0, 0.5, 2.0)), "tridiagonal"),
    ((7, 6), 0.7, (Dirichlet(1.0), Neumann(0.2)), "modes"),
    ((8, 6), 0.7, Periodic(), "modes"),
    ((5, 4, 6), "k", Dirichlet(0.5), "modes"),
    ((24, 17), "k + x*y", (Robin(1.0, 0.1, 2.0), Dirichlet(1.0)), "multigrid conjugate gradients"),
    ((20, 21), "1 + 0.5*sin(6.283185307179586*x)", Periodic(), "multigrid conjugate gradients"),
    ((9, 8, 7), "1 + x*y", Neumann(1.0), "multigrid conjugate gradients"),
    ((8, 9), [[1.0, 0.4], [0.4, 2.0]], Periodic(), "sparse LU"),
])  # fmt: skip
def test_solvers_invert_the_operator(shape, diffusivity, edge, name):
    axes = "xyz"[: len(shape)]
    grid = Grid(**{axis: (0.0, 1.0, n) for axis, n in zip(axes, reversed(shape))})
    model = PDE(grid, diffusivity=diffusivity, boundary=dict.fromkeys(axes, edge), parameters={"k": 1.0})
    operator = Operator(split(discretise(model), "tr_bdf2"), {"k": np.array([1.0, 2.0])})
    solver = Solver(operator, 0.3)
    r = np.random.default_rng(2).standard_normal((1, 2, *grid.shape))
    x = solver.solve(r, np.zeros_like(r), np.full(2, 1e-11))
    assert np.abs(x - 0.3 * operator.apply(x) - r).max() < 1e-9 * 50
    alone = Solver(Operator(split(discretise(model), "tr_bdf2"), {"k": 2.0}), 0.3)
    assert np.array_equal(alone.solve(r[:, 1:], np.zeros_like(r[:, 1:]), np.full(1, 1e-11))[:, 0], x[:, 1])
    assert solver.names == [name]


def test_states_that_drive_each_other_are_solved_together():
    model = PDE(Grid(x=(0.0, 1.0, 7), y=(0.0, 1.0, 6)), state=("u", "v"),
                diffusivity={"u": {"u": 1.0, "v": 0.3}, "v": 0.5})
    operator = Operator(split(discretise(model), "tr_bdf2"), {})
    r = np.random.default_rng(2).standard_normal((2, 3, 6, 7))
    x = Solver(operator, 0.1).solve(r, r, np.full(3, 1e-12))
    assert np.abs(x - 0.1 * operator.apply(x) - r).max() < 1e-12


def test_the_operator_is_the_right_hand_side():
    model, exact = manufactured("robin", 12)
    from sdesim.kernels.field_reference import Reference
    from sdesim.kernels.field_static import static_arrays

    stencil = discretise(model)
    operator = Operator(split(stencil, "tr_bdf2"), {})
    u = exact(0.2) + np.random.default_rng(0).random((1, 1, 12))
    reference = Reference(stencil, {}, {k: v[0] for k, v in static_arrays(stencil, {}).items()})
    from sdesim.methods.vector import Vector

    assert np.allclose(operator.apply(u)[0, 0] + operator.source(0.4)[0, 0], reference.f(0.4, Vector([u[0, 0]]))[0],
                       rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(("shape", "wraps"), [((45, 38), (False, False)), ((45, 38), (True, False)),
                                             ((20, 33), (False, True)), ((9, 14, 11), (False, True, True)),
                                             ((13, 8, 10), (True, False, False))])
def test_the_cycle_is_a_symmetric_preconditioner_and_the_solution_that_of_dense_algebra(shape, wraps):
    rng = np.random.default_rng(0)
    faces = [rng.lognormal(2.0, 0.5, shape) for _ in shape]
    for axis, (f, wrap) in enumerate(zip(faces, wraps)):
        if not wrap:
            f[(slice(None),) * axis + (0,)] = 0.0
    grid = Multigrid(faces, np.ones(shape), [rng.random(shape) for _ in shape])
    x, y, b = rng.standard_normal((3, *shape))
    left, right = (grid.cycle(grid.frame.array().fill(v)).values.copy() for v in (x, y))
    assert np.vdot(left, y) == pytest.approx(np.vdot(x, right), rel=1e-12)  # else conjugate gradients stall
    assert np.vdot(left, x) > 0.0
    laplacian = grid.diagonal * x
    for axis, f in enumerate(faces):
        laplacian -= f * np.roll(x, 1, axis) + np.roll(f, -1, axis) * np.roll(x, -1, axis)
    assert np.allclose(grid.apply(x), laplacian, rtol=1e-13, atol=1e-11)
    solution, count = conjugate_gradients(grid, b, np.zeros(shape), 1e-10)
    assert 0 < count < 15
    assert np.linalg.norm(grid.apply(solution) - b) <= 1.1e-10 * np.linalg.norm(b)


@pytest.mark.parametrize("contrast", [1.0, 1e6])
def test_iterations_stay_flat_as_the_grid_refines(contrast):
    counts = []
    for n in (32, 64, 128):
        x = (np.arange(n) + 0.5) / n
        D = contrast ** (0.5 * np.sin(2 * np.pi * x)[:, None] * np.cos(2 * np.pi * x))
        a = 10.0 * n * n
        faces = []
        for axis in (0, 1):
            back = np.roll(D, 1, axis)
            f = a * 2 * D * back / (D + back)
            f[(slice(None),) * axis + (0,)] = 0.0
            faces.append(f)
        grid = Multigrid(faces, np.ones((n, n)), [np.zeros((n, n))] * 2)
        b = np.random.default_rng(1).standard_normal((n, n))
        solution, count = conjugate_gradients(grid, b, np.zeros((n, n)), 1e-8)
        assert np.linalg.norm(b - grid.apply(solution)) <= 1.01e-8 * np.linalg.norm(b)
        counts.append(count)
    assert max(counts) <= 14
    assert counts[-1] <= counts[0] + 3


def jumps(n, axes=2):
    """Coefficients that jump from cell to cell by 10⁴, and the operator with them."""
    D = 10.0 ** (-4.0 * np.random.default_rng(3).integers(0, 2, (n,) * axes))
    grid = Grid(**dict.fromkeys("xyz"[:axes], (0.0, 1.0, n)))
    return Operator(split(discretise(PDE(grid, diffusivity=D, boundary={"x": Dirichlet(1.0)})), "tr_bdf2"), {})


def test_iterations_stay_flat_where_a_diffusivity_jumps_from_cell_to_cell():
    counts = []
    for n in (32, 64, 128):
        operator = jumps(n)
        A = matrix(operator.member(0), operator.shape, 1, 10.0)
        b = np.random.default_rng(1).standard_normal(n * n)
        x, count = Aggregation(A, True).solve(b, np.zeros_like(b), 1e-8)
        assert np.linalg.norm(A @ x - b) <= 1.01e-8 * np.linalg.norm(b)
        counts.append(count)
    assert 0 < max(counts) <= 18
    assert counts[-1] <= counts[0] + 4


def test_a_diffusivity_that_jumps_from_cell_to_cell_goes_to_algebraic_multigrid():
    n = 64
    D = 10.0 ** (6.0 * np.random.default_rng(3).integers(0, 2, (n, n)) - 3.0)
    model = PDE(Grid(x=(0.0, 1.0, n), y=(0.0, 1.0, n)), diffusivity=D, boundary={"x": Dirichlet(1.0)})
    states, status, notes = solve(model, "tr_bdf2", np.zeros((1, 1, n, n)), [0.0, 1e3], 250.0)
    assert notes["solver"] == "algebraic multigrid"
    assert status[0] == 0
    assert np.all((states[-1] > -1e-6) & (states[-1] < 1 + 1e-6))


@pytest.mark.parametrize("change", [
    {"diffusivity": [[1.0, 0.6], [0.6, 2.0]], "boundary": {"x": Periodic(), "y": Periodic()}},  # nine points
    {"diffusivity": "0.01 + x*y", "velocity": {"x": "30*y", "y": -20.0}, "advection": "upwind"},  # not symmetric
], ids=["tensor", "transport"])  # fmt: skip
def test_algebraic_multigrid_solves_what_is_no_symmetric_five_point_matrix(change):
    model = PDE(Grid(x=(0.0, 1.0, 110), y=(0.0, 1.0, 100)), **change)
    operator = Operator(split(discretise(model, change.get("advection")), "tr_bdf2"), {})
    solver = Solver(operator, 0.05)
    r = np.random.default_rng(2).standard_normal((1, 1, 100, 110))
    x = solver.solve(r, np.zeros_like(r), np.full(1, 1e-9))
    assert np.linalg.norm(x - 0.05 * operator.apply(x) - r) < 1.1e-9 * np.linalg.norm(r)
    assert solver.names == ["algebraic multigrid"]
    assert solver.iterations < 40


def test_algebraic_multigrid_in_three_dimensions():
    operator = jumps(16, axes=3)
    solver = Solver(operator, 1.0)
    r = np.random.default_rng(2).standard_normal((1, 1, 16, 16, 16))
    solver.parts[0].stalled.add(0)
    x = solver.solve(r, np.zeros_like(r), np.full(1, 1e-9))
    assert np.linalg.norm(x - operator.apply(x) - r) < 1.1e-9 * np.linalg.norm(r)
    assert solver.iterations < 20


# --- laws


@pytest.mark.parametrize("edge", [Periodic(), Neumann()], ids=["periodic", "no flux"])
@pytest.mark.parametrize("method", ALL)
def test_the_total_is_kept_to_rounding(method, edge):
    grid = Grid(x=(0.0, 1.0, 20), y=(0.0, 1.0, 16))
    model = PDE(grid, diffusivity="1 + 100*x*(1 - x)*y*(1 - y)", boundary={"x": edge, "y": edge})
    u = np.random.default_rng(0).random((1, 2, 16, 20))
    states = solve(model, method, u, [0.0, 0.01, 0.3], 0.01)[0]
    assert np.abs(states[1:, 0].mean(axis=(-2, -1)) - u[0].mean(axis=(-2, -1))).max() < 3e-14


def test_a_jump_does_not_ring_after_the_start_of_rannacher():
    grid = Grid(x=(0.0, 1.0, 200))
    u = (grid.coordinates["x"] < 0.5).astype(float)[None, None]
    for method in ("crank_nicolson", "tr_bdf2", "backward_euler"):
        states = solve(PDE(grid, diffusivity=1.0), method, u, [0.0, 0.05], 0.005)[0][-1]
        assert np.all(np.diff(states[0, 0]) < 1e-9), method


def test_stationary_variance_of_each_mode_and_its_time_step_bias():
    # z = λh/2: backward Euler has 1/(1 + z) times σ²/2λ, Crank–Nicolson just that, at steps far beyond the explicit
    n, members, h = 8, 300, 0.05
    grid = Grid(x=(0.0, 1.0, n))
    model = PDE(grid, diffusivity=1.0, boundary={"x": Dirichlet(0.0)}, noise=WhiteNoise(1.0))
    k = np.arange(1, n + 1)
    modes = np.sin(np.pi * np.outer(k, np.arange(n) + 0.5) / n)
    modes /= np.sqrt((modes**2).sum(axis=1))[:, None]
    rate = 4 * n * n * np.sin(np.pi * k / (2 * n)) ** 2
    times = [0.0, *(0.6 + 0.4 * np.arange(60))]
    for method, bias, factor in (("backward_euler", 1 / (1 + rate * h / 2), 1 / (1 + rate * h)),
                                 ("crank_nicolson", np.ones(n), (1 - rate * h / 2) / (1 + rate * h / 2))):
        states = solve(model, method, np.zeros((1, members, n)), times, h, seed=5)[0]
        values = ((states[1:, 0] @ modes.T) ** 2).mean(axis=(0, 1)) / (n / (2 * rate) * bias)
        again = factor ** (2 * 8)  # correlation of squares 0.4 = 8 steps apart
        error = np.sqrt(2.0 / (members * 60) * (1 + again) / (1 - again))
        assert np.all(np.abs(values - 1.0) < 4.5 * error), (method, values)


def test_members_are_the_same_bits_in_any_blocks():
    grid = Grid(x=(0.0, 1.0, 12), y=(0.0, 1.0, 10))
    model = PDE(grid, diffusivity="k + x", noise=WhiteNoise(0.1), parameters={"k": 1.0})
    u = np.random.default_rng(0).random((1, 4, 10, 12))
    k = np.array([1.0, 2.0, 3.0, 4.0])
    whole = stencil_run(model, "backward_euler", u, {"k": k}, [0.0, 0.1], 0.02, members=np.arange(4), threads=2)[0]
    part = stencil_run(model, "backward_euler", u[:, 2:3], {"k": k[2:3]}, [0.0, 0.1], 0.02, members=[2])[0]
    assert np.array_equal(whole[:, :, 2:3], part)


def test_a_member_that_blows_up_is_marked_alone():
    model = PDE(Grid(x=(0.0, 1.0, 8), y=(0.0, 1.0, 8)), diffusivity="1 + x", reaction="k*u**3", parameters={"k": 0.0})
    states, status, _ = stencil_run(model, "ars232", np.ones((1, 2, 8, 8)), {"k": np.array([1e4, 0.0])}, [0.0, 1.0],
                                    0.05, members=[0, 1])
    assert list(status) == [1, 0]
    assert np.allclose(states[-1, 0, 1], 1.0)
