"""CUDA source of the fused SDE kernel: one thread per member, state and noise in registers, all steps in one launch.

It is generated from the same trace as the LLVM kernel and computes the same bits. On a GPU it is built by CuPy's
`RawModule` with `--fmad=false`; for a build on the host, `host_run_i` is the loop over threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sdesim.calculus import evaluate
from sdesim.kernels.cuda import PRELUDE
from sdesim.kernels.machines import CMachine, CValue
from sdesim.kernels.sde_bridge import COLUMNS, joint, single
from sdesim.kernels.sde_events import c_jumps
from sdesim.kernels.sde_trace import SDETrace
from sdesim.streams import Purpose, normal_pair, sign_group, unit_pair

_ARGUMENTS = (
    "const i64* members, i64 n, const double* initial, const double* varying, const double* uniform, double* out, "
    "i64 saves, const i64* due, const double* bridge, double t0, double h, double root, u64 k0, u64 k1"
)
_NAMES = "members, n, initial, varying, uniform, out, saves, due, bridge, t0, h, root, k0, k1"


def _indent(lines: list[str], spaces: int = 2) -> str:
    return "".join(" " * spaces + line + "\n" for line in lines)


def _pair_function(name: str, pair: Callable[..., Any]) -> str:
    """name(c0, c1, c2, c3, k0, k1, &first, &second): two random numbers at a counter."""
    m = CMachine()
    counter = [CValue(m, f"c{i}", "u64") for i in range(4)]
    first, second = pair(m, counter, (CValue(m, "k0", "u64"), CValue(m, "k1", "u64")))
    return (
        f"DEVICE void {name}(u64 c0, u64 c1, u64 c2, u64 c3, u64 k0, u64 k1, double& first, double& second) {{\n"
        f"{_indent(m.lines)}  first = {first.text};\n  second = {second.text};\n}}\n"
    )


def _bridge_functions() -> str:
    """single(w, z, &W, &zeta) and joint(w, z, a, &W, &J, &zeta, &eta): fresh normals become those of a partial step."""
    text = ""
    for name, outputs in (("single", ("W", "zeta")), ("joint", ("W", "J", "zeta", "eta"))):
        m = CMachine()
        w = [m.wrap(f"w[{k}]") for k in range(COLUMNS)]
        z, a, W, J, zeta, eta = (m.wrap(v) for v in ("z", "a", "W", "J", "zeta", "eta"))
        values = single(w, z, W, zeta) if name == "single" else joint(m, w, z, a, W, J, (zeta, eta))
        inputs = "double z" if name == "single" else "double z, double a"
        lines = [*m.lines, *(f"{o} = {v.text};" for o, v in zip(outputs, values, strict=True))]
        references = ", ".join(f"double& {o}" for o in outputs)
        text += f"DEVICE void {name}(const double* w, {inputs}, {references}) {{\n{_indent(lines)}}}\n"
    return text


def _step_function(tr: SDETrace, index: int) -> str:
    """step_<index>(y, z, p, t, h, root): the traced method on one member's state, in place."""
    m = CMachine()
    env: dict[str, CValue] = {f"y:{i}": m.wrap(f"y[{i}]") for i in range(tr.dimension)}
    env |= {name: m.wrap(f"z[{k}]") for k, name in enumerate(tr.names)}
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
    shared = _pair_function("pair", normal_pair) + _pair_function("signs", sign_group) + _pair_function(
        "uniforms", unit_pair) + _bridge_functions()
    return PRELUDE + shared + "".join(_entries(tr, i) for i, tr in enumerate(traces))


def _entries(tr: SDETrace, index: int) -> str:
    return f"""
{_step_function(tr, index)}{c_jumps(tr, index) if tr.jumps else ""}
{_kernel(tr, index)}#ifndef __CUDACC__
extern "C" void host_run_{index}({_ARGUMENTS}) {{
  blockDim.x = 1; threadIdx.x = 0;
  for (i64 i = 0; i < n; i++) {{ blockIdx.x = (unsigned)i; sde_run_{index}({_NAMES}); }}
}}
#endif
"""


