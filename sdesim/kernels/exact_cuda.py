"""The CUDA source of a transition, one thread per member; run on a GPU by CuPy, or built for the host (the tests)."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.gamma import TRIES, gamma_try
from sdesim.kernels.cuda import PRELUDE, compile_for_host
from sdesim.kernels.exact_layout import Shape, shape_of, tables
from sdesim.kernels.machines import CMachine, CValue
from sdesim.methods.exact_draws import Draws, Transition
from sdesim.streams import seed_key

_THREADS = 128
_ARGUMENTS = (
    "const i64* members, i64 n, u64 j, const double* x, double* out, const double* uniform, const double* varying, "
    "u64 k0, u64 k1"
)
_NAMES = "members, n, j, x, out, uniform, varying, k0, k1"


def _words(m: CMachine, *names: str) -> list[CValue]:
    return [m.wrap(name, "u64") for name in names]


def _gamma_function() -> str:
    """gamma_variate(shape, member, j, k0, k1): tries until one is accepted."""
    m = CMachine()
    member, j, k, k0, k1 = _words(m, "member", "j", "k", "k0", "k1")
    value, accepted = gamma_try(m, m.wrap("shape"), member, j, k, (k0, k1))
    lines = "".join(f"    {line}\n" for line in m.lines)
    return (
        f"DEVICE double gamma_variate(double shape, u64 member, u64 j, u64 k0, u64 k1) {{\n"
        f"  for (u64 k = 0;; k++) {{\n{lines}    if ({accepted.text} || k == {TRIES - 1}ull) return {value.text};\n"
        "  }\n}\n"
    )


def cuda_source(*shapes: Shape) -> str:
    """The whole source: for shape i `law_run_i`, one thread per member, and `host_law_i` when built for the host."""
    bodies = [_kernel(shape, i) for i, shape in enumerate(shapes)]
    gammas = _gamma_function() if any("gamma_variate" in body for body in bodies) else ""
    return PRELUDE + gammas + "".join(bodies)


def _kernel(shape: Shape, index: int) -> str:
    m = CMachine()
    member, j, k0, k1 = _words(m, "member", "j", "k0", "k1")
    y = [m.let("double", f"x[{r}*n + i]") for r in range(shape.states)]
    rows = iter(range(len(shape.varying)))
    c = [m.let("double", f"varying[{next(rows)}*n + i]" if own else f"uniform[{k}]")
         for k, own in enumerate(shape.varying)]  # fmt: skip

    def gamma(a: CValue) -> CValue:
        return m.let("double", f"gamma_variate({a.text}, member, j, k0, k1)")

    values = shape.rule(m, y, c, Draws(m, member, j, (k0, k1), gamma))
    lines = [*m.lines, *(f"out[{r}*n + i] = {value.text};" for r, value in enumerate(values))]
    body = "".join(f"  {line}\n" for line in lines)
    return f"""
KERNEL law_run_{index}({_ARGUMENTS}) {{
  const i64 i = blockIdx.x*(i64)blockDim.x + threadIdx.x;
  if (i >= n) return;
  const u64 member = (u64)members[i];
{body}}}
#ifndef __CUDACC__
extern "C" void host_law_{index}({_ARGUMENTS}) {{
  blockDim.x = 1; threadIdx.x = 0;
  for (i64 i = 0; i < n; i++) {{ blockIdx.x = (unsigned)i; law_run_{index}({_NAMES}); }}
}}
#endif
"""


def host_entries(*shapes: Shape) -> list[Any]:
    """The CUDA source of the shapes, compiled as C++ in one go: an entry for each, for `run_on_host`.

    Raises FileNotFoundError if there is no C++ compiler.
    """
    library = compile_for_host(cuda_source(*shapes))
    return [getattr(library, f"host_law_{i}") for i in range(len(shapes))]


def run_on_host(
    entry: Any, law: Transition, j: int, x: NDArray[np.float64], seed: int, members: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The states after transition j by one of `host_entries`."""
    out = np.empty_like(x)
    arrays = [members, np.ascontiguousarray(x), out, *tables(law, len(members))]
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in arrays]
    word = ctypes.c_ulonglong
    entry(pointers[0], ctypes.c_longlong(len(members)), word(j), *pointers[1:], *(word(int(k)) for k in seed_key(seed)))
    return out


@lru_cache(maxsize=16)
def _on_gpu(shape: Shape) -> Any:
    import cupy

    module = cupy.RawModule(code=cuda_source(shape), options=("--fmad=false", "--std=c++17"))
    return module.get_function("law_run_0")


class Device:
    """An ensemble whose states stay on the GPU from transition to transition.

    Raises ModuleNotFoundError with the install command if CuPy is missing.
    """

    def __init__(self, seed: int, members: NDArray[np.int64]) -> None:
        try:
            import cupy
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'device="cuda" needs CuPy: pip install "sdesim[cuda12x]" or "sdesim[cuda13x]", by your CUDA version'
            ) from error
        self.cupy, self.key, self.members = cupy, seed_key(seed), cupy.asarray(members)
        self.law: Transition | None = None
        self.tables: list[Any] = []
        self.states: Any = None

    def __call__(self, j: int, law: Transition, x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        """Transition j from the states of the one before (`x` at first), copied to `out`."""
        n = len(self.members)
        if self.law is not law:
            self.law, self.tables = law, [self.cupy.asarray(a) for a in tables(law, n)]
        before = self.cupy.asarray(x) if self.states is None else self.states
        self.states = self.cupy.empty_like(before)
        arguments = (self.members, np.int64(n), np.uint64(j), before, self.states, *self.tables, *self.key)
        _on_gpu(shape_of(law, len(x)))(((n + _THREADS - 1) // _THREADS,), (_THREADS,), arguments)
        out[:] = self.cupy.asnumpy(self.states)
