"""Every field equation of the catalogue has an entry in the gallery, which runs; every kind of picture is drawn."""

import importlib.util
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest

from sdesim import equations

PATH = Path(__file__).parents[2] / "examples" / "gallery.py"
SPEC = importlib.util.spec_from_file_location("gallery", PATH)
gallery = importlib.util.module_from_spec(SPEC)
sys.modules["gallery"] = gallery
SPEC.loader.exec_module(gallery)
FIELDS = [name for name in equations.__all__ if "grid" in inspect.signature(getattr(equations, name)).parameters]
tiny = gallery.Catalogue(coarse=8, short=0.02)


def test_every_field_equation_has_a_picture():
    assert len(FIELDS) >= 30
    lacking = [name for name in FIELDS if not any(entry.startswith(name) for entry in gallery.NAMES)]
    assert not lacking


@pytest.mark.filterwarnings("ignore::sdesim.AccuracyWarning")
@pytest.mark.parametrize("name", gallery.NAMES)
def test_an_entry_runs(name):
    entry, ds = tiny.run(name)
    assert not ds.status.values.any()
    assert entry.shown in ds
    values = ds[entry.shown].values
    assert np.ptp(values[np.isfinite(values)]) > 0.0


@pytest.mark.filterwarnings("ignore::sdesim.AccuracyWarning")
def test_a_page_of_every_kind_of_picture(tmp_path):
    names = ("heat_around_pipes", "stefan", "sir", "stochastic_heat", "darcy", "tracer_on_sphere", "gray_scott_the_well")
    assert {getattr(tiny, name)().draw for name in names} == {getattr(tiny, name)().draw for name in gallery.NAMES}
    page = gallery.main(tmp_path, names, tiny)
    assert page.read_text().count("<img") == len(names)
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in names)
    with pytest.raises(ValueError, match="there is no entry 'stephan'; there are heat"):
        gallery.main(tmp_path, ["stephan"])
