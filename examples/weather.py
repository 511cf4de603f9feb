"""Real weather: hourly ERA5 2 m temperature over the British Isles, one month (about six minutes on two cores).

    python examples/weather.py era5_t2m.nc [folder]

Four blocks of days are held out, a day beside each is used for nothing, so that no held-out hour has a neighbour in
training. There is no solver to ask for fresh truth; the training days themselves stand where the floor would, as truth
from other weather. A month is little data: the page says by held-out denoising whether the network or the Gaussian is
the better model, and the surrogate draws from that one.
"""

import sys
from pathlib import Path

import xarray as xr

from surrogates.study import run, split_times
from surrogates.surrogate import Surrogate

DAY = 24


def main(path: Path, folder: Path, *, draws: int = 3, fit: dict | None = None) -> None:
    ds = xr.load_dataset(path).sortby("latitude")
    training, held_out = split_times(ds[["t2m"]], fraction=0.25, blocks=4, gap=DAY)
    outcome = run(
        Surrogate(["t2m"]), training, held_out, folder, draws=draws, fit=fit or {"seconds": 240.0}, block=DAY,
        others={"training": training}, labels={"truth": "held-out days", "training": "training days"},
        title="2 m temperature over the British Isles, March 2019: synthetic fields beside the truth",
        facts={"source": str(ds.attrs.get("source", path.name)), "references": str(ds.attrs.get("references", "")),
               "hours": f"{training.sizes['time']} for training, {held_out.sizes['time']} held out in 4 blocks"},
    )
    print(outcome.model.verdict_)
    for what, where in outcome.files.items():
        print(f"{what:18s} {where}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python examples/weather.py ERA5.nc [folder]")
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "weather"))
