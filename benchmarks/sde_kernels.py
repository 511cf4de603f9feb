"""Speed of the fused SDE kernels as generated: nanoseconds per normal and per path and step, the best of several runs.

    python benchmarks/sde_kernels.py [float64|float32 ...]

One run gives the time to draw normals in a block that stays in the cache, and the time of a step beside that of the
same number of normals; on one thread and on two; compilation is left out. Where there is a C compiler, the same scheme
with the same noise in float64, written by hand as plain loops in C and compiled for this machine, is timed too: "C" is
its time over ours.
"""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir

import sdesim as sim
from sdesim.integrate import integrate
from sdesim.kernels.llvm import Compiled, loop
from sdesim.kernels.machines import VOID
from sdesim.kernels.sde_fill import fill_function
from sdesim.kernels.sde_trace import trace
from sdesim.methods import find
from sdesim.reals import DOUBLE, SINGLE
from sdesim.streams import normals_of

MEMBERS, STEPS = 2**14, 1000
COMPILERS = {"gcc": "-O3 -march=native -mprefer-vector-width=512 -ffp-contract=off -fno-math-errno -fno-trapping-math",
             "clang": "-O3 -march=native -mprefer-vector-width=512 -ffp-contract=off -fno-math-errno"}  # fmt: skip
