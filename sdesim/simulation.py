"""The one door to every solver: a model, an initial state and save times in; an `xarray.Dataset` out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdesim import provenance
from sdesim.boundaries import Absorbing
from sdesim.choice import Choice, choose
from sdesim.datasets import PROVENANCE, to_dataset
from sdesim.ensemble import available_threads, distributions, draw, member_numbers
from sdesim.initial import is_list, over_members, pde_initial, sde_initial
from sdesim.methods.bounded import ALIVE, bounded
from sdesim.models.pde import PDE
from sdesim.models.sde import SDE
from sdesim.spectral import kind_of
from sdesim.statistics import EnsembleStatistics

if TYPE_CHECKING:
    import xarray as xr

DEVICES = ("cpu", "cuda", "reference")
_GROUP_BYTES = 2**27


@dataclass(frozen=True)
class Run:
    """A validated call of `simulate`: everything that work needs, in final form.

    `clock` is `times` with the start in front; `skip` tells whether the start is not itself saved.
    """

    model: SDE | PDE
    numbers: NDArray[np.int64]
    parameters: dict[str, Any]
    initial: NDArray[np.float64]
    clock: NDArray[np.float64]
    skip: int
    choice: Choice
    seed: int
    dtype: str
    device: str
    record: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The states."""
        return self.model.states if isinstance(self.model, SDE) else tuple(self.model.state)

    @property
    def absorbs(self) -> bool:
        """Whether members can leave the model's bounds."""
        return isinstance(self.model, SDE) and any(isinstance(b, Absorbing) for b in self.model.bounds.values())

    @property
    def space(self) -> dict[str, NDArray[np.float64]]:
        """Cell centres by axis, in array order; empty for an SDE."""
        return {} if isinstance(self.model, SDE) else self.model.grid.coordinates

    def group(self, positions: slice, threads: int) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """States (time, state, member, *space) and status of the members at these positions.

        With bounds that are not sampled exactly the last state is the time of exit, below all times if there is none.
        """
        from sdesim import integrate, integrate_exact, integrate_field

        numbers = self.numbers[positions]
        own = {n: v[positions] if np.ndim(v) else v for n, v in self.parameters.items()}
        start = np.ascontiguousarray(self.initial[:, positions])
        backend = {"cpu": "kernel", "reference": "numpy", "cuda": "cuda"}[self.device]
        common: dict[str, Any] = {"seed": self.seed, "members": numbers, "backend": backend, "threads": threads}
        if isinstance(self.model, SDE):
            if self.choice.method.kind == "law":
                states = integrate_exact.sample(self.model, self.choice.method, start, own, self.clock,
                                                seed=self.seed, members=numbers)  # fmt: skip
                return states, np.where(np.isfinite(states).all(axis=(0, 1)), 0, 1).astype(np.int8)
            step = self.choice.dt or 1.0  # an SDE's choice always has a step
            model, method = self.model, self.choice.method
            if model.bounds:
                model, method = bounded(model, method)
                start = np.vstack([start, np.full(len(numbers), ALIVE)])
            flat = integrate.integrate(model, method, start, own, self.clock, step, **common)
            return flat.states, flat.status
        field = integrate_field.integrate(
            self.model, self.choice.method, start, own, self.clock, self.choice.dt, **common
        )
        return field.states, field.status


