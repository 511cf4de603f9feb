"""Runs the CUDA field kernels: launches pass by pass, on a GPU by CuPy or, for the tests, on the host.

Members that take the same steps (one program per save interval) run together, a launch for each pass.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.kernels.field_cuda import cuda_source
from sdesim.kernels.field_names import Names
from sdesim.kernels.field_noise import Sheets
from sdesim.kernels.field_pairs import Pairs
from sdesim.kernels.field_plan import Programs, Steps
from sdesim.kernels.field_schedule import PEAKS, Schedule
from sdesim.kernels.field_static import edge_coordinates, ghost_values, static_arrays
from sdesim.stencils import Stencil
from sdesim.streams import seed_key

Array = NDArray[np.float64]
_MOST_MEMBERS = 4096
Launch = Callable[[int, int, Sequence[Any]], None]
"""(kernel, members, arguments) → None."""


class Arrays:
    """The arrays of a group of members in the layout of the CUDA kernels, on the host or (`xp` = cupy) on a device."""

    def __init__(self, stencil: Stencil, names: Names, parameters: dict[str, Any], members: NDArray[np.int64],
                 t: float, xp: Any = np) -> None:
        count = len(members)
        axes = range(len(stencil.model.grid.axes))
        statics = [*static_arrays(stencil, parameters).values(),
                   *(edge_coordinates(stencil, k)[name][None] for k, name in names.coordinates)]
        edges = [ghost_values(stencil, s, k, side, parameters, t)
                 for s in range(len(stencil.ghosts)) for k in axes for side in (0, 1)]
        self.statics, self.static_strides, keep = _table(statics, xp)
        self.edges, self.edge_strides, more = _table(edges, xp)
        table = np.zeros((count, max(1, len(names.parameters))))
        for k, name in enumerate(names.parameters):
            table[:, k] = parameters[name]
        self.parameters, self.members, self.numbers = xp.asarray(table), xp.asarray(members), members
        self.peaks = xp.zeros(PEAKS, np.uint64)
        self.keep = keep + more

    def tail(self, numbers: Any, t: float, step: int, key: tuple[np.uint64, np.uint64],
             noise: Any = None) -> list[Any]:
        """The arguments that follow the buffers; without coloured noise any address stands for its sheets."""
        return [self.statics, self.static_strides, self.edges, self.edge_strides, self.parameters, numbers,
                np.float64(t), self.members, np.int64(step), *key, self.peaks, self.peaks if noise is None else noise]


def _table(arrays: Sequence[Array], xp: Any) -> tuple[Any, Any, list[Any]]:
    moved = [xp.asarray(np.ascontiguousarray(a)) for a in arrays]
    strides = [a.size // len(a) if len(a) > 1 else 0 for a in arrays]
    addresses = [a.ctypes.data if xp is np else a.data.ptr for a in moved]
    return xp.asarray(np.array([*addresses, 0], np.int64)), xp.asarray(np.array([*strides, 0], np.int64)), moved


def run_group(launch: Launch, programs: Programs, arrays: Arrays, plan: Sequence[Steps], initial: Array, seed: int,
              xp: Any = np) -> Array:
    """Integrate members that share a plan: the states after each interval, (intervals, states, members, *space)."""
    states, count = initial.shape[:2]
    kernels = programs.kernels
    buffers = xp.zeros((programs.buffers, count, *initial.shape[2:]))
    buffers[:states] = xp.asarray(initial)
    roles = list(range(programs.buffers))
    saved, step, key, total = [], 0, seed_key(seed), sum(steps.count for steps in plan)
    sheets = Sheets(programs.stencil, seed)
    noise = xp.zeros((max(1, len(sheets.sources)), count, *initial.shape[2:]))
    for steps in plan:
        _, schedule = programs.entries[programs.number(steps)]
        rows = programs.rows[programs.number(steps)]
        tables = [[xp.asarray(np.array([row[k] for k in p.numbers] or [0.0])) for p in schedule.passes] for row in rows]
        for s in range(steps.count):
            if sheets.sources:
                noise[...] = xp.asarray(sheets.of_step(arrays.numbers, step, total))
            for p, numbers in zip(schedule.passes, tables[min(s, len(rows) - 1)]):
                places = [np.int64(roles[k]) for k in (*p.inputs, *p.outputs)]
                tail = arrays.tail(numbers, steps.start + s * steps.h, step, key, noise)
                launch(kernels.index(p.kernel), count, [buffers, np.int64(count), *places, *tail])
            roles = _renamed(schedule, roles)
            step += 1
        if steps.saved:
            saved.append(np.stack([_to_host(buffers[roles[k]]) for k in range(states)]))
    return np.stack(saved)


def run_ensemble(launch: Launch, programs: Programs, names: Names, parameters: dict[str, Any],
                 plans: Sequence[Sequence[Steps]], initial: Array, members: NDArray[np.int64], seed: int, out: Array,
                 xp: Any = np) -> NDArray[np.int8]:
    """Integrate all members, those with equal plans together, into `out` (intervals, states, members, *space).

    Returns the status; a member that is not finite at a save is NaN from there on.
    """
    groups: dict[tuple[Steps, ...], list[int]] = {}
    for place, plan in enumerate(plans):
        groups.setdefault(tuple(plan), []).append(place)
    for plan, places in groups.items():
        for first in range(0, len(places), _MOST_MEMBERS):
            own = places[first : first + _MOST_MEMBERS]
            values = {name: v[own] if np.ndim(v) else v for name, v in parameters.items()}
            arrays = Arrays(programs.stencil, names, values, members[own], plan[0].start, xp)
            out[:, :, own] = run_group(launch, programs, arrays, plan, initial[:, own], seed, xp)
    finite = np.logical_and.accumulate(np.isfinite(out).all(axis=(1, *range(3, out.ndim))), axis=0)
    np.moveaxis(out, 2, 1)[~finite] = np.nan
    status: NDArray[np.int8] = (~finite[-1]).astype(np.int8)
    return status


def _renamed(schedule: Schedule, roles: list[int]) -> list[int]:
    rest = [k for k in range(len(roles)) if k not in schedule.final]
    return [roles[k] for k in (*schedule.final, *rest)]


def _to_host(values: Any) -> Array:
    return np.asarray(values if isinstance(values, np.ndarray) else values.get(), np.float64)


def host_launch(library: ctypes.CDLL, name: str = "field") -> Launch:
    """Launches on the host: the library is the generated source, compiled for this machine."""

    def launch(kernel: int, members: int, arguments: Sequence[Any]) -> None:
        getattr(library, f"host_{name}{kernel}")(*(_as_c(a) for a in arguments))

    return launch


def _as_c(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    if isinstance(value, np.floating):
        return ctypes.c_double(float(value))
    return ctypes.c_uint64(int(value)) if isinstance(value, np.uint64) else ctypes.c_int64(int(value))


def device_launch(stencil: Stencil, programs: Programs | Pairs, names: Names, threads: int = 256) -> tuple[Launch, Any]:
    """Launches on the current CUDA device, and the array module (CuPy) that holds its arrays.

    Raises ModuleNotFoundError with the install command if CuPy is missing.
    """
    try:
        import cupy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'device="cuda" needs CuPy: pip install "sdesim[cuda12x]" or "sdesim[cuda13x]", by your CUDA version'
        ) from error
    source = cuda_source(stencil, programs.kernels, names)
    module = cupy.RawModule(code=source, options=("--fmad=false", "--std=c++17"))
    functions = [module.get_function(f"field{k}") for k in range(len(programs.kernels))]
    blocks = -(-stencil.model.grid.size // threads)

    def launch(kernel: int, members: int, arguments: Sequence[Any]) -> None:
        functions[kernel]((blocks, members), (threads,), tuple(arguments))

    return launch, cupy
