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
from sdesim.kernels.sde_counts import c_count, c_counts
from sdesim.kernels.sde_cut import c_cut
from sdesim.kernels.sde_events import c_jumps
from sdesim.kernels.sde_trace import SDETrace
from sdesim.reals import DOUBLE, Format
from sdesim.streams import Purpose, normal_group, sign_group, unit_pair

_ARGUMENTS = (
    "const i64* members, i64 n, const real* initial, const real* varying, const real* uniform, real* out, "
    "i64 saves, const i64* due, const real* bridge, double t0, double h, double root, u64 k0, u64 k1"
)
_NAMES = "members, n, initial, varying, uniform, out, saves, due, bridge, t0, h, root, k0, k1"


def _indent(lines: list[str], spaces: int = 2) -> str:
    return "".join(" " * spaces + line + "\n" for line in lines)


def _fill_function(name: str, group: Callable[..., Any], form: Format) -> str:
    """name(c0, c1, c2, c3, k0, k1, to, stride): the random numbers of a counter, `stride` numbers apart."""
    m = CMachine(form=form)
    counter = [CValue(m, f"c{i}", "u64") for i in range(4)]
    values = group(m, counter, (CValue(m, "k0", "u64"), CValue(m, "k1", "u64")))
    lines = [*m.lines, *(f"to[{i}*stride] = {value.text};" for i, value in enumerate(values))]
    return (
        f"DEVICE void {name}(u64 c0, u64 c1, u64 c2, u64 c3, u64 k0, u64 k1, real* to, int stride) {{\n"
        f"{_indent(lines)}}}\n"
    )


def _bridge_functions(form: Format) -> str:
    """single(w, z, &W, &zeta) and joint(w, z, a, &W, &J, &zeta, &eta): fresh normals become those of a partial step."""
    text = ""
    for name, outputs in (("single", ("W", "zeta")), ("joint", ("W", "J", "zeta", "eta"))):
        m = CMachine(form=form)
        w = [m.wrap(f"w[{k}]") for k in range(COLUMNS)]
        z, a, W, J, zeta, eta = (m.wrap(v) for v in ("z", "a", "W", "J", "zeta", "eta"))
        values = single(w, z, W, zeta) if name == "single" else joint(m, w, z, a, W, J, (zeta, eta))
        inputs = "real z" if name == "single" else "real z, real a"
        lines = [*m.lines, *(f"{o} = {v.text};" for o, v in zip(outputs, values, strict=True))]
        references = ", ".join(f"real& {o}" for o in outputs)
        text += f"DEVICE void {name}(const real* w, {inputs}, {references}) {{\n{_indent(lines)}}}\n"
    return text


def _step_function(tr: SDETrace, index: int, form: Format) -> str:
    """step_<index>(y, z, p, t, h, root): the traced method on one member's state, in place."""
    m = CMachine(form=form)
    env: dict[str, CValue] = {f"y:{i}": m.wrap(f"y[{i}]") for i in range(tr.dimension)}
    env |= {name: m.wrap(f"z[{k}]") for k, name in enumerate(tr.names)}
    env |= {f"p:{name}": m.wrap(f"p[{k}]") for k, name in enumerate(tr.parameters)}
    env |= {"t:": m.wrap("t"), "h:": m.wrap("h"), "s:": m.wrap("root")}
    results = evaluate(tr.step, c_counts(m, tr.counts, env), m)
    held = [f"const real next{i} = {value.text};" for i, value in enumerate(results)]
    held += [f"y[{i}] = next{i};" for i in range(tr.dimension)]
    return (
        f"DEVICE void step_{index}(real* y, const real* z, const real* p, real t, real h, real root) {{\n"
        f"{_indent(m.lines + held)}}}\n"
    )


def cuda_source(*traces: SDETrace, form: Format = DOUBLE) -> str:
    """The whole source: for trace i `sde_run_i`, one thread per member, and `host_run_i` when built for the host."""
    fills = {"pair": normal_group, "signs": sign_group} | ({"uniforms": unit_pair} if form is DOUBLE else {})
    shared = "".join(_fill_function(name, group, form) for name, group in fills.items()) + _bridge_functions(form)
    shared += c_count() if any(tr.counts for tr in traces) else ""
    kind = f"typedef {CMachine(form=form).kind} real;\n"
    return PRELUDE + kind + shared + "".join(_entries(tr, i, form) for i, tr in enumerate(traces))


def _entries(tr: SDETrace, index: int, form: Format) -> str:
    return f"""
{_step_function(tr, index, form)}{(c_cut if tr.cut else c_jumps)(tr, index) if tr.jumps else ""}
{_kernel(tr, index, form)}#ifndef __CUDACC__
extern "C" void host_run_{index}({_ARGUMENTS}) {{
  blockDim.x = 1; threadIdx.x = 0;
  for (i64 i = 0; i < n; i++) {{ blockIdx.x = (unsigned)i; sde_run_{index}({_NAMES}); }}
}}
#endif
"""


