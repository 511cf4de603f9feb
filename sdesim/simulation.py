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
from sdesim.certificates import describe
from sdesim.datasets import PROVENANCE, to_dataset
from sdesim.ensemble import available_threads
from sdesim.gridded import scattered, with_grid
from sdesim.memory import check
from sdesim.methods.bounded import ALIVE
from sdesim.models.pde import PDE
from sdesim.models.sde import SDE
from sdesim.reduction import SHARE, Kept, reduced, shares
from sdesim.runs import Group, Run, merged, prepare
from sdesim.spectral import kind_of
from sdesim.statistics import EnsembleStatistics
from sdesim.workers import check_client, results

if TYPE_CHECKING:
    import xarray as xr

_GROUP_BYTES = 2**27


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
    rtol: float | None = None,
    atol: float | Mapping[str, float] | None = None,
    seed: int = 0,
    dtype: str = "float64",
    device: str = "cpu",
    save: str = "states",
    store: str | Path | None = None,
    chunks: Mapping[str, int] | None = None,
    client: Any = None,
    progress: bool | None = None,
    certify: bool = False,
) -> xr.Dataset:
    """Integrate an ensemble and return it as a Dataset with the dimensions (member, time, *space).

    Parameters
    ----------
    model : an `SDE` or a `PDE`.
    initial : {"x": number | expression | array | distribution | DataArray | GaussianField}; the value alone where
        there is one state. It holds at time 0, or at times[0] if that is negative or 0.
    times : save times, increasing, in the model's unit of time. A save between two steps has the law of its own time;
        several within one step see one Wiener path, but bounds that absorb, and the counts of leaps, each for itself:
        let dt divide the times where a pair of them matters.
    members : how many, or which: a range or list of member numbers gives the same bits as in the full ensemble.
    parameters : overrides: number | frozen scipy.stats distribution | array over members | DataArray.
    design : how distributions are sampled: "random", "lhs" or "sobol".
    method : a name of `sim.methods()`, or a number of one's choice in a family of them, "theta(0.7)", "skrock(8)"; None
        chooses by the model's structure, and the attributes say what and why.
    dt : the step, or its ceiling where the method fits steps between save times; None lets the method choose.
    rtol, atol : with either of them the steps of an SDE are dt over powers of 2, such that the error of a step of h is
        at most (atol + rtol·|x|)·√(h/dt): the error at the end is proportional to them. atol may be one for each state
        (default rtol/1000). Members have steps of their own (`steps`, `rejected_steps`) on the Wiener paths of a run
        with fixed dt. Methods that such steps would bias are refused; see the column "adaptive" of `sim.methods()`.
        Bounds are met with weak order 1 in these steps; the events of jumps are part of what is given in advance.
        Of a field without noise (rk45, rkl2, rkc) a step errs by at most atol + rtol·|u| in every cell, dt (a tenth of
        the span) is the longest one, saves are met exactly, and the error at the end is proportional to both.
    seed : an integer from 0 to 2⁶⁴ − 1. With the member's number it fixes every random draw.
    dtype : "float64" or "float32", the precision of what is stored. For SDEs with fixed steps, without bounds and
        jumps, it is also that of the arithmetic and of the noise, which in float32 has numbers of its own and takes
        half the time; the clock stays float64. Each step then rounds the state by up to 2⁻²⁵|x|: about √n·2⁻²⁶|x| after
        n steps, and what a step adds must be well above 10⁻⁷|x| not to be lost. All else is computed in float64.
    device : "cpu", "cuda" (CuPy), or "reference" (the methods' own lines on NumPy arrays: slow, the same bits).
    save : "states", or "statistics" (mean, variance, covariance of states, extremes, histogram and the number that left
        their bounds, over the members that stayed finite; an SDE's are reduced while they run and none of them is kept,
        so that memory does not grow with their number).
    store : also save the Dataset there, by its ending .nc or .zarr.
    chunks : {"member": n}, how many members are computed at a time; the result does not depend on it.
    client : a dask.distributed.Client whose workers compute the groups of members.
    progress : a bar on standard error.
    certify : estimate the errors of a field from its step and from its cells, by a run with half the step and one on
        cells twice as wide, of the same noise: `time_error_u`, `space_error_u` (`sdesim.richardson`).

    Raises ValueError, TypeError or KeyError before any work for what cannot be done, and MemoryError for what would not
    fit into memory, with the cure. A member that
    blows up is marked in `status` and holds its last good state from `last_good_time` on; its neighbours are untouched.
    Each member of a field carries certificates (`sdesim.certificates`).

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
    if client is not None:
        check_client(client)
    call: dict[str, Any] = {"design": design, "method": method, "dt": dt, "seed": seed, "dtype": dtype, "save": save}
    if certify:
        if not isinstance(model, PDE):
            raise ValueError("certify estimates the errors of a field; of an SDE see sim.estimate, or compare steps")
        call["certify"] = True
    if rtol is not None or atol is not None:
        call |= {"rtol": rtol, "atol": atol}
    place = Place(_chunk(chunks), client, bool(progress))

    def prepared(members: Any) -> Run:
        return prepare(model, initial, times, members, parameters or {}, device, call)

    if save == "statistics" and isinstance(model, SDE):
        start = initial if isinstance(initial, Mapping) else {"": initial}
        parts = shares(members, {**model.parameters, **(parameters or {}), **start}, design)
        ds = _reduced(prepared, parts, members, place)
    else:
        _check_room(model, members, times, dtype, save)
        run = prepared(members)
        ds = _states(run, place) if save == "states" else _statistics(run, place)
    if store is not None:
        storage.save(ds, store)
    return ds


@dataclass(frozen=True)
class Place:
    """Where and how the work is done, which no result depends on: members at a time, Dask client, progress bar."""

    chunk: int | None
    client: Any
    progress: bool


def _check_room(model: Any, members: Any, times: Any, dtype: str, save: str) -> None:
    """Raise MemoryError for an ensemble that is kept whole and does not fit, before anything of it is made."""
    if not isinstance(model, (SDE, PDE)) or not isinstance(members, (int, np.integer, range)) or dtype not in (
            "float64", "float32"):  # fmt: skip
        return  # said by others, or in memory already
    count, cells = len(members) if isinstance(members, range) else int(members), 1
    if count > 2**32:
        return
    if isinstance(model, PDE):
        cells = int(np.prod(model.grid.shape))
    states = len(model.states if isinstance(model, SDE) else model.state)
    saves = len(times) if isinstance(times, (Sequence, np.ndarray)) and np.ndim(times[:1]) == 1 else 1
    kept = int(np.dtype(dtype).itemsize) * saves if save == "states" else 0
    wanted = count * (states * cells * (8 + kept) + 16)
    of_field = "a coarser grid, " if cells > 1 else ""
    cure = f'ask for fewer members, {of_field}fewer times or dtype="float32"'
    if save == "states":
        cure += ', or save="statistics", which keeps ' + ("no states" if cells > 1 else "no member at all")
    check(wanted, f"the states of {count:,} members at {saves:,} times", cure)


def _chunk(chunks: Mapping[str, int] | None) -> int | None:
    if chunks is None:
        return None
    size = chunks.get("member") if isinstance(chunks, Mapping) and set(chunks) == {"member"} else None
    if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
        raise ValueError(f'chunks is {{"member": n}} with n ≥ 1 members computed at a time, got {chunks!r}')
    return int(size)


def _groups(run: Run, place: Place, about: _Members) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.int8]]]:
    """States to be saved and status of groups of members: small enough to hold, large enough for every thread."""
    threads, count = available_threads(), len(run.numbers)
    per_member = 8 * len(run.clock) * int(np.prod(run.initial.shape[2:])) * len(run.names)
    size = max(threads, min(_GROUP_BYTES // per_member, -(-count // 8) if place.progress or place.client else count))
    if isinstance(run.model, SDE):
        size = max(size, 512 * threads)
    size = place.chunk or size
    parts = [slice(begin, min(begin + size, count)) for begin in range(0, count, size)]
    with _bar(run.choice.method.name, count, place.progress) as update:
        for positions, group in zip(parts, results(run, parts, threads, place.client), strict=True):
            about.note(positions, Group(*group))
            yield positions, group[0][run.skip :], group[1]
            update(positions.stop - positions.start)


@contextmanager
def _bar(method: str, members: int, progress: bool) -> Iterator[Callable[[int], object]]:
    """What counts the members that are done: a bar on standard error, or nothing."""
    if not progress:
        yield lambda done: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=members, desc=f"simulate ({method})", unit="member") as bar:
        yield bar.update


def _states(run: Run, place: Place) -> xr.Dataset:
    count, times = len(run.numbers), run.clock[run.skip :]
    shape = (count, len(times), *(len(v) for v in run.space.values()))
    potentials = () if isinstance(run.model, SDE) else tuple(run.model.potential.values())
    data = {name: np.empty(shape, run.dtype) for name in (*run.names, *(term.name for term in potentials))}
    about = _Members(run)
    for positions, states, _ in _groups(run, place, about):
        for i, name in enumerate(run.names):
            with np.errstate(over="ignore"):  # beyond float32: infinite there, and the status says what float64 found
                data[name][positions] = np.swapaxes(states[:, i], 0, 1)
        for term, values in zip(potentials, run.flowing(positions, states), strict=True):
            data[term.name][positions] = np.swapaxes(values, 0, 1)
    ds = to_dataset(
        data, members=run.numbers, times=times, space=run.space, parameters=run.parameters, status=about.status,
        variables=about.variables(), units=dict(run.model.units), attributes=about.notes | _attributes(run),
    )  # fmt: skip
    return with_grid(ds, run.model)


class _Members:
    """What there is of each member besides its states: status, certificates, the time of exit."""

    def __init__(self, run: Run) -> None:
        self.run, self.status = run, np.empty(len(run.numbers), np.int8)
        self.marks: dict[str, NDArray[np.float64]] = {}
        self.notes: dict[str, Any] = {}

    def note(self, positions: slice, group: Group) -> None:
        """Put a group's in place."""
        self.status[positions] = group.status
        self.notes = merged(self.notes, group.notes)
        marks = dict(group.marks)
        if self.run.absorbs:
            times = group.states[-1, len(self.run.names)]
            marks["exit_time"] = np.where(times > ALIVE / 2, times, np.nan)
        for name, values in marks.items():
            self.marks.setdefault(name, np.full(len(self.status), np.nan))[positions] = values

    def variables(self) -> dict[str, Any]:
        """They as variables on `member`."""
        units = self.run.model.units
        left = {"long_name": "time at which the member left its bounds, NaN if it did not",
                "units": units.get("time", "s")}  # fmt: skip
        return {name: (("member",), values, left if name == "exit_time" else describe(name, units))
                for name, values in self.marks.items()}  # fmt: skip


