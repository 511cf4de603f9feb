"""CUDA source of the fused SDE kernel: one thread per member, state and noise in registers, all steps in one launch.

It is generated from the same trace as the LLVM kernel and computes the same bits. On a GPU it is built by CuPy's
`RawModule` with `--fmad=false`; for a build on the host, `host_run_i` is the loop over threads.
"""

from __future__ import annotations

from sdesim.calculus import evaluate
from sdesim.kernels.cuda import PRELUDE
from sdesim.kernels.machines import CMachine, CValue
from sdesim.kernels.sde_trace import SDETrace
from sdesim.streams import Purpose, normal_pair

_ARGUMENTS = (
    "const i64* members, i64 n, const double* initial, const double* varying, const double* uniform, double* out, "
    "i64 saves, const i64* due, const double* bridge, double t0, double h, double root, u64 k0, u64 k1"
)
_NAMES = "members, n, initial, varying, uniform, out, saves, due, bridge, t0, h, root, k0, k1"


def _indent(lines: list[str], spaces: int = 2) -> str:
    return "".join(" " * spaces + line + "\n" for line in lines)


def _pair_function() -> str:
    """pair(c0, c1, c2, c3, k0, k1, &first, &second): two normals at a counter."""
    m = CMachine()
    counter = [CValue(m, f"c{i}", "u64") for i in range(4)]
    first, second = normal_pair(m, counter, (CValue(m, "k0", "u64"), CValue(m, "k1", "u64")))
    return (
        "DEVICE void pair(u64 c0, u64 c1, u64 c2, u64 c3, u64 k0, u64 k1, double& first, double& second) {\n"
        f"{_indent(m.lines)}  first = {first.text};\n  second = {second.text};\n}}\n"
    )


def _step_function(tr: SDETrace, index: int) -> str:
    """step_<index>(y, z, p, t, h, root): the traced method on one member's state, in place."""
    m = CMachine()
    env: dict[str, CValue] = {f"y:{i}": m.wrap(f"y[{i}]") for i in range(tr.dimension)}
    env |= {f"z:{c}": m.wrap(f"z[{c}]") for c in range(tr.channels)}
    env |= {f"p:{name}": m.wrap(f"p[{k}]") for k, name in enumerate(tr.parameters)}
    env |= {"t:": m.wrap("t"), "h:": m.wrap("h"), "s:": m.wrap("root")}
    results = evaluate(tr.step, dict(env), m)
    held = [f"const double next{i} = {value.text};" for i, value in enumerate(results)]
    held += [f"y[{i}] = next{i};" for i in range(tr.dimension)]
    return (
        f"DEVICE void step_{index}(double* y, const double* z, const double* p, double t, double h, double root) {{\n"
        f"{_indent(m.lines + held)}}}\n"
    )


def cuda_source(*traces: SDETrace) -> str:
    """The whole source: for trace i `sde_run_i`, one thread per member, and `host_run_i` when built for the host."""
    return PRELUDE + _pair_function() + "".join(_entries(tr, i) for i, tr in enumerate(traces))


def _entries(tr: SDETrace, index: int) -> str:
    return f"""
{_step_function(tr, index)}
{_kernel(tr, index)}#ifndef __CUDACC__
extern "C" void host_run_{index}({_ARGUMENTS}) {{
  blockDim.x = 1; threadIdx.x = 0;
  for (i64 i = 0; i < n; i++) {{ blockIdx.x = (unsigned)i; sde_run_{index}({_NAMES}); }}
}}
#endif
"""


def _kernel(tr: SDETrace, index: int) -> str:
    """The loop over saves and steps of one member, and the Brownian bridge to save times between steps."""
    d, channels, parameters = tr.dimension, max(1, tr.channels), max(1, len(tr.parameters))
    pick = [
        f"p[{k}] = varying[{tr.varying.index(name)}*n + i];" if name in tr.varying else f"p[{k}] = uniform[{k}];"
        for k, name in enumerate(tr.parameters)
    ]
    return f"""KERNEL sde_run_{index}({_ARGUMENTS}) {{
  const i64 i = blockIdx.x*(i64)blockDim.x + threadIdx.x;
  if (i >= n) return;
  const u64 member = (u64)members[i];
  double y[{d}], copy[{d}], p[{parameters}], waste;
  double even[{channels}], odd[{channels}], path[{channels}], part[{channels}];
  for (int j = 0; j < {d}; j++) y[j] = initial[j*n + i];
{_indent(pick)}  i64 s = 0, drawn = -1;
  for (i64 save = 0; save < saves; save++) {{
    const double* w = bridge + 6*save;
    for (;;) {{
      const bool last = s >= due[save];
      if (last && !(w[3] > 0.0)) break;
      if ((s >> 1) != drawn) {{
        drawn = s >> 1;
        for (int c = 0; c < {tr.channels}; c++)
          pair(member, (u64)drawn, (u64)c, {int(Purpose.STEP)}ull, k0, k1, even[c], odd[c]);
      }}
      if (last) break;
      step_{index}(y, (s & 1) ? odd : even, p, t0 + (double)s*h, h, root);
      s++;
    }}
    for (int j = 0; j < {d}; j++) copy[j] = y[j];
    if (w[3] > 0.0) {{
      for (int c = 0; c < {tr.channels}; c++) {{
        double zeta;
        pair(member, (u64)s, ((u64)w[5] << 16) | (u64)c, {int(Purpose.BRIDGE)}ull, k0, k1, zeta, waste);
        const double before = w[5] == 0.0 ? 0.0 : path[c];
        const double gap = ((s & 1) ? odd[c] : even[c]) - before;
        path[c] = (before + w[0]*gap) + w[1]*zeta;
        part[c] = path[c]*w[2];
      }}
      step_{index}(copy, part, p, t0 + (double)s*h, w[3], w[4]);
    }}
    for (int j = 0; j < {d}; j++) out[(save*{d} + j)*n + i] = copy[j];
  }}
}}
"""
