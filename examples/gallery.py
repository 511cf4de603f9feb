"""A picture of every field equation of the catalogue, and one page of them all (about two minutes on one core).

    python examples/gallery.py [folder] [name …]

Each entry is a grid, a start and save times: images are the last field, lines are profiles at the save times, and
"waterfall" shows one axis against time.
"""

import sys
from html import escape
from pathlib import Path

import numpy as np

import sdesim as sim
from sdesim import equations as eq

LOOP = sim.Periodic()


def line(length, cells, lo=0.0):
    return sim.Grid(x=(lo, lo + length, cells))


def square(side, cells):
    return sim.Grid(x=(0.0, side, cells), y=(0.0, side, cells))


def grains(grid, level=1.2, length=0.06, seed=1):
    """Islands where a smooth random field is high."""
    return sim.GaussianField(std=1.0, length=length).sample(grid, seed=seed, members=range(1))[0] > level


def ripple(grid, size=0.05, seed=2):
    side = min(grid.lengths.values())
    return size * sim.GaussianField(std=1.0, length=side / 60).sample(grid, seed=seed, members=range(1))[0]


def regime(name):
    grid = square(1.0, 64)
    seeds = grains(grid)
    start = {"u": np.where(seeds, 0.5, 1.0), "v": np.where(seeds, 0.25, 0.0)}
    return eq.gray_scott(grid, pattern=name), start, [4000.0], {"dt": 2.0, "method": "rkl2"}, "image", "v"


def turing(build, side, mean, time, dt, cells=64, **options):
    grid = square(side, cells)
    model = build(grid, **options)
    start = {name: value * (1 + ripple(grid, 0.02, seed=i)) for i, (name, value) in enumerate(zip(model.state, mean))}
    return model, start, [time], {"dt": dt, "method": "etdrk4"}, "image", model.state[0]


def pulse():
    start = {"u": "where(x < 10, 2, -1.2)", "v": -0.62}
    return eq.fitzhugh_nagumo(line(150.0, 150)), start, np.linspace(0.0, 150.0, 120), {"dt": 0.1}, "waterfall", "u"


def bell():
    """A cosine bell that a tilted rotation carries over the pole, at four moments (Williamson et al. 1992, case 1)."""
    grid = sim.SphereGrid(lat=64, lon=128)
    lat, lon = np.radians(grid.mesh["lat"]), np.radians(grid.mesh["lon"])
    distance = np.arccos(np.clip(np.cos(lat) * np.cos(lon - 1.5 * np.pi), -1.0, 1.0))
    start = np.where(distance < 0.4, 0.5 * (1.0 + np.cos(np.pi * distance / 0.4)), 0.0)
    model = eq.tracer_on_sphere(grid, tilt=60.0)
    return model, start, [0.0, 0.12, 0.24, 0.36], {}, "globe", "c"


def pipes():
    """Two hot pipes in a cold square."""
    grid = square(1.0, 96)
    x, y = grid.mesh["x"], grid.mesh["y"]
    mask = ((x - 0.3) ** 2 + (y - 0.35) ** 2 < 0.01) | ((x - 0.7) ** 2 + (y - 0.6) ** 2 < 0.02)
    grid = sim.Grid(x=(0.0, 1.0, 96), y=(0.0, 1.0, 96), mask=mask)
    edges = {"x": sim.Dirichlet(0.0), "y": sim.Dirichlet(0.0), "mask": sim.Dirichlet(1.0)}
    return eq.heat(grid, 0.05, boundary=edges), 0.0, [0.3], {}, "image", "u"


