"""The commands on tiny inputs: each leaves the files it names, and a mistake is one line."""

import numpy as np
import pytest
import xarray as xr

import sdesim as sim
from sdesim.cli import main
from surrogates import demo


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "ensemble.nc"
    sim.save(demo.ensemble(48, seed=0, cells=8, progress=False), path)
    return path


def test_train_sample_evaluate_follow_each_other(ensemble, tmp_path, capsys):
    model, made, scores = tmp_path / "m.surrogate", tmp_path / "made.nc", tmp_path / "scores.nc"
    train = ["train", str(ensemble), "-o", str(model), "--condition", "diffusivity", "--variables", "u", "--steps", "2"]
    assert main(train) == 0
    assert main(["sample", str(model), "-o", str(made), "--members", "12", "--condition", "diffusivity=0.002"]) == 0
    drawn = sim.open(made)
    assert drawn.sizes["member"] == 12
    np.testing.assert_allclose(drawn.diffusivity, 0.002)
    page = tmp_path / "page.html"
    assert main(["evaluate", str(ensemble), str(made), "-o", str(scores), "--report", str(page)]) == 0
    assert float(xr.load_dataset(scores).energy_score.sel(source="surrogate")) > 0
    assert page.is_file()
    said = capsys.readouterr().out
    for path in (model, made, scores, page):
        assert str(path) in said


def test_the_demo_writes_what_it_says_it_writes(tmp_path, capsys):
    outcome = demo.run(tmp_path / "demo", members=80, held=16, draws=2, cells=8, fit={"steps": 3}, progress=False)
    said = capsys.readouterr().out
    for name in ("ensemble.nc", "held_out.nc", "model.surrogate", "synthetic.nc", "scores.nc", "report.html"):
        assert (tmp_path / "demo" / name).is_file()
        assert str(tmp_path / "demo" / name) in said
    held, made = sim.open(tmp_path / "demo" / "held_out.nc"), sim.open(tmp_path / "demo" / "synthetic.nc")
    assert made.u.dims == held.u.dims
    assert made.u.attrs == held.u.attrs
    for axis in ("x", "y"):
        assert made[axis].identical(held[axis])
    np.testing.assert_array_equal(made.diffusivity, np.tile(held.diffusivity, 2))
    assert outcome.scores.attrs["conditional"] == 1


@pytest.mark.parametrize("arguments, words", [
    (["train", "nowhere.nc", "-o", "m.surrogate"], "nowhere.nc"),
    (["sample", "nowhere.surrogate", "-o", "s.nc"], "nowhere.surrogate"),
    (["sample", "m", "-o", "s.nc", "--condition", "D"], "NAME=VALUE"),
    (["evaluate", "a.nc", "b.nc"], "a.nc"),
    (["train", "a.nc", "-o", "m", "--steps", "2", "--seconds", "3"], "not allowed with"),
])  # fmt: skip
def test_a_mistake_is_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
