"""A picture of every field equation of the catalogue, and one page of them all (about a minute on two cores).

    python examples/gallery.py [folder] [name …]

Each entry is a model, a start, save times, options of `simulate` and what to draw: "image" is the last field,
"panels" that of every member, "lines" are profiles at the save times, "waterfall" shows one axis against time.
"""

import sys
import warnings
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import sdesim as sim
from sdesim import equations as eq
from sdesim.equations.patterns import PEARSON, THE_WELL

LOOP = {"x": sim.Periodic(), "y": sim.Periodic()}
COLD = {"x": sim.Dirichlet(0.0), "y": sim.Dirichlet(0.0)}


class Entry(NamedTuple):
    model: Any
    start: Any
    times: Any
    draw: str
    shown: str
    options: dict[str, Any] = {}
    labels: tuple[str, ...] = ()


class Catalogue:
    """The entries by name, on cells `coarse` times as wide, over a time `short` times as long."""

    def __init__(self, coarse: int = 1, short: float = 1.0) -> None:
        self.coarse, self.short = coarse, short

    def line(self, length, cells, lo=0.0):
        return sim.Grid(x=(lo, lo + length, max(8, cells // self.coarse)))

    def square(self, side, cells, **more):
        axis = (0.0, side, max(8, cells // self.coarse))
        return sim.Grid(x=axis, y=axis, **more)

    def run(self, name: str) -> tuple[Entry, Any]:
        """One entry and its Dataset."""
        entry = getattr(self, name)()
        if entry.draw == "heads":
            return entry, sim.steady(entry.model, seed=1, **entry.options)
        times = np.asarray(entry.times) * self.short
        return entry, sim.simulate(entry.model, entry.start, times, seed=1, **entry.options)

    # ---- heat and mass

    def heat(self):
        return Entry(eq.heat(self.square(2.0, 96), 0.05, boundary=COLD), "where(abs(x - 1) + abs(y - 1) < 0.6, 1, 0)",
                     [0.1], "image", "u")

    def heat_around_pipes(self):
        """Two hot pipes in a cold square."""
        x, y = (self.square(1.0, 128).mesh[name] for name in "xy")
        mask = ((x - 0.3) ** 2 + (y - 0.35) ** 2 < 0.01) | ((x - 0.7) ** 2 + (y - 0.6) ** 2 < 0.02)
        grid = self.square(1.0, 128, mask=mask)
        return Entry(eq.heat(grid, 0.05, boundary={**COLD, "mask": sim.Dirichlet(1.0)}), 0.0, [0.3], "image", "u")

    def heat_in_an_annulus(self):
        grid = sim.RadialGrid(r=(1.0, 3.0, 100 // self.coarse), geometry="cylinder")
        return Entry(eq.heat(grid, boundary={"r": (sim.Dirichlet(1.0), sim.Dirichlet(0.0))}), 0.0,
                     [0.01, 0.1, 0.4, 3.0], "lines", "u", {"dt": 5e-4})

    def layered_heat(self):
        return Entry(eq.layered_heat(self.line(1.0, 128)), "where(x < 0.5, 1, 0)", [0.001, 0.01, 0.05], "lines", "u")

    def cooling_ball(self):
        grid = sim.RadialGrid(r=(0.0, 1.0, 100 // self.coarse))
        return Entry(eq.cooling_ball(grid, biot=4.0), 1.0, [0.01, 0.05, 0.15, 0.4], "lines", "u")

    def stochastic_heat(self):
        return Entry(eq.stochastic_heat(self.line(1.0, 128), boundary={"x": sim.Dirichlet(0.0)}), 0.0,
                     np.linspace(0.0, 0.1, 100), "waterfall", "u")

    def porous_medium(self):
        return Entry(eq.porous_medium(self.line(12.0, 200, -6.0)), "max(1 - x**2, 0)", [0.0, 1.0, 3.0, 8.0], "lines",
                     "u")

    def stefan(self):
        return Entry(eq.stefan(self.line(1.0, 200), solid_conductivity=2.0), -0.5, [0.01, 0.05, 0.15], "lines", "T")

    def diffusion_sorption(self):
        return Entry(eq.diffusion_sorption(self.line(1.0, 200)), {"c": 0.0}, [10.0, 50.0, 150.0, 500.0], "lines", "c")

    def darcy(self):
        return Entry(eq.darcy(self.square(1.0, 96)), 0.0, [0.0], "heads", "a")

    def plume(self):
        river = sim.Grid(x=(0.0, 4.0, 128 // self.coarse), y=(0.0, 2.0, 64 // self.coarse))
        edges = {"x": (sim.Dirichlet(0.0), sim.Neumann(0.0))}
        source = "exp(-((x - 0.5)**2 + (y - 1)**2)/0.005)"
        return Entry(eq.plume(river, {"x": 1.0}, 0.01, source=source, boundary=edges), 0.0, [3.0], "image", "c")

    def ogata_banks(self):
        return Entry(eq.ogata_banks(self.line(6.0, 120)), 0.0, [0.5, 1.5, 3.0], "lines", "c")

    def tracer_on_sphere(self):
        """A cosine bell that a tilted rotation carries over the pole (Williamson et al. 1992, case 1)."""
        grid = sim.SphereGrid(lat=64 // self.coarse, lon=128 // self.coarse)
        lat, lon = np.radians(grid.mesh["lat"]), np.radians(grid.mesh["lon"])
        distance = np.arccos(np.clip(np.cos(lat) * np.cos(lon - 1.5 * np.pi), -1.0, 1.0))
        start = np.where(distance < 0.4, 0.5 * (1.0 + np.cos(np.pi * distance / 0.4)), 0.0)
        return Entry(eq.tracer_on_sphere(grid, tilt=60.0), start, [0.0, 0.12, 0.24, 0.36], "globe", "c")

    # ---- fronts

    def fisher_kpp(self):
        return Entry(eq.fisher_kpp(self.line(80.0, 160)), "exp(-x**2)", [5.0, 10.0, 20.0, 30.0], "lines", "u")

    def nagumo(self):
        return Entry(eq.nagumo(self.line(80.0, 160)), "where(x < 10, 1, 0)", [10.0, 50.0, 100.0], "lines", "u")

    def combustion(self):
        return Entry(eq.combustion(self.line(40.0, 320)), "1/(1 + exp(3*(x - 5)))", [2.0, 12.0, 22.0], "lines", "theta",
                     {"dt": 0.02})

    def fitzhugh_nagumo(self):
        """A spiral: a broken front whose free end curls into the region that has recovered."""
        start = {"u": "where(x > 82 and x < 100 and y < 100, 1.9, -1.2)", "v": "where(x < 82 and y < 100, 0.6, -0.62)"}
        return Entry(eq.fitzhugh_nagumo(self.square(200.0, 192), epsilon=0.04), start, [300.0], "image", "u",
                     {"dt": 0.1, "method": "euler"})

    def fitzhugh_nagumo_pulse(self):
        return Entry(eq.fitzhugh_nagumo(self.line(150.0, 150)), {"u": "where(x < 10, 2, -1.2)", "v": -0.62},
                     np.linspace(0.0, 150.0, 120), "waterfall", "u", {"dt": 0.1})

    def sir(self):
        return Entry(eq.sir(self.line(100.0, 200)), {"S": 1.0, "I": "0.1*exp(-x**2)", "R": 0.0}, [30.0], "states", "I",
                     {"dt": 0.2})

    def lotka_volterra(self):
        return Entry(eq.lotka_volterra(self.line(60.0, 120)), {"u": "1 + 1.5*exp(-(x - 30)**2/20)", "v": 1.0},
                     np.linspace(0.0, 30.0, 100), "waterfall", "u", {"dt": 0.1})

    def keller_segel(self):
        grid = self.square(20.0, 96)
        return Entry(eq.keller_segel(grid, 8.0, capacity=4.0, boundary=LOOP), {"rho": 1 + ripple(grid), "c": 1.0},
                     [12.0], "image", "rho")

    # ---- patterns

    def regimes(self, table, side, time, dt):
        grid = self.square(side, 256)
        islands = sim.GaussianField(std=1.0, length=0.05 * side).sample(grid, seed=1, members=range(1))
        seeds = islands > np.array([[[-1.5 if name == "bubbles" else 0.8]] for name in table])
        start = {"u": np.where(seeds, 0.42, 1.0), "v": np.where(seeds, 0.37, 0.0)}
        F, k = (np.array(values) for values in zip(*table.values()))
        return Entry(eq.gray_scott(grid), start, [time], "panels", "v",
                     {"dt": dt, "method": "euler", "members": len(F), "parameters": {"F": F, "k": k}}, tuple(table))

    def gray_scott_pearson(self):
        return self.regimes(PEARSON, 2.5, 12000.0, 1.0)

    def gray_scott_the_well(self):
        return self.regimes(THE_WELL, 2.0, 6000.0, 0.5)

    def turing(self, build, side, mean, time, dt, **options):
        grid = self.square(side, 96)
        model = build(grid, **options)
        start = {name: u * (1 + ripple(grid, 0.02, seed=i)) for i, (name, u) in enumerate(zip(model.state, mean))}
        return Entry(model, start, [time], "image", model.state[0], {"dt": dt, "method": "etdrk4"})

    def brusselator(self):
        return self.turing(eq.brusselator, 64.0, (4.5, 7.5 / 4.5), 80.0, 0.03)

    def schnakenberg(self):
        return self.turing(eq.schnakenberg, 80.0, (1.0, 0.9), 150.0, 0.05)

    def gierer_meinhardt(self):
        return self.turing(eq.gierer_meinhardt, 60.0, (1.5, 1.5), 80.0, 0.05)

    def allen_cahn(self):
        grid = self.square(1.0, 128)
        return Entry(eq.allen_cahn(grid, 0.01, boundary=LOOP), ripple(grid, 0.3), [15.0], "image", "u", {"dt": 0.2})

    def cahn_hilliard(self):
        grid = self.square(100.0, 128)
        return Entry(eq.cahn_hilliard(grid), ripple(grid), [200.0], "image", "u", {"dt": 0.1})

    def swift_hohenberg(self):
        grid = self.square(100.0, 128)
        return Entry(eq.swift_hohenberg(grid), ripple(grid), [150.0], "image", "u", {"dt": 0.25})

    def phi4(self):
        return Entry(eq.phi4(self.square(100.0, 128), amplitude=0.6), 0.0, [30.0], "image", "phi", {"dt": 0.05})

    # ---- growth

    def burgers(self):
        return Entry(eq.burgers(self.line(2 * np.pi, 256), 0.03), "1 + sin(x)", [0.0, 1.0, 2.0], "lines", "u",
                     {"dt": 0.005})

    def edwards_wilkinson(self):
        return Entry(eq.edwards_wilkinson(self.line(200.0, 200)), 0.0, [1.0, 30.0, 300.0], "lines", "h")

    def kpz(self):
        return Entry(eq.kpz(self.line(200.0, 200), slope=1.5), 0.0, [5.0, 15.0, 30.0, 45.0], "lines", "h", {"dt": 0.02})

    def kuramoto_sivashinsky(self):
        return Entry(eq.kuramoto_sivashinsky(self.line(120.0, 192)), "cos(pi*x/60)*(1 + sin(pi*x/30))",
                     np.linspace(0.0, 180.0, 240), "waterfall", "u", {"dt": 0.1})


NAMES = tuple(name for name in vars(Catalogue) if name not in ("line", "square", "run", "regimes", "turing")
              and not name.startswith("_"))


def ripple(grid, size=0.05, seed=2):
    side = min(grid.lengths.values())
    return size * sim.GaussianField(std=1.0, length=side / 60).sample(grid, seed=seed, members=range(1))[0]


def globe(axes, field, lat0=25.0, lon0=300.0):
    """The largest value over the save times, seen from far above a point, with meridians and parallels."""
    def seen(lat, lon):
        lat, lon, tip = np.radians(lat), np.radians(lon - lon0), np.radians(lat0)
        depth = np.sin(tip) * np.sin(lat) + np.cos(tip) * np.cos(lat) * np.cos(lon)
        return np.cos(lat) * np.sin(lon), np.cos(tip) * np.sin(lat) - np.sin(tip) * np.cos(lat) * np.cos(lon), depth

    lat, lon = np.meshgrid(field.lat, np.append(field.lon, field.lon[0] + 360.0), indexing="ij")
    x, y, depth = seen(lat, lon)
    values = field.max("time").values
    values = np.where(depth > -0.05, np.append(values, values[:, :1], axis=1), np.nan)
    mesh = axes.pcolormesh(x, y, values, cmap="viridis", shading="gouraud")
    turn, rise = np.linspace(0.0, 360.0, 181), np.linspace(-90.0, 90.0, 91)
    lines = [(np.full(181, v), turn) for v in range(-60, 90, 30)] + [(rise, np.full(91, v)) for v in range(0, 360, 30)]
    for one in lines:
        x, y, depth = seen(*one)
        axes.plot(np.where(depth > 0, x, np.nan), y, color="white", linewidth=0.4, alpha=0.7)
    axes.plot(np.cos(np.radians(turn)), np.sin(np.radians(turn)), color="black", linewidth=0.8)
    axes.set(aspect="equal")
    axes.axis("off")
    return mesh


def profiles(axes, ds, entry):
    x = list(ds[entry.shown].dims)[-1]
    for name in entry.model.state if entry.draw == "states" else [entry.shown]:
        for moment in ds.time.values:
            label = f"{name}, t = {moment:g}" if entry.draw == "states" else f"t = {moment:g}"
            axes.plot(ds[x], ds[name].isel(member=0).sel(time=moment), label=label)
    axes.set(xlabel=x, ylabel="" if entry.draw == "states" else entry.shown)
    axes.margins(y=0.05)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def flat(axes, ds, entry):
    """One field over x and y or t; in the ground, the heads as contours over the conductivity's logarithm."""
    field = ds[entry.shown].isel(member=0)
    field = field if "time" not in field.dims or entry.draw == "waterfall" else field.isel(time=-1)
    up, across = field.dims
    signed = float(field.min()) < -0.2 * float(field.max())
    most = float(np.abs(field).max())
    mesh = axes.pcolormesh(ds[across], ds[up], field, cmap="RdBu_r" if signed else "viridis", shading="nearest",
                           vmin=-most if signed else None, vmax=most if signed else None)
    if entry.draw == "heads":
        axes.contour(ds.x, ds.y, ds.p.isel(member=0), levels=np.linspace(0.1, 0.9, 9), colors="black", linewidths=0.8)
    axes.set(xlabel=across, ylabel="t" if up == "time" else up, aspect="auto" if up == "time" else "equal")
    return mesh


def draw(path, name, entry, ds):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    title = name.replace("_", " ")
    if entry.draw == "panels":
        figure, panels = plt.subplots(2, len(entry.labels) // 2, layout="constrained",
                                      figsize=(1.6 * (len(entry.labels) // 2), 3.9))
        fields = ds[entry.shown].isel(time=-1)
        for axes, label, field in zip(panels.flat, entry.labels, fields, strict=True):
            axes.pcolormesh(ds.x, ds.y, field, cmap="viridis", shading="nearest", rasterized=True)
            axes.set(title=label, aspect="equal", xticks=[], yticks=[])
        side = entry.model.grid.lengths["x"]
        figure.suptitle(f"{title}, {entry.shown} at t = {float(ds.time[-1]):g}, side {side:g}")
    else:
        figure, axes = plt.subplots(figsize=(5.0, 3.4), layout="constrained")
        if entry.draw in ("lines", "states"):
            profiles(axes, ds, entry)
        else:
            mesh = globe(axes, ds[entry.shown].isel(member=0)) if entry.draw == "globe" else flat(axes, ds, entry)
            figure.colorbar(mesh, label=entry.shown)
        axes.set_title(f"{title}, t = {float(ds.time[-1]):g}" if entry.draw == "image" else title)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(folder: Path, only=(), catalogue: Catalogue | None = None) -> Path:
    unknown = [name for name in only if name not in NAMES]
    if unknown:
        raise ValueError(f"there is no entry {unknown[0]!r}; there are {', '.join(NAMES)}")
    folder.mkdir(parents=True, exist_ok=True)
    figures = []
    for name in only or NAMES:
        entry, ds = (catalogue or Catalogue()).run(name)
        if ds.status.values.any():
            raise RuntimeError(f"{name} did not stay finite: give a smaller dt")
        draw(folder / f"{name}.png", name, entry, ds)
        figures.append(f'<figure><img src="{name}.png" alt="{name}"><figcaption><pre>{escape(str(entry.model))}</pre>'
                       f"{escape(ds.attrs['method'])}</figcaption></figure>")
        print(name, ds.attrs["method"], flush=True)
    page = folder / "gallery.html"
    style = ("body{font-family:sans-serif}figure{display:inline-block;max-width:560px;vertical-align:top}"
             "pre{white-space:pre-wrap}")
    page.write_text(f'<!doctype html><meta charset="utf-8"><title>sdesim gallery</title><style>{style}</style>'
                    f"<h1>The catalogue in pictures</h1>{''.join(figures)}", encoding="utf-8")
    return page


if __name__ == "__main__":
    warnings.simplefilter("once")
    print(main(Path(sys.argv[1] if len(sys.argv) > 1 else "gallery"), sys.argv[2:]))
