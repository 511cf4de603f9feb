"""The same work done by this library and by its peers: models, and for each peer one small function.

A function takes a problem, paths and steps, and gives a function that does the work. Where the peer is not installed it
raises ImportError.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sde_kernels import LANGEVIN, LORENZ, hand_written

import sdesim as sim

H = 0.001
Work = Callable[[], object]


@dataclass(frozen=True)
class Problem:
    """A model for us as text, and for the others the same as functions of arrays; `noise` has (state, amplitude)."""

    name: str
    model: sim.SDE
    drift: Callable[..., tuple[Any, ...]]
    noise: tuple[tuple[int, Callable[..., Any]], ...]
    c: str

    @property
    def states(self) -> int:
        """How many states there are."""
        return len(self.model.states)


def constant(value: float) -> Callable[..., float]:
    """An amplitude that depends on nothing."""
    return lambda *y: value


def _langevin(x: Any, y: Any, v: Any, w: Any) -> tuple[Any, ...]:
    return v, w, x - x * x * x - y * y * x - 0.5 * v, -y - x * x * y - 0.5 * w


PROBLEMS = (
    Problem("OU", sim.SDE({"x": "-k*x"}, {"x": "s"}, parameters={"k": 0.5, "s": 0.3}),
            lambda x: (-0.5 * x,), ((0, constant(0.3)),), "ou"),
    Problem("GBM", sim.SDE({"x": "m*x"}, {"x": "s*x"}, parameters={"m": 0.05, "s": 0.2}),
            lambda x: (0.05 * x,), ((0, lambda x: 0.2 * x),), "gbm"),
    Problem("Lorenz-63", sim.SDE(LORENZ, dict.fromkeys("xyz", "0.5")),
            lambda x, y, z: (10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z),
            tuple((i, constant(0.5)) for i in range(3)), "lorenz"),
    Problem("Langevin, 2-d", sim.SDE(LANGEVIN, {"v": "0.3", "w": "0.3"}), _langevin,
            ((2, constant(0.3)), (3, constant(0.3))), "langevin"),
)  # fmt: skip
ADDITIVE = (PROBLEMS[0], PROBLEMS[3])


def ours(p: Problem, paths: int, steps: int, method: str = "euler_maruyama") -> Work:
    """`simulate`, from the call to the Dataset with the last states."""
    start = dict.fromkeys(p.model.states, 0.5)
    return lambda: sim.simulate(p.model, start, [steps * H], members=paths, dt=H, method=method)


def hand_c(p: Problem, paths: int, steps: int) -> Work:
    """The same scheme with the same noise, written by hand in C."""
    run = getattr(hand_written_library(), p.c)
    return lambda: run(ctypes.c_long(paths // 512), ctypes.c_long(steps))


_LIBRARY: list[Any] = []


def hand_written_library() -> Any:
    """The compiled C loops. Raises ImportError without a compiler."""
    if not _LIBRARY:
        _LIBRARY.append(hand_written())
    if _LIBRARY[0] is None:
        raise ImportError("no C compiler")
    return _LIBRARY[0]


def vectorised_numpy(p: Problem, paths: int, steps: int) -> Work:
    """A loop over steps on arrays of paths, with NumPy's fastest generator of normals."""
    rng, root = np.random.Generator(np.random.SFC64(1)), np.sqrt(H)

    def work() -> Any:
        y, dW = [np.full(paths, 0.5) for _ in range(p.states)], np.empty(paths)
        for _ in range(steps):
            moves = [v + f * H for v, f in zip(y, p.drift(*y), strict=True)]
            for i, g in p.noise:
                rng.standard_normal(out=dW)
                moves[i] += g(*y) * (dW * root)
            y = moves
        return y

    return work


def jax_scan(p: Problem, paths: int, steps: int) -> Work:
    """`lax.scan` over the steps, compiled."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from jax import numpy as jnp

    @jax.jit
    def run(key: Any) -> Any:
        def step(y: Any, key: Any) -> Any:
            dW = jax.random.normal(key, (len(p.noise), paths), jnp.float64) * np.sqrt(H)
            moves = [v + f * H for v, f in zip(y, p.drift(*y), strict=True)]
            for (i, g), w in zip(p.noise, dW, strict=True):
                moves[i] += g(*y) * w
            return tuple(moves), None

        start = tuple(jnp.full(paths, 0.5) for _ in range(p.states))
        return jax.lax.scan(step, start, jax.random.split(key, steps))[0]

    return lambda: jax.block_until_ready(run(jax.random.key(1)))


def diffrax_unsafe(p: Problem, paths: int, steps: int, solver: str = "Euler") -> Work:
    """`diffeqsolve` with UnsafeBrownianPath, mapped over the paths as its documentation does it."""
    import diffrax
    import jax

    jax.config.update("jax_enable_x64", True)
    from jax import numpy as jnp

    diagonal = len(p.noise) == p.states
    area = diffrax.BrownianIncrement if solver == "Euler" else diffrax.SpaceTimeLevyArea
    columns = [i for i, _ in p.noise]

    def diffusion(t: Any, y: Any, args: Any) -> Any:
        values = jnp.stack([jnp.broadcast_to(jnp.asarray(g(*y), jnp.float64), ()) for _, g in p.noise])
        if diagonal:
            import lineax

            return lineax.DiagonalLinearOperator(values)
        return jnp.zeros((p.states, len(columns))).at[jnp.array(columns), jnp.arange(len(columns))].set(values)

    def solve(key: Any) -> Any:
        path = diffrax.UnsafeBrownianPath((len(p.noise),), key, levy_area=area)
        terms = diffrax.MultiTerm(diffrax.ODETerm(lambda t, y, args: jnp.stack(p.drift(*y))),
                                  diffrax.ControlTerm(diffusion, path))  # fmt: skip
        return diffrax.diffeqsolve(terms, getattr(diffrax, solver)(), 0.0, steps * H, H, jnp.full(p.states, 0.5),
                                   max_steps=steps + 2, adjoint=diffrax.ForwardMode()).ys  # fmt: skip

    run = jax.jit(jax.vmap(solve))
    keys = jax.random.split(jax.random.key(1), paths)
    return lambda: jax.block_until_ready(run(keys))


def torchsde_sdeint(p: Problem, paths: int, steps: int, method: str = "euler") -> Work:
    """`sdeint` with its own Brownian motion, without gradients."""
    import torch
    import torchsde

    diagonal, columns = len(p.noise) == p.states, [i for i, _ in p.noise]

    class Model(torch.nn.Module):
        noise_type, sde_type = "diagonal" if diagonal and p.name == "GBM" else "additive", "ito"

        def f(self, t: Any, y: Any) -> Any:
            return torch.stack(p.drift(*y.unbind(1)), 1)

        def g(self, t: Any, y: Any) -> Any:
            if self.noise_type == "diagonal":
                return torch.stack([p.noise[i][1](*y.unbind(1)) for i in range(p.states)], 1)
            return amplitude.expand(len(y), -1, -1)

    amplitude = torch.zeros(p.states, len(columns), dtype=torch.float64)
    if Model.noise_type == "additive":
        for k, (i, g) in enumerate(p.noise):
            amplitude[i, k] = g()
    times = torch.tensor([0.0, steps * H], dtype=torch.float64)

    def work() -> Any:
        with torch.no_grad():
            y0 = torch.full((paths, p.states), 0.5, dtype=torch.float64)
            return torchsde.sdeint(Model(), y0, times, dt=H, method=method)

    return work
