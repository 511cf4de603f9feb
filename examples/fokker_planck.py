"""Particles and their density check each other (a few seconds).

    dx = (x − x³) dt + √(2D(x)) ∘ dW,   D(x) = 0.15 (1 + ½ sin 2x),   Stratonovich

    python examples/fokker_planck.py [folder]

One model, two ways: paths, and the PDE of their density that `sim.fokker_planck` derives from the same expressions,
drift correction included. The counts in each bin differ from those expected by their sampling error, no more.
"""

import sys
from pathlib import Path

import numpy as np
from scipy import stats

import sdesim as sim

TIMES = [0.25, 1.0, 4.0, 16.0]


def model() -> sim.SDE:
    return sim.SDE(
        {"x": "x - x**3"},
        {"x": "sqrt(2*D*(1 + sin(2*x)/2))"},
        parameters={"D": 0.15},
        interpretation="stratonovich",
    )


def solve(members: int, *, bins: int = 48, cells_per_bin: int = 8, seed: int = 0, dt: float = 0.002):
    """(bin centres, counts, expected counts), the latter two of shape (time, bin)."""
    sde, lo, hi = model(), -2.1, 2.1
    paths = sim.simulate(sde, {"x": stats.norm(-0.4, 0.2)}, TIMES, members=members, dt=dt, seed=seed)
    edges = np.linspace(lo, hi, bins + 1)
    counts = np.array([np.histogram(paths.x.values[:, i], edges)[0] for i in range(len(TIMES))])
    grid = sim.Grid(x=(lo, hi, bins * cells_per_bin))
    density = sim.simulate(sim.fokker_planck(sde, grid), "exp(-((x + 0.4)/0.2)**2/2)/(0.2*sqrt(2*pi))", TIMES)
    share = density.p.values[0].reshape(len(TIMES), bins, cells_per_bin).sum(axis=2) * grid.spacing["x"]
    return (edges[1:] + edges[:-1]) / 2, counts, share * members


def chi_squared(counts, expected) -> list[tuple[float, int, float]]:
    """(χ², degrees of freedom, p-value) at each time, over bins where at least ten were expected."""
    found = []
    for n, m in zip(counts, expected, strict=True):
        full = m >= 10
        n, m = [np.append(v[full], v[~full].sum()) for v in (n, m)]
        n, m = (n, m) if m[-1] >= 10 else (n[:-1], m[:-1])
        value = float(np.sum((n - m) ** 2 / m))
        found.append((value, len(n) - 1, float(stats.chi2(len(n) - 1).sf(value))))
    return found


def picture(path: Path, x, counts, expected, tests) -> Path:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    width, members = x[1] - x[0], expected[0].sum()
    fig, axes = plt.subplots(2, len(TIMES), figsize=(12, 4.6), sharex=True, sharey="row", height_ratios=(2, 1),
                             layout="constrained")  # fmt: skip
    for i, (time, (value, freedom, p)) in enumerate(zip(TIMES, tests, strict=True)):
        top, low = axes[:, i]
        top.bar(x, counts[i] / members / width, width, color="#b8cfe5", label=f"{members:,.0f} particles")
        top.plot(x, expected[i] / members / width, color="#c03a2b", lw=1.5, label="Fokker–Planck")
        top.set_title(f"t = {time:g}")
        full = expected[i] >= 10
        low.axhspan(-2, 2, color="#eeeeee")
        low.plot(x[full], ((counts[i] - expected[i]) / np.sqrt(expected[i].clip(1)))[full], ".", ms=4, color="#33506b")
        low.set(xlabel="x", ylim=(-5, 5), title=f"χ² = {value:.0f} for {freedom},  p = {p:.2f}")
        low.title.set_fontsize(9)
    axes[0, 0].set_ylabel("density")
    axes[1, 0].set_ylabel("(count − expected)\n/ √expected")
    axes[0, 0].legend(frameon=False, fontsize=8, loc="upper right")
    fig.savefig(path, dpi=130)
    plt.close(fig)
    return path


def main(folder: Path, members: int = 200_000) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    x, counts, expected = solve(members)
    tests = chi_squared(counts, expected)
    print(sim.fokker_planck(model(), sim.Grid(x=(-2.1, 2.1, 384))))
    for time, (value, freedom, p) in zip(TIMES, tests, strict=True):
        print(f"t = {time:5g}: χ² = {value:6.1f} for {freedom} degrees of freedom, p = {p:.3f}")
    print(picture(folder / "fokker_planck.png", x, counts, expected, tests))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "fokker_planck"))