def _kernel(tr: SDETrace, index: int, form: Format) -> str:
    """The loop over saves and steps of one member, and the Brownian bridge to save times between steps."""
    d, draws, channels, parameters = (max(1, v) for v in (tr.dimension, len(tr.draws), tr.channels, len(tr.parameters)))
    pick = [
        f"p[{k}] = varying[{tr.varying.index(name)}*n + i];" if name in tr.varying else f"p[{k}] = uniform[{k}];"
        for k, name in enumerate(tr.parameters)
    ]
    fills = {"z": ("pair", Purpose.STEP), "a": ("pair", Purpose.AUXILIARY), "b": ("signs", Purpose.SIGN),
             "u": ("uniforms", Purpose.COUNT)}  # fmt: skip
    draw = [
        f"{fills[kind][0]}(member, (u64)at, {word}ull, {int(fills[kind][1])}ull, k0, k1, drawn + {k}, {draws});"
        for k, (kind, word) in enumerate(tr.draws)
    ]
    return f"""KERNEL sde_run_{index}({_ARGUMENTS}) {{
  const i64 i = blockIdx.x*(i64)blockDim.x + threadIdx.x;
  if (i >= n) return;
  const u64 member = (u64)members[i];
  real y[{d}], copy[{d}], p[{parameters}], fresh[{form.draws}];
  real drawn[{form.draws * draws}], part[{draws}], W[{channels}], J[{channels}];
  for (int j = 0; j < {d}; j++) y[j] = initial[j*n + i];
{_indent(pick)}  i64 s = 0, at = -1;
  for (i64 save = 0; save < saves; save++) {{
    const real* w = bridge + {COLUMNS}*save;
    for (;;) {{
      const bool last = s >= due[save];
      if (last && !(w[3] > 0)) break;
      if (s/{form.draws} != at) {{
        at = s/{form.draws};
{_indent(draw, 8)}      }}
      if (last) break;
{_advance(tr, index, "y", f"drawn + s%{form.draws}*{draws}", "(real)h, (real)root")}      s++;
    }}
    for (int j = 0; j < {d}; j++) copy[j] = y[j];
    if (w[3] > 0) {{
      const real* own = drawn + s%{form.draws}*{draws};
      for (int k = 0; k < {len(tr.draws)}; k++) part[k] = own[k];
{_indent(_bridges(tr), 6)}{_advance(tr, index, "copy", "part", "w[3], w[4]")}    }}
    for (int j = 0; j < {d}; j++) out[(save*{d} + j)*n + i] = copy[j];
  }}
}}
"""


def _advance(tr: SDETrace, index: int, state: str, draws: str, lengths: str) -> str:
    """A step s of the length and its root `lengths`; jumps come after it where s is even, else before, or cut it."""
    step = f"step_{index}({state}, {draws}, p, (real)t, {lengths});"
    length = lengths.split(",")[0]
    jumps = [f"if ({when}) jumps_{index}({state}, p, {t}, {length}, member, (u64)s, k0, k1);"
             for when, t in (("s & 1", "t"), ("!(s & 1)", f"t + {length}"))]  # fmt: skip
    lines = [jumps[0], step, jumps[1]] if tr.jumps else [step]
    if tr.cut:
        lines = [f"cut_{index}({state}, {draws}, p, t, {lengths}, member, (u64)s, k0, k1);"]
    return _indent(["{", "  const double t = t0 + (double)s*h;", *(f"  {line}" for line in lines), "}"], 6)


def _bridges(tr: SDETrace) -> list[str]:
    """For each process: two fresh normals, and from them W, J and the normals of the partial step."""
    lines = []
    for c in range(tr.channels):
        lines.append(f"if (w[5] == 0) {{ W[{c}] = 0; J[{c}] = 0; }}")
        auxiliary = tr.joint[c] if tr.joint else -1
        counter = f"member, (u64)s, ((u64)w[5] << 16) | {c}ull, {int(Purpose.BRIDGE)}ull, k0, k1"
        lines.append(f"pair({counter}, fresh, 1); part[{c}] = fresh[0];")
        if auxiliary >= 0:
            lines.append(f"part[{auxiliary}] = fresh[1];")
            lines.append(f"joint(w, own[{c}], own[{auxiliary}], W[{c}], J[{c}], part[{c}], part[{auxiliary}]);")
        else:
            lines.append(f"single(w, own[{c}], W[{c}], part[{c}]);")
    return lines
