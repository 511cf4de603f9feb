"""The examples run at a size of seconds, from the folder where a user finds them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_gray_scott_patterns_are_far_from_the_gaussian_of_their_spectrum(tmp_path, capsys):
    example("reaction").main(tmp_path, members=60, held=24, draws=1, fit={"steps": 2})
    scores = xr.load_dataset(tmp_path / "scores.nc")
    for name in ("patch_wasserstein", "pixel_qq"):
        assert scores[name].sel(source="fresh") < 0.5 * scores[name].sel(source="gaussian")
    assert (tmp_path / "report.html").is_file()
    assert "of the Gaussian's" in capsys.readouterr().out


def test_weather_reads_a_file_with_descending_latitude_and_names_the_better_model(tmp_path, capsys):
    rng = np.random.default_rng(0)
    shape = (400, 9, 12)
    white = rng.normal(size=shape)
    red = sum(np.roll(white, (0, i, j), (0, 1, 2)) for i in range(3) for j in range(3))
    coords = {
        "time": np.datetime64("2019-03-01", "ns") + np.arange(400) * np.timedelta64(1, "h"),
        "latitude": ("latitude", np.linspace(58, 50, 9), {"units": "degrees_north"}),
        "longitude": ("longitude", np.linspace(-10, 2, 12), {"units": "degrees_east"}),
    }
    field = (("time", "latitude", "longitude"), (280 + red).astype("f4"), {"units": "K"})
    path = tmp_path / "era5.nc"
    xr.Dataset({"t2m": field}, coords).to_netcdf(path)
    example("weather").main(path, tmp_path / "out", draws=1, fit={"steps": 2})
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Gaussian serves: on held-out denoising the network" in page  # two steps teach no network
    assert "training days" in page
    made = xr.load_dataset(tmp_path / "out" / "synthetic.nc")
    assert made.latitude.values[0] < made.latitude.values[-1]
    assert "verdict" in xr.load_dataset(tmp_path / "out" / "scores.nc").attrs


def test_weather_wants_a_file():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.nc"):
        example("weather").main(Path("nowhere.nc"), Path("out"))
