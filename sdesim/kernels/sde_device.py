"""Running the generated CUDA source: on a GPU by CuPy, or built for the host by a C++ compiler (the tests)."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.kernels.cuda import compile_for_host
from sdesim.kernels.sde_cuda import cuda_source
from sdesim.kernels.sde_trace import SDETrace
from sdesim.reals import DOUBLE, SINGLE, Format
from sdesim.streams import seed_key

THREADS = 128


def _arguments(
    tr: SDETrace, initial: NDArray[Any], parameters: Mapping[str, Any], members: NDArray[np.int64]
) -> list[NDArray[Any]]:
    """(members, initial, varying, uniform) as contiguous arrays, the last three in the initial states' format."""
    real = initial.dtype
    varying = [np.broadcast_to(np.asarray(parameters[n], float), len(members)) for n in tr.varying]
    uniform = [0.0 if n in tr.varying else float(parameters[n]) for n in tr.parameters]
    return [
        np.ascontiguousarray(members, np.int64),
        np.ascontiguousarray(initial),
        np.ascontiguousarray(np.array(varying, real) if varying else np.zeros((1, len(members)), real)),
        np.array([*uniform, 0.0], real),
    ]


def host_entries(*traces: SDETrace, form: Format = DOUBLE) -> list[Any]:
    """The CUDA source of the traces, compiled as C++ in one go: an entry for each, for `run_on_host`.

    Raises FileNotFoundError if there is no C++ compiler.
    """
    library = compile_for_host(cuda_source(*traces, form=form))
    return [getattr(library, f"host_run_{i}") for i in range(len(traces))]


def run_on_host(
    entry: Any,
    tr: SDETrace,
    initial: NDArray[Any],
    parameters: Mapping[str, Any],
    *,
    t0: float,
    h: float,
    due: NDArray[np.int64],
    bridge: NDArray[np.float64],
    seed: int,
    members: NDArray[np.int64],
) -> NDArray[Any]:
    """One of `host_entries`, the CUDA source of the trace, run on the host: states (time, state, member)."""
    out = np.empty((len(due), *initial.shape), initial.dtype)
    arrays = _arguments(tr, initial, parameters, members)
    arrays += [out, due, np.ascontiguousarray(bridge, out.dtype)]
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in arrays]
    integer, real, word = ctypes.c_longlong, ctypes.c_double, ctypes.c_ulonglong
    numbers = (real(t0), real(h), real(float(np.sqrt(h))), *(word(int(k)) for k in seed_key(seed)))
    head, tail = pointers[:1], pointers[1:5]
    entry(*head, integer(len(members)), *tail, integer(len(due)), *pointers[5:], *numbers)
    return out


def run_on_gpu(
    tr: SDETrace,
    initial: NDArray[Any],
    parameters: Mapping[str, Any],
    *,
    t0: float,
    h: float,
    due: NDArray[np.int64],
    bridge: NDArray[np.float64],
    seed: int,
    members: NDArray[np.int64],
) -> NDArray[Any]:
    """The CUDA source on the GPU: states (time, state, member), copied back to the host.

    Raises ModuleNotFoundError with the install command if CuPy is missing.
    """
    try:
        import cupy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'device="cuda" needs CuPy: pip install "sdesim[cuda12x]" or "sdesim[cuda13x]", by your CUDA version'
        ) from error
    form = SINGLE if initial.dtype == np.float32 else DOUBLE
    module = cupy.RawModule(code=cuda_source(tr, form=form), options=("--fmad=false", "--std=c++17"))
    kernel = module.get_function("sde_run_0")
    first, *middle = (cupy.asarray(a) for a in _arguments(tr, initial, parameters, members))
    out = cupy.empty((len(due), *initial.shape), initial.dtype)
    n = len(members)
    arguments = (
        first, np.int64(n), *middle, out, np.int64(len(due)), cupy.asarray(due), cupy.asarray(bridge, initial.dtype),
        np.float64(t0), np.float64(h), np.float64(np.sqrt(h)), *seed_key(seed),
    )  # fmt: skip
    kernel(((n + THREADS - 1) // THREADS,), (THREADS,), arguments)
    result: NDArray[Any] = cupy.asnumpy(out)
    return result