def _kernel(tr: SDETrace, index: int) -> str:
    """The loop over saves and steps of one member, and the Brownian bridge to save times between steps."""
    d, draws, channels, parameters = (max(1, v) for v in (tr.dimension, len(tr.draws), tr.channels, len(tr.parameters)))
    pick = [
        f"p[{k}] = varying[{tr.varying.index(name)}*n + i];" if name in tr.varying else f"p[{k}] = uniform[{k}];"
        for k, name in enumerate(tr.parameters)
    ]
    fills = {"z": ("pair", Purpose.STEP), "a": ("pair", Purpose.AUXILIARY), "b": ("signs", Purpose.SIGN),
             "u": ("uniforms", Purpose.COUNT)}  # fmt: skip
    draw = [
        f"{fills[kind][0]}(member, (u64)drawn, {word}ull, {int(fills[kind][1])}ull, k0, k1, even[{k}], odd[{k}]);"
        for k, (kind, word) in enumerate(tr.draws)
    ]
    return f"""KERNEL sde_run_{index}({_ARGUMENTS}) {{
  const i64 i = blockIdx.x*(i64)blockDim.x + threadIdx.x;
  if (i >= n) return;
  const u64 member = (u64)members[i];
  double y[{d}], copy[{d}], p[{parameters}], waste;
  double even[{draws}], odd[{draws}], part[{draws}], W[{channels}], J[{channels}];
  for (int j = 0; j < {d}; j++) y[j] = initial[j*n + i];
{_indent(pick)}  i64 s = 0, drawn = -1;
  for (i64 save = 0; save < saves; save++) {{
    const double* w = bridge + {COLUMNS}*save;
    for (;;) {{
      const bool last = s >= due[save];
      if (last && !(w[3] > 0.0)) break;
      if ((s >> 1) != drawn) {{
        drawn = s >> 1;
{_indent(draw, 8)}      }}
      if (last) break;
{_advance(tr, index, "y", "(s & 1) ? odd : even", "h, root")}      s++;
    }}
    for (int j = 0; j < {d}; j++) copy[j] = y[j];
    if (w[3] > 0.0) {{
      const double* own = (s & 1) ? odd : even;
      for (int k = 0; k < {len(tr.draws)}; k++) part[k] = own[k];
{_indent(_bridges(tr), 6)}{_advance(tr, index, "copy", "part", "w[3], w[4]")}    }}
    for (int j = 0; j < {d}; j++) out[(save*{d} + j)*n + i] = copy[j];
  }}
}}
"""


def _advance(tr: SDETrace, index: int, state: str, draws: str, lengths: str) -> str:
    """A step s of the length and its root `lengths`; its jumps come after it where s is even, else before."""
    step = f"step_{index}({state}, {draws}, p, t, {lengths});"
    length = lengths.split(",")[0]
    jumps = [f"if ({when}) jumps_{index}({state}, p, {t}, {length}, member, (u64)s, k0, k1);"
             for when, t in (("s & 1", "t"), ("!(s & 1)", f"t + {length}"))]  # fmt: skip
    lines = [jumps[0], step, jumps[1]] if tr.jumps else [step]
    return _indent(["{", "  const double t = t0 + (double)s*h;", *(f"  {line}" for line in lines), "}"], 6)


def _bridges(tr: SDETrace) -> list[str]:
    """For each process: two fresh normals, and from them W, J and the normals of the partial step."""
    lines = []
    for c in range(tr.channels):
        lines.append(f"if (w[5] == 0.0) {{ W[{c}] = 0.0; J[{c}] = 0.0; }}")
        auxiliary = tr.joint[c] if tr.joint else -1
        second = f"part[{auxiliary}]" if auxiliary >= 0 else "waste"
        counter = f"member, (u64)s, ((u64)w[5] << 16) | {c}ull, {int(Purpose.BRIDGE)}ull, k0, k1"
        lines.append(f"pair({counter}, part[{c}], {second});")
        if auxiliary >= 0:
            lines.append(f"joint(w, own[{c}], own[{auxiliary}], W[{c}], J[{c}], part[{c}], {second});")
        else:
            lines.append(f"single(w, own[{c}], W[{c}], part[{c}]);")
    return lines
