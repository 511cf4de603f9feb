"""Transforms diagonalise the Laplacian of their boundary kind, keep the norm, and undo themselves."""

import itertools

import numpy as np
import pytest

from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin, ghost_coefficients, normalise
from sdesim.grids import Grid
from sdesim.spectral import KINDS, Transform, transform_for

CONDITIONS = {
    "periodic": (Periodic(), Periodic()), "neumann": (Neumann(), Neumann()), "dirichlet": (Dirichlet(), Dirichlet()),
    "dirichlet-neumann": (Dirichlet(), Neumann()), "neumann-dirichlet": (Neumann(), Dirichlet()),
}
GRIDS = [Grid(x=(0.0, 1.3, n)) for n in (2, 7, 16)]
KINDS_2D = list(itertools.product(KINDS, KINDS))


def laplacian(u, kind, h):
    """Second difference along the last axis with ghost cells: the finite-volume operator, written another way."""
    low, high = (normalise({"x": CONDITIONS[kind]}, ("x",), ("u",), ())["u"]["x"])
    if kind == "periodic":
        before, after = u[..., -1:], u[..., :1]
    else:
        (A0, B0), (A1, B1) = (ghost_coefficients(side, h, {}) for side in (low, high))
        before, after = A0 + B0 * u[..., :1], A1 + B1 * u[..., -1:]
    padded = np.concatenate([before, u, after], axis=-1)
    return (padded[..., 2:] - 2 * u + padded[..., :-2]) / h**2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", GRIDS)
def test_finite_volume_eigenvalues(kind, grid):
    """Multiplying the modes by −(4/Δ²) sin²(kΔ/2) is the finite-volume Laplacian."""
    u = np.random.default_rng(0).standard_normal((3, *grid.shape))
    transform = Transform(grid, (kind,))
    by_modes = transform.inverse(-transform.laplacian("finite-volume")["x"] * transform.forward(u))
    np.testing.assert_allclose(by_modes, laplacian(u, kind, grid.spacing["x"]), rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("kind, function, k2", [
    ("periodic", lambda s: np.cos(4 * np.pi * s), (4 * np.pi) ** 2),
    ("neumann", lambda s: np.cos(3 * np.pi * s), (3 * np.pi) ** 2),
    ("dirichlet", lambda s: np.sin(3 * np.pi * s), (3 * np.pi) ** 2),
    ("dirichlet-neumann", lambda s: np.sin(2.5 * np.pi * s), (2.5 * np.pi) ** 2),
    ("neumann-dirichlet", lambda s: np.cos(2.5 * np.pi * s), (2.5 * np.pi) ** 2),
])
def test_continuous_eigenvalues(kind, function, k2):
    """The eigenfunctions of the interval have −u″ = k² u: (nπ/L)² and its kin."""
    length = 1.7
    grid = Grid(x=(0.4, 0.4 + length, 24))
    u = function((grid.coordinates["x"] - 0.4) / length)
    transform = Transform(grid, (kind,))
    modes = transform.forward(u)
    np.testing.assert_allclose(transform.inverse(transform.laplacian()["x"] * modes), k2 / length**2 * u, atol=1e-10)
    assert np.sum(np.abs(modes) > 1e-10) == (2 if kind == "periodic" else 1)  # re and im, or one real mode


@pytest.mark.parametrize("shape", [(6, 5), (5, 8)])
@pytest.mark.parametrize("kinds", KINDS_2D)
def test_parseval_and_inverse(kinds, shape):
    grid = Grid(x=(0.0, 1.0, shape[1]), y=(0.0, 2.0, shape[0]))
    u = np.random.default_rng(1).standard_normal((2, *shape))
    transform = Transform(grid, kinds)
    modes = transform.forward(u)
    assert modes.shape == (2, *transform.modal_shape) and modes.dtype == np.float64
    np.testing.assert_allclose(np.sum(transform.weights * modes**2, axis=(1, 2)), np.sum(u**2, axis=(1, 2)), rtol=1e-13)
    np.testing.assert_allclose(transform.inverse(modes), u, atol=1e-13)


def test_three_dimensions():
    grid = Grid(x=(0, 1, 4), y=(0, 1, 6), z=(0, 1, 5))
    transform = Transform(grid, ("periodic", "dirichlet", "periodic"))
    u = np.random.default_rng(2).standard_normal(grid.shape)
    np.testing.assert_allclose(transform.inverse(transform.forward(u)), u, atol=1e-13)
    mesh = grid.mesh
    v = np.cos(2 * np.pi * mesh["z"]) * np.sin(2 * np.pi * mesh["y"]) * np.sin(2 * np.pi * mesh["x"])
    k2 = sum(transform.laplacian().values())
    np.testing.assert_allclose(transform.inverse(k2 * transform.forward(v)), 12 * np.pi**2 * v, atol=1e-9)


@pytest.mark.parametrize("kinds", [("periodic", "neumann"), ("periodic", "periodic"), ("dirichlet", "neumann")])
def test_a_member_does_not_depend_on_its_neighbours(kinds):
    """The transform of one member alone has the bits that it has among others: blocks may be cut anywhere."""
    grid = Grid(x=(0, 1, 21), y=(0, 1, 13))
    u = np.random.default_rng(3).standard_normal((9, *grid.shape))
    transform = Transform(grid, kinds)
    modes = transform.forward(u)
    back = transform.inverse(modes)
    for cut in (slice(0, 1), slice(4, 5), slice(2, 9)):
        assert np.array_equal(transform.forward(u[cut].copy()), modes[cut])
        assert np.array_equal(transform.inverse(modes[cut].copy()), back[cut])


def test_conditions_that_have_no_transform():
    grid = Grid(x=(0, 1, 8))
    for sides in ((Robin(1, 1, 0), Neumann()), (Dirichlet(1), Robin(1, 2, 3))):
        normal = normalise({"x": sides}, ("x",), ("u",), ())["u"]
        with pytest.raises(ValueError, match="choose a finite-volume method"):
            transform_for(grid, normal)
    with pytest.raises(ValueError, match="one kind for each"):
        Transform(grid, ("periodic", "periodic"))
    with pytest.raises(ValueError, match="scheme"):
        Transform(grid, ("periodic",)).laplacian("fourier")
