"""CUDA source of the kernel with steps that follow an error estimate: one thread per member, the bits of the CPU.

The formulas are those of `sde_tree` and of the traced method; the order of choices is that of `sde_sweep`. A thread's
right halves wait in local memory. For a build on the host, `host_adapt_i` is the loop over threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import evaluate
from sdesim.kernels.cuda import PRELUDE, compile_for_host
from sdesim.kernels.machines import CMachine
from sdesim.kernels.sde_hazard import c_events, c_hazard
from sdesim.kernels.sde_trace import SDETrace
from sdesim.kernels.sde_tree import (
    ALLOWED,
    DOUBT,
    FINEST,
    MEMORY,
    descent,
    excess,
    instants,
    judged,
    place,
    split,
    whole,
    word,
)
from sdesim.kernels.sde_walls import c_meet, c_walls
from sdesim.methods.adaptive import LEVELS
from sdesim.streams import Purpose, normal_pair, seed_key

THREADS = 128
_ARGUMENTS = (
    ("const i64*", "members"), ("i64", "n"), ("const double*", "initial"), ("const double*", "varying"),
    ("const double*", "uniform"), ("const double*", "control"), ("double*", "out"), ("i64", "saves"), ("i64", "first"),
    ("const i64*", "roots"), ("const double*", "parts"), ("double", "t0"), ("double", "H"), ("i64*", "stuck"),
    ("i64*", "steps"), ("u64", "k0"), ("u64", "k1"),
)  # fmt: skip


def c_function(
    name: str, inputs: Sequence[str], outputs: Sequence[str], body: Callable[..., Sequence[Any]], words: str = ""
) -> str:
    """name(inputs…, &outputs…): what the body gives for its inputs, float64 but for the `words`.

    >>> print(c_function("twice", ["x"], ["y"], lambda m, x: [x + x]))
    DEVICE void twice(double x, double& y) {
      const double v0 = x + x;
      y = v0;
    }
    <BLANKLINE>
    """
    m, integers = CMachine(), words.split()
    kinds = {v: "u64" if v in integers else "double" for v in (*inputs, *outputs)}
    values = body(m, *(m.wrap(v, kinds[v]) for v in inputs))
    arguments = ", ".join([f"{kinds[v]} {v}" for v in inputs] + [f"{kinds[v]}& {v}" for v in outputs])
    lines = [*m.lines, *(f"{v} = {value.text};" for v, value in zip(outputs, values, strict=True))]
    return f"DEVICE void {name}({arguments}) {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _shared() -> str:
    counter, state = ["c0", "c1", "c2", "c3", "k0", "k1"], ["z", "a", "W", "J", "w", "ahead"]
    key = " ".join(counter)

    def below(m: Any, z: Any, a: Any, W: Any, J: Any, w: Any, ahead: Any, *c: Any) -> Sequence[Any]:
        node, path = descent(m, (z, a), (W, J), w, ahead, c[:4], c[4:])
        return *node, *path

    def close(m: Any, z: Any, a: Any, W: Any, J: Any, w: Any, length: Any) -> Sequence[Any]:
        return whole(m, (W, J), (z, a), w, length)

    return "".join([
        c_function("pair", counter, ["first", "second"], lambda m, *c: normal_pair(m, c[:4], c[4:]), key),
        c_function("halve", ["z", "a", *counter], ["zl", "al", "zr", "ar"],
                   lambda m, z, a, *c: split(m, (z, a), c[:4], c[4:]), key),
        c_function("descend", [*state, *counter], ["z1", "a1", "W1", "J1"], below, key),
        c_function("move", ["number", "w", "ahead"], ["number1", "w1", "ahead1"], place, "number number1"),
        c_function("close", ["z", "a", "W", "J", "w", "length"], ["z1", "a1"], close),
        c_function("clock", ["step", "x", "w", "t0", "H"], ["t", "h", "root"], instants),
    ])  # fmt: skip


def _step(tr: SDETrace, index: int) -> str:
    """step_i(y, z, a, p, t, h, root, result) and error_i(y, coarse, fine, w, control): of the traced method."""
    m, d = CMachine(), range(tr.dimension)
    env: dict[Any, Any] = {f"y:{i}": m.wrap(f"y[{i}]") for i in d}
    env |= {f"{kind}:{c}": m.wrap(f"{kind}[{c}]") for kind, c in tr.draws}
    env |= {f"p:{name}": m.wrap(f"p[{k}]") for k, name in enumerate(tr.parameters)}
    env |= {"t:": m.wrap("t"), "h:": m.wrap("h"), "s:": m.wrap("root")}
    results = evaluate(tr.step, env, m)
    lines = [*m.lines, *(f"result[{i}] = {value.text};" for i, value in enumerate(results))]
    e, d = CMachine(), range(tr.followed)
    rows = [[e.wrap(f"{name}[{i}]") for i in d] for name in ("y", "coarse", "fine")]
    atol = [e.wrap(f"control[{4 + LEVELS + i}]") for i in d]
    error = excess(e, rows[0], rows[1], rows[2], e.wrap("w"), e.wrap("control[0]"), atol)
    found, reckoned, rough = judged(e, error, e.wrap("rough"), e.wrap("share"), e.wrap("control[3]"))
    state = "const double* y, const double*"
    return (
        f"DEVICE void step_{index}({state} z, const double* a, const double* p, double t, double h, double root, "
        f"double* result) {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n"
        f"DEVICE double error_{index}({state} coarse, const double* fine, double w, double share, double& rough, "
        "double& reckoned, const double* control) {\n"
        + "".join(f"  {line}\n" for line in e.lines) + f"  rough = {rough.text};\n  reckoned = {reckoned.text};\n"
        f"  return {found.text};\n}}\n"
    )  # fmt: skip


_KERNEL = Template("""\
KERNEL adapt_${index}(${arguments}) {
  const i64 i = blockIdx.x*(i64)blockDim.x + threadIdx.x;
  if (i >= n) return;
  const u64 member = (u64)members[i];
  double y[${d}], coarse[${d}], half[${d}], fine[${d}], last[${d}], p[${parameters}], t, h, root, one, two;
  double z[${c}], a[${c}], zl[${c}], al[${c}], zr[${c}], ar[${c}], W[${c}], J[${c}], wait[${depth}];
  for (int j = 0; j < ${d}; j++) y[j] = initial[j*n + i];
${pick}  i64 s = 0, save = first, accepted = 0, rejected = 0;
  int level = 0, wanted = 0, doubt = ${DOUBT};
  u64 number = 1, events = 0;
  double x = 0.0, w = 1.0, step = 0.0, rough = 0.0;
  bool fresh = true;
  while (save < saves) {
    if (fresh) ${every} { ${begin}}
    fresh = false;
    for (;;) {
      ${every} halve(z[c], a[c], member, (u64)s, number, ${key}, zl[c], al[c], zr[c], ar[c]);
      if (level >= wanted) break;
      ${down}
    }
    const double part = w*0.5, middle = x + part, end = x + w;
    clock(step, x, w, t0, H, t, h, root);
    ${call}(y, z, a, p, t, h, root, coarse);
    clock(step, x, part, t0, H, t, h, root);
    ${call}(y, zl, al, p, t, h, root, half);
    clock(step, middle, part, t0, H, t, h, root);
    ${call}(half, zr, ar, p, t, h, root, fine);
    double reckoned;
    const double found = error_${index}(y, coarse, fine, w, control[4 + level], rough, reckoned, control);
    const bool doubts = doubt > 0, near = (doubts ? reckoned : found*${forgiven}) <= 1.0;
    const bool good = near && !doubts && ${may};
    doubt = near ? doubt - doubts : (doubts ? ${DOUBT} : 0);
    const double likely = reckoned*${MEMORY};
    wanted = level + (good ? (likely > 1.0) - (reckoned <= control[1]) : 1) + (likely > control[2]);
    if (wanted > ${FINEST}) wanted = ${FINEST};
    ${walls}${events}for (; good && save < saves && roots[save] == s && parts[save] <= end; save++) {
      for (int j = 0; j < ${d}; j++) last[j] = fine[j];
      if (parts[save] < end) {
        const bool right = parts[save] > middle;
        const double start = right ? middle : x, length = parts[save] - start;
        double v = part, ahead = length;
        u64 below = 2*number + right;
        ${every} { z[c] = right ? zr[c] : zl[c]; a[c] = right ? ar[c] : al[c]; W[c] = 0.0; J[c] = 0.0; }
        while (ahead < v) {
          ${every} descend(z[c], a[c], W[c], J[c], v, ahead, member, (u64)s, below, ${key}, z[c], a[c], W[c], J[c]);
          move(below, v, ahead, below, v, ahead);
        }
        ${every} close(z[c], a[c], W[c], J[c], v, length, z[c], a[c]);
        clock(step, start, length, t0, H, t, h, root);
        ${call}(right ? half : y, z, a, p, t, h, root, last);
        ${at_save}
        ${event_at_save}
      }
      for (int j = 0; j < ${d}; j++) out[(save*${dimension} + j)*n + i] = last[j];
    }
    if (good) {
      accepted++;${count}
      for (int j = 0; j < ${d}; j++) y[j] = fine[j];
      x = end; number++;
      while (!(number & 1)) { number >>= 1; level--; w *= 2.0; }
      if (level < 0) { s++; step += 1.0; x = 0.0; w = 1.0; level = 0; fresh = true; }
      else ${every} { z[c] = ${waiting}]; a[c] = ${waiting} + 1]; }
    } else {
      rejected++;
      if (level >= ${FINEST}) { stuck[i] = 1; break; }
      ${down}
    }
  }
  steps[i] = accepted;
  steps[n + i] = rejected;
}
#ifndef __CUDACC__
extern "C" void host_adapt_${index}(${arguments}) {
  blockDim.x = 1; threadIdx.x = 0;
  for (i64 i = 0; i < n; i++) { blockIdx.x = (unsigned)i; adapt_${index}(${values}); }
}
#endif
""")


def _kernel(tr: SDETrace, index: int) -> str:
    d, c, parameters = (max(1, v) for v in (tr.dimension, tr.channels, len(tr.parameters)))
    source = {name: f"varying[{k}*n + i]" for k, name in enumerate(tr.varying)}
    pick = "".join(f"  p[{k}] = {source.get(name, f'uniform[{k}]')};\n" for k, name in enumerate(tr.parameters))
    begin = "".join(
        f"pair(member, (u64)s >> 1, (u64)c, {int(purpose)}ull, k0, k1, one, two); {name}[c] = (s & 1) ? two : one; "
        for name, purpose in (("z", Purpose.STEP), ("a", Purpose.AUXILIARY))
    )
    every, waiting = f"for (int c = 0; c < {tr.channels}; c++)", f"wait[(level*{c} + c)*2"
    down = f"""level++; number *= 2; w *= 0.5;
      {every} {{ z[c] = zl[c]; a[c] = al[c]; {waiting}] = zr[c]; {waiting} + 1] = ar[c]; }}"""
    walls, at_save = c_meet(tr, index)
    may, events, event_at_save = c_events(tr, index)
    return _KERNEL.substitute(
        walls=walls, at_save=at_save, may=may, events=events, event_at_save=event_at_save,
        count=" events += came;" if tr.hazard else "",
        d=d, c=c, dimension=tr.dimension, parameters=parameters, pick=pick, begin=begin, every=every, waiting=waiting,
        down=down, call=f"step_{index}", index=index, key=f"{word(0)}ull + {word(1) - word(0)}ull*(u64)c, k0, k1",
        arguments=", ".join(f"{kind} {name}" for kind, name in _ARGUMENTS), values=", ".join(v for _, v in _ARGUMENTS),
        depth=(FINEST + 2) * 2 * c, forgiven=1.0 / ALLOWED, FINEST=FINEST, DOUBT=DOUBT, MEMORY=MEMORY,
    )  # fmt: skip


def adaptive_source(*traces: SDETrace) -> str:
    """The whole source: for trace i `adapt_i`, one thread per member, and `host_adapt_i` when built for the host."""
    parts = (f(tr, i) for i, tr in enumerate(traces) for f in (_step, c_walls, c_hazard, _kernel))
    return PRELUDE + _shared() + "".join(parts)


def adaptive_on_host(*traces: SDETrace) -> list[Callable[..., None]]:
    """The source of the traces compiled as C++ in one go: for each what `launch` calls, on arrays of this machine.

    Raises FileNotFoundError if there is no C++ compiler.
    """
    library = compile_for_host(adaptive_source(*traces))
    types = {"i64": ctypes.c_longlong, "u64": ctypes.c_ulonglong, "double": ctypes.c_double}

    def caller(index: int) -> Callable[..., None]:
        entry = getattr(library, f"host_adapt_{index}")
        entry.argtypes = [types.get(kind, ctypes.c_void_p) for kind, _ in _ARGUMENTS]
        return lambda *values: entry(*(v.ctypes.data if isinstance(v, np.ndarray) else v for v in values))

    return [caller(i) for i in range(len(traces))]


def adaptive_on_gpu(tr: SDETrace) -> Callable[..., None]:
    """The source of a trace built for the GPU: what `launch` calls; results are copied back.

    Raises ModuleNotFoundError with the install command if CuPy is missing.
    """
    try:
        import cupy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'device="cuda" needs CuPy: pip install "sdesim[cuda12x]" or "sdesim[cuda13x]", by your CUDA version'
        ) from error
    kernel = cupy.RawModule(code=adaptive_source(tr), options=("--fmad=false", "--std=c++17")).get_function("adapt_0")
    scalars: dict[str, Any] = {"i64": np.int64, "u64": np.uint64, "double": np.float64}

    def call(*values: Any) -> None:
        held = [cupy.asarray(v) if kind not in scalars else scalars[kind](v)
                for (kind, _), v in zip(_ARGUMENTS, values, strict=True)]  # fmt: skip
        n = int(values[1])
        kernel(((n + THREADS - 1) // THREADS,), (THREADS,), tuple(held))
        for (kind, _), mine, theirs in zip(_ARGUMENTS, values, held, strict=True):
            if kind in ("double*", "i64*"):
                mine[...] = cupy.asnumpy(theirs)

    return call


def launch(
    call: Callable[..., None], tr: SDETrace, initial: NDArray[np.float64], parameters: Mapping[str, Any],
    control: NDArray[np.float64], saves: tuple[NDArray[np.int64], NDArray[np.float64], int], t0: float,
    H: float, seed: int, members: NDArray[np.int64], out: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
    """Fill `out` (time, state, member) from the first save after the start on; (stuck, steps) as the CPU does."""
    count = len(members)
    varying = [np.broadcast_to(np.asarray(parameters[n], float), count) for n in tr.varying]
    uniform = np.array([*(0.0 if n in tr.varying else float(parameters[n]) for n in tr.parameters), 0.0])
    stuck, steps = np.zeros(count, np.int64), np.zeros((2, count), np.int64)
    roots, parts, first = saves
    call(
        np.ascontiguousarray(members, np.int64), count, np.ascontiguousarray(initial),
        np.array([*varying, np.zeros(count)]), uniform, control, out, len(roots), first, roots, parts, t0, H,
        stuck, steps, *(int(k) for k in seed_key(seed)),
    )  # fmt: skip
    return stuck, steps
