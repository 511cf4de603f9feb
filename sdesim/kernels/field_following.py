"""One door to every run of a field whose steps follow its error: our pairs on any backend, and SciPy's solvers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.kernels.field_free import Task, reference, task
from sdesim.methods.field import FieldMethod, Spectrum
from sdesim.methods.field_control import FieldControl
from sdesim.methods.field_scipy import SciPyMethod, default_control
from sdesim.stencils import Stencil

Array = NDArray[np.float64]


def followed(stencil: Stencil, method: FieldMethod, parameters: Mapping[str, Any], bounds: Sequence[Spectrum],
             looked: Sequence[float], initial: Array, times: Array, dt: float | None, members: NDArray[np.int64],
             control: FieldControl | None, backend: str,
             threads: int) -> tuple[Array, NDArray[np.int8], dict[str, Any]]:
    """Integrate each member by steps of its own: states (times, states, members, *space), status, notes.

    Args as of `field_free.task`; without a control that of `methods.field_scipy` is taken.
    """
    control = control or default_control(stencil.model.state)
    if isinstance(method, SciPyMethod):
        return _by_scipy(stencil, method, parameters, initial, times, dt, control)
    own = task(stencil, method, parameters, bounds, looked, initial, times, dt, members, control)
    if len(times) > 1:
        _BACKENDS[backend](own, threads)
    return np.concatenate([initial[None], own.out]), own.status, own.notes


def _by_scipy(stencil: Stencil, method: SciPyMethod, parameters: Mapping[str, Any], initial: Array, times: Array,
              dt: float | None, control: FieldControl) -> tuple[Array, NDArray[np.int8], dict[str, Any]]:
    from sdesim.kernels.field_scipy import run

    states = np.empty((len(times), *initial.shape))
    states[0] = initial
    longest = dt if dt is not None else 0.1 * float(times[-1] - times[0]) or 1.0
    status, counts = np.zeros(initial.shape[1], np.int8), dict[str, Any]()
    if len(times) > 1:
        status, counts = run(stencil, method.solver, parameters, control, initial, times, longest, states[1:])
    by = f"scipy.integrate.{method.solver} on the NumPy right-hand side: a reference, not a fast method"
    notes = {"method": method.name, "discretisation": "finite volumes, second order", "solver": by}
    if stencil.advection != "none":
        notes["advection"] = stencil.advection
    return states, status, {**notes, **counts}


def _kernel(task: Task, threads: int) -> None:
    from sdesim.kernels.field_adaptive_run import run
    from sdesim.kernels.field_free_strips import levels_of, run_as_strips

    if levels := levels_of(task, threads):
        run_as_strips(task, levels, threads)
    else:
        run(task, threads)


def _cuda(task: Task, threads: int) -> None:
    from sdesim.kernels import field_device_free

    field_device_free.run_on_device(task)


_BACKENDS = {"kernel": _kernel, "cuda": _cuda, "numpy": reference}
