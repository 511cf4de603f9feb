"""Gray–Scott patterns: a law that no Gaussian field resembles, learned and drawn (about ten minutes on two cores).

    ∂u/∂t = D_u ∇²u + F(1 − u) − u v²,   ∂v/∂t = D_v ∇²v + u v² − (F + k) v,   periodic

    python examples/reaction.py [folder]

Islands of v, placed where a Gaussian field is high, grow until stripes and their ends fill the square. Two fields of
equal spectrum can differ in everything the eye sees; the patches and the pixels say so.
"""

import sys
import warnings
from pathlib import Path

import numpy as np

import sdesim as sim
from surrogates.study import run, split_members
from surrogates.surrogate import Surrogate

CELLS, WIDTH, TIME = 32, 0.36, 3000.0


def ensemble(members: int, seed: int, *, progress: bool = True):
    grid = sim.Grid(x=(0.0, WIDTH, CELLS), y=(0.0, WIDTH, CELLS))
    model = sim.equations.gray_scott(grid, F=0.037, k=0.06, units={"x": "m", "y": "m", "time": "s"})
    seeds = sim.GaussianField(std=1.0, length=0.03).sample(grid, seed=seed, members=range(members)) > 0.8
    start = {"u": np.where(seeds, 0.5, 1.0), "v": np.where(seeds, 0.25, 0.0)}
    with warnings.catch_warnings():  # two cells to an edge of a stripe: coarse on purpose, for a network of minutes
        warnings.simplefilter("ignore", sim.AccuracyWarning)
        return sim.simulate(
            model, start, [TIME], members=members, method="rkl2", dt=2.0, seed=seed, dtype="float32", progress=progress
        )


def main(folder: Path, *, members: int = 2304, held: int = 256, draws: int = 3, fit: dict | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ds = ensemble(members, seed=0)
    files = {"ensemble": sim.save(ds, folder / "ensemble.nc")}
    training, held_out = split_members(ds, held)
    outcome = run(
        Surrogate(["v"]), training, held_out, folder, draws=draws, fit=fit or {"seconds": 420.0},
        fresh=lambda _, seed: ensemble(held * draws, seed, progress=False), floors=2,
        title="Gray–Scott patterns: synthetic fields beside the truth",
        facts={"equation": ds.attrs["equations"], "solver": ds.attrs["method_reason"],
               "members": f"{training.sizes['member']} for training, {held} held out"},
    )
    for what, where in (files | outcome.files).items():
        print(f"{what:18s} {where}")
    for name in ("patch_wasserstein", "pixel_qq"):
        score = outcome.scores[name]
        print(f"{name}: {float(score.sel(source='surrogate') / score.sel(source='gaussian')):.3f} of the Gaussian's")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "gray-scott"))