def simulate(
    model: SDE | PDE,
    initial: Any,
    times: Sequence[float] | NDArray[np.float64] | float,
    *,
    members: int | Sequence[int] | range = 1,
    parameters: Mapping[str, Any] | None = None,
    design: str = "random",
    method: str | None = None,
    dt: float | None = None,
    seed: int = 0,
    dtype: str = "float64",
    device: str = "cpu",
    save: str = "states",
    store: str | Path | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Integrate an ensemble and return it as a Dataset with the dimensions (member, time, *space).

    Parameters
    ----------
    model : an `SDE` or a `PDE`.
    initial : {"x": number | expression | array | distribution | DataArray | GaussianField}; the value alone where
        there is one state. It holds at time 0, or at times[0] if that is negative or 0.
    times : save times, increasing, in the model's unit of time.
    members : how many, or which: a range or list of member numbers gives the same bits as in the full ensemble.
    parameters : overrides: number | frozen scipy.stats distribution | array over members | DataArray.
    design : how distributions are sampled: "random", "lhs" or "sobol".
    method : a name of `sim.methods()`; None chooses by the model's structure, and the attributes say what and why.
    dt : the step, or its ceiling where the method fits steps between save times; None lets the method choose.
    seed : an integer from 0 to 2⁶⁴ − 1. With the member's number it fixes every random draw.
    dtype : "float64" or "float32", the precision of what is stored; arithmetic is float64.
    device : "cpu", "cuda" (CuPy), or "reference" (the methods' own lines on NumPy arrays: slow, the same bits).
    save : "states", or "statistics" (mean, variance, covariance of states, extremes and histogram over the members; no
        paths are kept).
    store : also save the Dataset there, by its ending .nc or .zarr.
    progress : a bar on standard error.

    Raises ValueError, TypeError or KeyError before any work for what cannot be done, with the cure. A member that
    blows up is marked in `status`; its neighbours are untouched.

    >>> import sdesim as sim
    >>> ou = sim.SDE({"x": "-x"}, {"x": "0.5"})
    >>> ds = sim.simulate(ou, {"x": 1.0}, [0.0, 1.0], members=4, dt=0.01, seed=1)
    >>> dict(ds.sizes), float(ds.x.isel(time=0).mean())
    ({'member': 4, 'time': 2}, 1.0)
    """
    if save not in ("states", "statistics"):
        raise ValueError(f'save is "states" or "statistics", got {save!r}')
    if store is not None:
        from sdesim import storage

        storage.check_target(store)
    call = {"design": design, "method": method, "dt": dt, "seed": seed, "dtype": dtype, "save": save}
    run = prepare(model, initial, times, members, parameters or {}, device, call)
    ds = _states(run, progress) if save == "states" else _statistics(run, progress)
    if store is not None:
        storage.save(ds, store)
    return ds


def prepare(
    model: SDE | PDE, initial: Any, times: Any, members: Any, parameters: Mapping[str, Any], device: str,
    call: dict[str, Any],
) -> Run:  # fmt: skip
    """Check everything a call of `simulate` was given and put it in final form; no work is done yet."""
    if not isinstance(model, (SDE, PDE)):
        raise TypeError(f"model is an SDE or a PDE, got {type(model).__name__}; see sim.equations for a catalogue")
    if device not in DEVICES:
        raise ValueError(f"device is one of {', '.join(DEVICES)}, got {device!r}")
    if call["dtype"] not in ("float64", "float32"):
        raise ValueError(f'dtype is "float64" or "float32", got {call["dtype"]!r}')
    from sdesim.streams import seed_key

    seed_key(call["seed"])
    clock, skip = _clock(times)
    numbers = member_numbers(members)
    values, given = _parameters(model, parameters, numbers, call["design"], call["seed"])
    taken = len(distributions({**model.parameters, **parameters}))
    how: dict[str, Any] = {"design": call["design"], "seed": call["seed"], "first_axis": taken}
    if isinstance(model, SDE):
        state, record = sde_initial(model, initial, numbers, values, **how)
    else:
        state, record = pde_initial(model, initial, numbers, values, **how)
    choice = choose(model, call["method"], call["dt"], clock, state, values)
    kept = {
        "model": model, "initial": record, "times": clock[skip:], "members": _compact(numbers), "parameters": given,
        **call, "method": choice.method.name, "dt": choice.dt,
    }  # fmt: skip
    return Run(model, numbers, values, state, clock, skip, choice, int(call["seed"]), call["dtype"], device, kept)


def _compact(numbers: NDArray[np.int64]) -> range | list[int]:
    """A range where the numbers are one, else a list: short in a file."""
    first, last = int(numbers[0]), int(numbers[-1])
    run = range(first, last + 1)
    return run if len(run) == len(numbers) and np.array_equal(numbers, run) else [int(n) for n in numbers]


def _clock(times: Any) -> tuple[NDArray[np.float64], int]:
    """(the start and every save time, how many of the first to skip)."""
    try:
        array = np.atleast_1d(np.asarray(times))
    except ValueError:  # lists of unequal lengths
        array = np.empty(0)
    if array.dtype.kind not in "iuf" or array.ndim != 1 or array.size == 0:
        raise ValueError(f"times is a list of increasing numbers, got {times!r}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all() or (np.diff(array) <= 0).any():
        raise ValueError(f"times must be finite and strictly increasing, got {array}; sort them and drop repeats")
    return (np.concatenate([[0.0], array]), 1) if array[0] > 0.0 else (array, 0)


def _parameters(
    model: SDE | PDE, overrides: Mapping[str, Any], numbers: NDArray[np.int64], design: str, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every parameter's values, and for provenance the overrides and whatever is a list in the members' order."""
    unknown = sorted(set(overrides) - set(model.parameters))
    if unknown:
        known = ", ".join(model.parameters) or "none"
        raise ValueError(f"'{unknown[0]}' is no parameter of this model; its parameters are {known}")
    every = {**model.parameters, **overrides}
    values = draw(every, numbers, design=design, seed=seed)
    lists = {name: over_members(np.asarray(v, float), numbers) for name, v in every.items() if is_list(v)}
    return dict(values), {**overrides, **lists}


def _groups(run: Run, progress: bool | None) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.int8]]]:
    """Results for groups of members, each small enough to hold and large enough for every thread."""
    threads, count = available_threads(), len(run.numbers)
    per_member = 8 * len(run.clock) * int(np.prod(run.initial.shape[2:])) * len(run.names)
    size = max(threads, min(_GROUP_BYTES // per_member, -(-count // 8) if progress else count))
    if isinstance(run.model, SDE):
        size = max(size, 512 * threads)
    with _bar(run, progress) as update:
        for begin in range(0, count, size):
            positions = slice(begin, min(begin + size, count))
            states, status = run.group(positions, threads)
            yield positions, states[run.skip :], status
            update(positions.stop - begin)


@contextmanager
def _bar(run: Run, progress: bool | None) -> Iterator[Callable[[int], object]]:
    """What counts the members that are done: a bar on standard error, or nothing."""
    if not progress:
        yield lambda done: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=len(run.numbers), desc=f"simulate ({run.choice.method.name})", unit="member") as bar:
        yield bar.update


def _states(run: Run, progress: bool | None) -> xr.Dataset:
    count, times = len(run.numbers), run.clock[run.skip :]
    shape = (count, len(times), *(len(v) for v in run.space.values()))
    data = {name: np.empty(shape, run.dtype) for name in run.names}
    status, exits = np.empty(count, np.int8), np.full(count, np.nan)
    for positions, states, flags in _groups(run, progress):
        _note_exits(run, exits[positions], states)
        for i, name in enumerate(run.names):
            with np.errstate(over="ignore"):  # beyond float32: infinite there, and the status says what float64 found
                data[name][positions] = np.swapaxes(states[:, i], 0, 1)
        status[positions] = flags
    return to_dataset(
        data, members=run.numbers, times=times, space=run.space, parameters=run.parameters, status=status,
        variables=_exit_time(run, exits), units=dict(run.model.units), attributes=_attributes(run),
    )  # fmt: skip


def _note_exits(run: Run, exits: NDArray[np.float64], states: NDArray[np.float64]) -> None:
    """Put the times of exit of a group in place; NaN stays for a member that never left."""
    if run.absorbs:
        times = states[-1, len(run.names)]
        exits[:] = np.where(times > ALIVE / 2, times, np.nan)


def _exit_time(run: Run, exits: NDArray[np.float64]) -> dict[str, Any]:
    about = {"long_name": "time at which the member left its bounds, NaN if it did not",
             "units": run.model.units.get("time", "s")}  # fmt: skip
    return {"exit_time": (("member",), exits, about)} if run.absorbs else {}


def _statistics(run: Run, progress: bool | None) -> xr.Dataset:
    """Moments, extremes and histograms of the members that stayed finite, merged group by group in member order."""
    import xarray as xr

    times = run.clock[run.skip :]
    statistics = EnsembleStatistics(run.names, len(times))
    status, exits = np.empty(len(run.numbers), np.int8), np.full(len(run.numbers), np.nan)
    for positions, states, flags in _groups(run, progress):
        statistics.add(states[:, : len(run.names), flags == 0])
        _note_exits(run, exits[positions], states)
        status[positions] = flags
    ds = to_dataset({}, members=run.numbers, times=times, space=run.space, parameters=run.parameters, status=status,
                    units=dict(run.model.units), variables=_exit_time(run, exits),
                    attributes=_attributes(run) | {"title": f"statistics of {', '.join(run.names)}"})  # fmt: skip
    for name, (dims, values, attrs) in statistics.variables(tuple(run.space), run.model.units).items():
        kept = values if "bin" in dims or values.dtype.kind == "i" else values.astype(run.dtype)
        ds[name] = xr.Variable(dims, kept, attrs)
    ds.attrs["members_finite"] = int((status == 0).sum())
    return ds


def _attributes(run: Run) -> dict[str, Any]:
    equations = str(run.model)
    return {
        "equations": equations, "method": run.choice.method.name, "method_reason": run.choice.reason,
        "method_source": run.choice.method.source, "seed": str(run.seed),
        **({} if run.choice.dt is None else {"dt": run.choice.dt}), **_edges(run.model),
        PROVENANCE: provenance.dumps(run.record),
    }  # fmt: skip


def _edges(model: SDE | PDE) -> dict[str, str]:
    """`boundary_<axis>` for those who read the fields without the model, such as a surrogate choosing its modes."""
    if isinstance(model, SDE):
        return {}
    kinds = {
        axis: {kind_of(*model.boundary[state][axis]) or "robin" for state in model.state} for axis in model.grid.axes
    }
    return {f"boundary_{axis}": found.pop() if len(found) == 1 else "mixed" for axis, found in kinds.items()}