def _statistics(run: Run, place: Place) -> xr.Dataset:
    """Moments, extremes and histograms of the fields that stayed finite, merged group by group in member order."""
    kept = EnsembleStatistics(run.names, len(run.clock) - run.skip)
    about = _Members(run)
    wet = _wet(run)
    for _, states, flags in _groups(run, place, about):
        finite = states[:, : len(run.names), flags == 0]
        kept.add(finite if wet is None else finite[..., wet])
    of_members = {"members": run.numbers, "parameters": run.parameters, "status": about.status}
    return _statistics_dataset(run, kept, about.variables(), **of_members).assign_attrs(about.notes)


def _reduced(prepared: Callable[[Any], Run], parts: Sequence[Any], members: Any, place: Place) -> xr.Dataset:
    """The same of an SDE, for which nothing is kept of a single member."""
    run, threads = prepared(parts[0]), available_threads()
    count = len(run.numbers) if len(parts) == 1 else sum(map(len, parts))
    size = place.chunk or (-(-count // 8) if place.progress or place.client else SHARE)
    total = Kept(run)
    with _bar(run.choice.method.name, count, place.progress) as update:
        for part in parts:
            own = run if part is parts[0] else prepared(part)
            for done, kept in reduced(own, threads, place.client, min(size, SHARE)):
                total.merge(kept)
                update(done)
    if len(parts) > 1:
        run.record["members"] = members if isinstance(members, range) else range(int(members))
    fixed = {n: v for n, v in run.parameters.items() if np.ndim(v) == 0}
    ds = _statistics_dataset(run, total.statistics, {}, members=None, parameters=fixed)
    return ds.assign_attrs(members=count, members_finite=count - total.lost)


def _statistics_dataset(run: Run, kept: EnsembleStatistics, variables: dict[str, Any], **about: Any) -> xr.Dataset:
    import xarray as xr

    attributes = _attributes(run) | {"title": f"statistics of {', '.join(run.names)}", "members_finite": kept.count}
    ds = to_dataset({}, times=run.clock[run.skip :], space=run.space, units=dict(run.model.units),
                    variables=variables, attributes=attributes, **about)  # fmt: skip
    wet = _wet(run)
    for name, (dims, values, attrs) in kept.variables(tuple(run.space), run.model.units).items():
        exact = "bin" in dims or values.dtype.kind == "i"
        if wet is not None and set(run.space) <= set(dims):
            values = scattered(values, wet)
        ds[name] = xr.Variable(dims, values if exact else values.astype(run.dtype), attrs)
    return with_grid(ds, run.model)


def _wet(run: Run) -> NDArray[np.bool_] | None:
    """The cells where there is a field, None where there is one in all."""
    return None if isinstance(run.model, SDE) or run.model.grid.mask is None else run.model.grid.wet


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