C_SOURCE = """
#include <math.h>
#include <stdint.h>
#include <string.h>
typedef uint64_t u64;
static inline double real(u64 u) { double x; memcpy(&x, &u, 8); return x; }
static inline u64 bits(double x) { u64 u; memcpy(&u, &x, 8); return u; }

__attribute__((noinline)) void fill(double* restrict first, double* restrict second, long n, u64 c1, u64 k0, u64 k1) {
  for (long i = 0; i < n; i++) {
    uint32_t c[4] = {(uint32_t)i, (uint32_t)c1, 0, 0}, a0 = (uint32_t)k0, a1 = (uint32_t)k1;
    for (int r = 0; r < 10; r++) {
      u64 p0 = 0xD2511F53ull*c[0], p1 = 0xCD9E8D57ull*c[2];
      uint32_t n0 = (uint32_t)(p1 >> 32) ^ c[1] ^ a0, n2 = (uint32_t)(p0 >> 32) ^ c[3] ^ a1;
      c[0] = n0; c[1] = (uint32_t)p1; c[2] = n2; c[3] = (uint32_t)p0;
      a0 += 0x9E3779B9u; a1 += 0xBB67AE85u;
    }
    u64 a = (u64)c[0] << 32 | c[1], b = (u64)c[2] << 32 | c[3], one = 0x3FF0000000000000ull;
    double u = 2.0 - real(a >> 12 | one);
    u64 t = bits(u) + (one - 0x3FE6A09E00000000ull);
    double k = real(t >> 52 | 0x4330000000000000ull) - (4503599627370496.0 + 1023.0);
    double f = real((t & 0x000FFFFFFFFFFFFFull) + 0x3FE6A09E00000000ull) - 1.0, s = f/(2.0 + f), z = s*s;
    double radius = sqrt(s*((((((-0.33675319941360976*z + -0.3624386886243043)*z + -0.4444686909503581)*z
      + -0.5714283204221534)*z + -0.8000000012348323)*z + -1.3333333333310584)*z + -4.0) - k*1.3862943611198906);
    double v = real((b & 0x000FFFFFFFFFFFFFull) | one) - 1.5;
    z = v*v;
    double y = v*radius*((((((5.633933781537854e-08*z + -3.59864335298231e-06)*z + 0.0001604411507421909)*z
      + -0.004681754132340976)*z + 0.07969262624604301)*z + -0.6459640975062443)*z + 1.5707963267948966);
    double x = radius*((((((4.6552961874867623e-07*z + -2.520013526428479e-05)*z + 0.000919259950041661)*z
      + -0.02086348073494657)*z + 0.25366950789986475)*z + -1.2337005501361513)*z + 1.0);
    x = real(bits(x) ^ (b & 0x8000000000000000ull));
    int swap = (b >> 62) & 1;
    first[i] = swap ? y : x; second[i] = swap ? x : y;
  }
}
#define B 512
static double z[8][B], s[8][B];
void normals(long blocks, long steps) {
  for (long b = 0; b < blocks; b++) for (long j = 0; j < steps; j += 2) fill(z[0], z[1], B, (u64)j, 1, b);
}
void ou(long blocks, long steps) {
  for (long b = 0; b < blocks; b++) for (long j = 0; j < steps; j++) {
    if (!(j & 1)) fill(z[0], z[1], B, (u64)j, 1, b);
    double* restrict w = z[j & 1];
    for (long i = 0; i < B; i++) s[0][i] = s[0][i] + -0.5*s[0][i]*0.001 + 0.3*(w[i]*0.0316);
  }
}
void gbm(long blocks, long steps) {
  for (long b = 0; b < blocks; b++) for (long j = 0; j < steps; j++) {
    if (!(j & 1)) fill(z[0], z[1], B, (u64)j, 1, b);
    double* restrict w = z[j & 1];
    for (long i = 0; i < B; i++) s[0][i] = s[0][i] + 0.05*s[0][i]*0.001 + 0.2*s[0][i]*(w[i]*0.0316);
  }
}
void lorenz(long blocks, long steps) {
  for (long b = 0; b < blocks; b++) for (long j = 0; j < steps; j++) {
    if (!(j & 1)) for (int c = 0; c < 3; c++) fill(z[2*c], z[2*c + 1], B, (u64)j, 1, 3*b + c);
    int o = j & 1;
    for (long i = 0; i < B; i++) {
      double x = s[0][i], y = s[1][i], u = s[2][i];
      s[0][i] = x + 10.0*(y - x)*0.001 + 0.5*(z[o][i]*0.0316);
      s[1][i] = y + (x*(28.0 - u) - y)*0.001 + 0.5*(z[2 + o][i]*0.0316);
      s[2][i] = u + (x*y - 8.0/3.0*u)*0.001 + 0.5*(z[4 + o][i]*0.0316);
    }
  }
}
void langevin(long blocks, long steps) {
  for (long b = 0; b < blocks; b++) for (long j = 0; j < steps; j++) {
    if (!(j & 1)) for (int c = 0; c < 2; c++) fill(z[2*c], z[2*c + 1], B, (u64)j, 1, 2*b + c);
    int o = j & 1;
    for (long i = 0; i < B; i++) {
      double x = s[0][i], y = s[1][i], v = s[2][i], w = s[3][i];
      s[0][i] = x + v*0.001;
      s[1][i] = y + w*0.001;
      s[2][i] = v + (x - x*x*x - y*y*x - 0.5*v)*0.001 + 0.3*(z[o][i]*0.0316);
      s[3][i] = w + (-y - x*x*y - 0.5*w)*0.001 + 0.3*(z[2 + o][i]*0.0316);
    }
  }
}
"""
LORENZ = {"x": "10*(y - x)", "y": "x*(28 - z) - y", "z": "x*y - 8/3*z"}
LANGEVIN = {"x": "v", "y": "w", "v": "x - x**3 - y**2*x - 0.5*v", "w": "-y - x**2*y - 0.5*w"}
GBM = {"drift": {"x": "m*x"}, "noise": {"x": "s*x"}, "parameters": {"m": 0.05, "s": 0.2}}
OU = {"drift": {"x": "-k*x"}, "noise": {"x": "s"}, "parameters": {"k": 0.5, "s": 0.3}}
# name, model, method, the C function
ROWS: list[tuple[str, dict[str, Any], str, str]] = [
    ("OU", OU, "euler_maruyama", "ou"),
    ("GBM", GBM, "euler_maruyama", "gbm"),
    ("Lorenz-63", {"drift": LORENZ, "noise": dict.fromkeys("xyz", "0.5")}, "euler_maruyama", "lorenz"),
    ("Langevin, 2-d", {"drift": LANGEVIN, "noise": {"v": "0.3", "w": "0.3"}}, "euler_maruyama", "langevin"),
    ("sin x", {"drift": {"x": "sin(x)"}, "noise": {"x": "0.3"}}, "euler_maruyama", ""),
    ("exp(-x)", {"drift": {"x": "exp(-x)"}, "noise": {"x": "0.3"}}, "euler_maruyama", ""),
    ("tanh x", {"drift": {"x": "-tanh(x)"}, "noise": {"x": "0.3"}}, "euler_maruyama", ""),
    ("abs(x)**1.3", {"drift": {"x": "-x*abs(x)**1.3"}, "noise": {"x": "0.3"}}, "euler_maruyama", ""),
    ("GBM", GBM, "milstein", ""),
    ("OU", OU, "heun", ""),
    ("OU", OU, "sra1", ""),
    ("OU", OU, "sosra", ""),
    ("GBM", GBM, "sriw1", ""),
    ("Lorenz-63", {"drift": LORENZ, "noise": dict.fromkeys("xyz", "0.5")}, "sra1", ""),
]  # fmt: skip


