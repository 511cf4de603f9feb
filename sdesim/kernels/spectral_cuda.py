"""CUDA source of the passes of spectral methods and of their noise, and the same source running on the host.

A pass has one thread for each place, members along blockIdx.y; the transforms between passes are cuFFT's. The source
comes from the same bodies as the LLVM kernels, so it computes the same bits.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import evaluate
from sdesim.kernels.cuda import PRELUDE, compile_for_host
from sdesim.kernels.machines import CMachine
from sdesim.kernels.spectral_pointwise import Body, Launch, lane
from sdesim.kernels.spectral_trace import base
from sdesim.streams import Purpose, normal_pair, seed_key

_PASS = "i64 members, i64 first, i64 places, double* const* array, const i64* stride, const double* scalars"
_NOISE = "double* out, const i64* members, i64 count, i64 rows, i64 cells, u64 step, u64 word, u64 k0, u64 k1"


def pass_source(body: Body, name: str) -> str:
    """The kernel of one pass.

    >>> from sdesim.kernels.spectral_pointwise import body
    >>> from sdesim.parsing import parse
    >>> print(pass_source(body({"v": parse("a*u")}, ["a"]), "scale").split("{", 1)[1])
    <BLANKLINE>
      const i64 i = first + blockIdx.x*(i64)blockDim.x + threadIdx.x, e = blockIdx.y;
      if (i >= first + places) return;
      const double v0 = scalars[0*members + e];
      const double v1 = array[1][e*stride[1] + i];
      const double v2 = v0 * v1;
      array[0][e*stride[0] + i] = v2;
    }
    <BLANKLINE>
    """
    m = CMachine()
    targets = {name: k for k, name in enumerate(body.targets)}
    sources = {name: k + len(targets) for k, name in enumerate(body.sources)}

    def at(where: Mapping[str, int], name: str) -> str:
        (width, which), k = lane(name), where[base(name)]
        return f"array[{k}][e*stride[{k}] + {'i' if width == 1 else f'2*i + {which}'}]"

    env: dict[Any, Any] = {x: m.let("double", f"scalars[{k}*members + e]") for k, x in enumerate(body.scalars)}
    env |= {x: m.let("double", at(sources, x)) for x in body.symbols}
    values = evaluate([value for _, value in body.outputs], env, m)
    lines = [*m.lines, *(f"{at(targets, x)} = {value.text};" for (x, _), value in zip(body.outputs, values))]
    return (f"KERNEL {name}({_PASS}) {{\n"
            "  const i64 i = first + blockIdx.x*(i64)blockDim.x + threadIdx.x, e = blockIdx.y;\n"
            "  if (i >= first + places) return;\n" + "".join(f"  {line}\n" for line in lines) + "}\n")


def noise_source() -> str:
    """The kernel that fills fields with normals: one thread for each Box–Muller pair."""
    m = CMachine()
    counter = [m.wrap(x, "u64") for x in ("member", "step", "pair", "word")]
    first, second = normal_pair(m, counter, (m.wrap("k0", "u64"), m.wrap("k1", "u64")))
    lines = "".join(f"  {line}\n" for line in m.lines)
    return (f"KERNEL noise({_NOISE}) {{\n"
            "  const i64 half = (cells + 1)/2, i = blockIdx.x*(i64)blockDim.x + threadIdx.x, e = blockIdx.y;\n"
            "  if (i >= rows*half) return;\n"
            "  const u64 member = (u64)members[e], pair = (u64)i;\n"
            f"{lines}  double* row = out + (e*rows + i/half)*cells;\n"
            f"  const i64 x = i % half;\n  row[x] = {first.text};\n"
            f"  if (x + half < cells) row[x + half] = {second.text};\n}}\n")


def cuda_source(bodies: Sequence[Body]) -> str:
    """The whole source: `pass0`, `pass1`, … and `noise`; for the host also loops over their threads, `host_…`."""
    kernels = "".join(pass_source(body, f"pass{k}") for k, body in enumerate(bodies))
    loop = ("  blockDim.x = 1; threadIdx.x = 0;\n"
            "  for (i64 e = 0; e < {count}; e++) for (i64 i = 0; i < {places}; i++) {{\n"
            "    blockIdx.x = (unsigned)i; blockIdx.y = (unsigned)e; {call};\n  }}\n")
    hosts = "".join(
        f'extern "C" void host_pass{k}({_PASS}) {{\n'
        + loop.format(count="members", places="places", call=f"pass{k}(members, first, places, array, stride, scalars)")
        + "}\n"
        for k in range(len(bodies)))
    hosts += f'extern "C" void host_noise({_NOISE}) {{\n' + loop.format(
        count="count", places="rows*((cells + 1)/2)",
        call="noise(out, members, count, rows, cells, step, word, k0, k1)") + "}\n"
    return f"{PRELUDE}{kernels}{noise_source()}#ifndef __CUDACC__\n{hosts}#endif\n"


@lru_cache(maxsize=64)
def host_pass(body: Body) -> Launch:
    """The CUDA source of one body as a function of this machine, called like a `PointwiseKernel`."""
    library = compile_for_host(cuda_source([body]))

    def run(members: int, places: range, addresses: Sequence[int], strides: NDArray[np.int64],
            scalars: NDArray[np.float64]) -> None:
        library.host_pass0(*(ctypes.c_int64(n) for n in (members, places.start, len(places))),
                           (ctypes.c_void_p * len(addresses))(*addresses), ctypes.c_void_p(strides.ctypes.data),
                           ctypes.c_void_p(scalars.ctypes.data))

    return run


@lru_cache(maxsize=1)
def host_noise() -> Any:
    """The CUDA source of the noise as a function of this machine, called like a `NoiseKernel`."""
    library = compile_for_host(cuda_source([]))

    def fill(out: NDArray[np.float64], seed: int, members: NDArray[np.int64], step: int, state: int,
             purpose: Purpose = Purpose.STEP) -> None:
        rows = out.size // (out.shape[0] * out.shape[-1])
        words = (step, int(purpose) | state << 8, *(int(word) for word in seed_key(seed)))
        library.host_noise(ctypes.c_void_p(out.ctypes.data), ctypes.c_void_p(members.ctypes.data),
                           *(ctypes.c_int64(n) for n in (members.size, rows, out.shape[-1], *words)))

    return fill
