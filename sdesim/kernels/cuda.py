"""What every generated CUDA source shares: its prelude, and the same source compiled for the host.

The generated code is CUDA C without contraction (`--fmad=false`). A shim of a few macros lets a C++ compiler build it
for the host, where a plain loop stands for the grid of threads: so the very source that runs on a GPU is tested for
equal bits on a machine without one.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

PRELUDE = """\
typedef unsigned long long u64;
typedef unsigned int u32;
typedef long long i64;
#ifdef __CUDACC__
#define DEVICE static __device__ __forceinline__
#define KERNEL extern "C" __global__ void
DEVICE double as_double(u64 u) { return __longlong_as_double((i64)u); }
DEVICE u64 as_bits(double x) { return (u64)__double_as_longlong(x); }
DEVICE float as_float(u32 u) { return __uint_as_float(u); }
DEVICE u32 as_bits(float x) { return __float_as_uint(x); }
#else
#include <cmath>
#include <cstring>
#define DEVICE static inline
#define KERNEL extern "C" void
struct Dim { unsigned x, y, z; };
static thread_local Dim blockIdx, blockDim, threadIdx, gridDim;
DEVICE double as_double(u64 u) { double x; std::memcpy(&x, &u, 8); return x; }
DEVICE u64 as_bits(double x) { u64 u; std::memcpy(&u, &x, 8); return u; }
DEVICE float as_float(u32 u) { float x; std::memcpy(&x, &u, 4); return x; }
DEVICE u32 as_bits(float x) { u32 u; std::memcpy(&u, &x, 4); return u; }
using std::sqrt; using std::fabs;
#endif
"""


def compile_for_host(source: str, compiler: str | None = None) -> ctypes.CDLL:
    """The generated source as a shared library of this machine, without contraction.

    Raises FileNotFoundError if there is no C++ compiler, RuntimeError with its message if the source does not compile.
    """
    command = compiler or shutil.which("g++") or shutil.which("clang++")
    if command is None:
        raise FileNotFoundError("a C++ compiler (g++ or clang++) is needed to build generated CUDA source for the host")
    folder = Path(tempfile.mkdtemp(prefix="sdesim-host-"))
    try:
        (folder / "kernel.cpp").write_text(source)
        flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC"]
        arguments = [command, *flags, "-o", str(folder / "kernel.so"), str(folder / "kernel.cpp")]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the generated source does not compile:\n{done.stderr[:4000]}")
        return ctypes.CDLL(str(folder / "kernel.so"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