def cases():
    wide = square(60.0, 64)
    porous = line(12.0, 200, -6.0)
    river = sim.Grid(x=(0.0, 4.0, 128), y=(0.0, 2.0, 64))
    cells = square(20.0, 64)
    yield "heat", (eq.heat(square(2.0, 48), 0.05, boundary={"x": sim.Dirichlet(0.0), "y": sim.Dirichlet(0.0)}),
                   "where(abs(x - 1) + abs(y - 1) < 0.6, 1, 0)", [0.3], {}, "image", "u")
    yield "layered_heat", (eq.layered_heat(line(1.0, 128)), "where(x < 0.5, 1, 0)", [0.001, 0.01, 0.05], {}, "lines",
                           "u")
    yield "cooling_ball", (eq.cooling_ball(sim.RadialGrid(r=(0.0, 1.0, 100)), biot=4.0), 1.0, [0.01, 0.05, 0.15, 0.4],
                           {}, "lines", "u")
    yield "annulus", (eq.heat(sim.RadialGrid(r=(1.0, 3.0, 100), geometry="cylinder"),
                              boundary={"r": (sim.Dirichlet(1.0), sim.Dirichlet(0.0))}), 0.0, [0.01, 0.1, 0.4, 3.0],
                      {"dt": 5e-4}, "lines", "u")
    yield "pipes", pipes()
    yield "tracer_on_sphere", bell()
    yield "stochastic_heat", (eq.stochastic_heat(line(1.0, 128), boundary={"x": sim.Dirichlet(0.0)}), 0.0,
                              np.linspace(0.0, 0.1, 100), {}, "waterfall", "u")
    yield "porous_medium", (eq.porous_medium(porous), "max(1 - x**2, 0)", [0.0, 1.0, 3.0, 8.0], {}, "lines", "u")
    yield "plume", (eq.plume(river, {"x": 1.0}, 0.01, source="exp(-((x - 0.5)**2 + (y - 1)**2)/0.005)",
                             boundary={"x": (sim.Dirichlet(0.0), sim.Neumann(0.0))}), 0.0, [3.0], {}, "image", "c")
    yield "ogata_banks", (eq.ogata_banks(line(6.0, 120)), 0.0, [0.5, 1.5, 3.0], {}, "lines", "c")
    yield "fisher_kpp", (eq.fisher_kpp(line(80.0, 160)), "exp(-x**2)", [5.0, 10.0, 20.0, 30.0], {}, "lines", "u")
    yield "nagumo", (eq.nagumo(line(80.0, 160)), "where(x < 10, 1, 0)", [10.0, 50.0, 100.0], {}, "lines", "u")
    yield "combustion", (eq.combustion(line(40.0, 320)), "1/(1 + exp(3*(x - 5)))", [2.0, 12.0, 22.0], {"dt": 0.02},
                         "lines", "theta")
    yield "fitzhugh_nagumo", pulse()
    yield "sir", (eq.sir(line(100.0, 200)), {"S": 1.0, "I": "0.1*exp(-x**2)", "R": 0.0}, [30.0], {"dt": 0.2}, "states",
                  "I")
    yield "lotka_volterra", (eq.lotka_volterra(line(60.0, 120)), {"u": "1 + 1.5*exp(-(x - 30)**2/20)", "v": 1.0},
                             np.linspace(0.0, 30.0, 100), {"dt": 0.1}, "waterfall", "u")
    yield "keller_segel", (eq.keller_segel(cells, 8.0, capacity=4.0, boundary={"x": LOOP, "y": LOOP}),
                           {"rho": 1 + ripple(cells), "c": 1.0}, [12.0], {}, "image", "rho")
    for name in ("gliders", "maze", "worms", "spirals", "spots"):
        yield f"gray_scott_{name}", regime(name)
    yield "brusselator", turing(eq.brusselator, 64.0, (4.5, 7.5 / 4.5), 80.0, 0.05)
    yield "schnakenberg", turing(eq.schnakenberg, 80.0, (1.0, 0.9), 150.0, 0.1)
    yield "gierer_meinhardt", turing(eq.gierer_meinhardt, 60.0, (1.5, 1.5), 80.0, 0.05)
    yield "allen_cahn", (eq.allen_cahn(square(1.0, 96), boundary={"x": LOOP, "y": LOOP}),
                         ripple(square(1.0, 96), 0.3), [25.0], {"dt": 0.2}, "image", "u")
    yield "cahn_hilliard", (eq.cahn_hilliard(wide), ripple(wide), [150.0], {"dt": 0.1}, "image", "u")
    yield "swift_hohenberg", (eq.swift_hohenberg(wide), ripple(wide), [100.0], {"dt": 0.25}, "image", "u")
    yield "phi4", (eq.phi4(wide, amplitude=0.6), 0.0, [40.0], {"dt": 0.05}, "image", "phi")
    yield "burgers", (eq.burgers(line(2 * np.pi, 256), 0.03), "1 + sin(x)", [0.0, 1.0, 2.0], {"dt": 0.005}, "lines",
                      "u")
    yield "edwards_wilkinson", (eq.edwards_wilkinson(line(200.0, 200)), 0.0, [1.0, 30.0, 300.0], {}, "lines", "h")
    yield "kpz", (eq.kpz(line(200.0, 200), slope=1.5), 0.0, [5.0, 15.0, 30.0, 45.0], {"dt": 0.02}, "lines", "h")
    yield "kuramoto_sivashinsky", (eq.kuramoto_sivashinsky(line(120.0, 192)), "cos(pi*x/60)*(1 + sin(pi*x/30))",
                                   np.linspace(0.0, 180.0, 240), {"dt": 0.1}, "waterfall", "u")


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


