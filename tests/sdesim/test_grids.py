"""A grid tells where its cells are, and refuses what is no grid."""

import numpy as np
import pytest

from sdesim.grids import Grid


def test_cells_tile_the_box():
    grid = Grid(x=(-1.0, 2.0, 6), y=(0.0, 0.5, 5), z=(3, 4, 2))
    assert grid.axes == ("z", "y", "x")
    assert grid.shape == (2, 5, 6)
    assert grid.size == 60
    assert grid.cell_volume * grid.size == pytest.approx(3.0 * 0.5 * 1.0, rel=1e-14)
    for name, centres in grid.coordinates.items():
        lo, hi, cells = grid.axis(name)
        faces = np.linspace(lo, hi, cells + 1)
        np.testing.assert_allclose(centres, 0.5 * (faces[1:] + faces[:-1]), rtol=1e-14)
    assert np.broadcast_shapes(*(x.shape for x in grid.mesh.values())) == grid.shape


def test_a_coarse_cell_is_centred_on_its_fine_cells():
    grid = Grid(x=(0.0, 1.0, 12), y=(0.0, 1.0, 6))
    coarse = grid.coarsen({"x": 3})
    assert coarse.shape == (6, 4)
    np.testing.assert_allclose(coarse.coordinates["x"], grid.coordinates["x"].reshape(4, 3).mean(axis=1), rtol=1e-14)
    with pytest.raises(ValueError, match="must divide its 6 cells"):
        grid.coarsen(5)


def test_description_round_trip_and_identity():
    grid = Grid(x=(0.0, 1.0, 8), z=(0.0, 2.0, 4))
    assert Grid.from_dict(grid.to_dict()) == grid
    assert hash(Grid.from_dict(grid.to_dict())) == hash(grid)
    assert grid != Grid(x=(0.0, 1.0, 8), y=(0.0, 2.0, 4))
    assert eval(repr(grid), {"Grid": Grid}) == grid
    with pytest.raises(AttributeError):
        grid.x = (0.0, 1.0, 9)


@pytest.mark.parametrize("axes, error, message", [
    ({"x": (0.0, 1.0, 1)}, ValueError, "at least two cells"),
    ({"x": (1.0, 0.0, 4)}, ValueError, "lo < hi"),
    ({"x": (0.0, 0.0, 4)}, ValueError, "lo < hi"),
    ({"x": (0.0, 1.0, 4.0)}, TypeError, "whole number of cells"),
    ({"x": (0.0, 1.0, True)}, TypeError, "whole number of cells"),
    ({"x": (0.0, float("inf"), 4)}, ValueError, "finite"),
    ({"x": ("a", 1.0, 4)}, TypeError, "numbers"),
    ({"x": (0.0, 4)}, TypeError, r"\(lo, hi, cells\)"),
    ({"r": (0.0, 1.0, 4)}, TypeError, "got r"),
    ({}, ValueError, "at least one axis"),
])
def test_what_is_no_grid(axes, error, message):
    with pytest.raises(error, match=message):
        Grid(**axes)


def test_an_axis_that_is_not_there():
    with pytest.raises(KeyError, match="has the axes x"):
        Grid(x=(0, 1, 4)).axis("y")