def best(work: Callable[[], object], repeats: int = 4) -> float:
    """The shortest of several runs, in seconds; the first run, which compiles, is left out."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def hand_written() -> Any:
    """The C source as a library, or None without a compiler."""
    for name, flags in COMPILERS.items():
        if shutil.which(name):
            folder = Path(tempfile.mkdtemp(prefix="sdesim-c-"))
            (folder / "loops.c").write_text(C_SOURCE)
            arguments = [name, *flags.split(), "-shared", "-fPIC", "-o", str(folder / "c.so"), str(folder / "loops.c")]
            subprocess.run([*arguments, "-lm"], check=True)
            library = ctypes.CDLL(str(folder / "c.so"))
            shutil.rmtree(folder)
            return library
    return None


def step_time(options: dict[str, Any], method: str, dtype: str, threads: int) -> tuple[float, int]:
    """(ns per path and step, normals per path and step)."""
    model, row = sim.SDE(**options), find(method, ("sde",))
    start = np.full((len(model.states), MEMBERS), 0.5, dtype)
    times, members = np.array([0.0, 0.001 * STEPS]), np.arange(MEMBERS)

    def work() -> None:
        integrate(model, row, start, model.parameters, times, 0.001, seed=1, members=members, threads=threads)

    draws = len(trace(model, row, frozenset()).draws)
    return best(work) / (MEMBERS * STEPS) * 1e9, draws


def normal_time(dtype: str, block: int = 512, visits: int = 20_000) -> float:
    """ns per normal, from the kernels' own function that fills the rows of a block of members."""
    form = {"float64": DOUBLE, "float32": SINGLE}[dtype]
    module = ir.Module()
    fill = fill_function(module, "fill", normals_of, form)
    fn = ir.Function(module, ir.FunctionType(VOID, [a.type for a in fill.args]), "visit")
    b = ir.IRBuilder(fn.append_basic_block())
    rows, (members, n, count, *rest) = fn.args[: form.draws], fn.args[form.draws :]
    with loop(b, count) as i:
        b.call(fill, [*rows, members, n, i, *rest])
    b.ret_void()
    code = Compiled(module)
    run = code.function("visit", *[ctypes.c_void_p] * (form.draws + 1), *[ctypes.c_int64] * 6)
    arrays = *np.zeros((form.draws, block), dtype), np.arange(block)
    pointers = [a.ctypes.data for a in arrays]
    return best(lambda: run(*pointers, block, visits, 0, 0, 1, 2)) / (form.draws * block * visits) * 1e9


def table(dtype: str, library: Any) -> None:
    """Print the times of one format."""
    normal = normal_time(dtype)

    def by_hand(name: str) -> float:
        run, blocks = getattr(library, name), ctypes.c_long(MEMBERS // 512)
        return best(lambda: run(blocks, ctypes.c_long(STEPS))) / (MEMBERS * STEPS) * 1e9

    print(f"\n{dtype}: a normal takes {normal:.2f} ns" + (f"; in C {by_hand('normals'):.2f} ns" if library else ""))
    print(f"{'model':14} {'method':16} normals  ns a step  over normals  two threads     C")
    for name, options, method, c in ROWS:
        one, draws = step_time(options, method, dtype, 1)
        two, _ = step_time(options, method, dtype, 2)
        hand = f"{by_hand(c) / one:6.2f}" if library and c else ""
        print(f"{name:14} {method:16} {draws:7} {one:10.2f} {one / (draws * normal):13.2f} {one / two:12.2f} {hand}")


def main() -> None:
    """Print the tables."""
    print(f"{_processor()}, Python {platform.python_version()}; {MEMBERS} paths, {STEPS} steps")
    library = hand_written()
    for dtype in sys.argv[1:] or ("float64", "float32"):
        table(dtype, library if dtype == "float64" else None)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