def draw(path, name, ds, kind, state):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4.2, 3.4), layout="constrained")
    field = ds[state].isel(member=0)
    if kind == "image" or kind == "waterfall":
        shown = field.isel(time=-1).transpose("y", "x") if kind == "image" else field.transpose("time", "x")
        across = shown.dims[0]
        mesh = axes.pcolormesh(ds.x, ds[across], shown, cmap="viridis", shading="nearest")
        axes.set(xlabel="x", ylabel=across, aspect="equal" if kind == "image" else "auto")
        figure.colorbar(mesh, label=state)
    elif kind == "globe":
        figure.colorbar(globe(axes, field), label=state)
    else:
        x = field.dims[-1]
        for other in ds.data_vars if kind == "states" else [state]:
            for moment in ds.time.values:
                if ds[other].dims[-1:] == (x,):
                    axes.plot(ds[x], ds[other].isel(member=0).sel(time=moment),
                              label=f"{other}, t = {moment:g}" if kind == "states" else f"t = {moment:g}")
        axes.set(xlabel=x, ylabel="" if kind == "states" else state)
        axes.legend(frameon=False, fontsize=8)
    axes.set_title(name.replace("_", " "))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(folder: Path, only=()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, (model, start, times, options, kind, state) in cases():
        if only and name not in only:
            continue
        ds = sim.simulate(model, start, times, seed=1, **options)
        if ds.status.values.any():
            raise RuntimeError(f"{name} did not stay finite: give a smaller dt")
        draw(folder / f"{name}.png", name, ds, kind, state)
        entries.append(f'<figure><img src="{name}.png" alt="{name}"><figcaption><pre>{escape(str(model))}</pre>'
                       f"{escape(ds.attrs['method'])}</figcaption></figure>")
        print(name, ds.attrs["method"], flush=True)
    page = folder / "gallery.html"
    style = ("body{font-family:sans-serif}figure{display:inline-block;width:480px;vertical-align:top}"
             "pre{white-space:pre-wrap}")
    page.write_text(f'<!doctype html><meta charset="utf-8"><title>sdesim gallery</title><style>{style}</style>'
                    f"<h1>The catalogue in pictures</h1>{''.join(entries)}", encoding="utf-8")
    return page


if __name__ == "__main__":
    print(main(Path(sys.argv[1] if len(sys.argv) > 1 else "gallery"), sys.argv[2:]))
