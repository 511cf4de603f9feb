"""What every sampler makes of one mode of a Gaussian: its paper's formula on a number, in NumPy.

A mode of variance λ has D = W x/α, W = λ/(λ + s²), s = σ/α, so that a sampler is a product of matrices of at most two
rows. Arguments: α, σ, f, g² at the times t, all (steps + 1, modes) or (steps + 1, 1), λ (modes,), x (rows, modes) at
t[0], z(k) (rows, modes). Each walk ends in D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Path:
    """The process at the times of a walk."""

    t: Array
    alpha: Array
    sigma: Array
    drift: Array
    squared: Array

    @classmethod
    def of(cls, process: Any, times: Any) -> Path:
        rows = [getattr(process, name)(t).numpy().reshape(-1) for name in ("alpha", "sigma") for t in times]
        rows += [
            getattr(process, name)(t).numpy().reshape(-1) for name in ("drift", "squared_diffusion") for t in times
        ]
        n = len(times)
        return cls(times.numpy(), *(np.stack(rows[k * n : (k + 1) * n]) for k in range(4)))

    @property
    def level(self) -> Array:
        return self.sigma / self.alpha


def wiener(variance: Array, level: Array) -> Array:
    return variance / (variance + level**2)


def _rate(p: Path, i: int, variance: Array) -> Array:
    """m of dx/dt = m x along the probability flow."""
    return p.drift[i] + 0.5 * p.squared[i] * (1.0 - wiener(variance, p.level[i])) / p.sigma[i] ** 2


def euler(p: Path, variance: Array, x: Array) -> Array:
    for i in range(len(p.t) - 1):
        x = x * (1.0 + (p.t[i + 1] - p.t[i]) * _rate(p, i, variance))
    return wiener(variance, p.level[-1]) * x / p.alpha[-1]


def heun(p: Path, variance: Array, x: Array) -> Array:
    for i in range(len(p.t) - 1):
        h, first, second = p.t[i + 1] - p.t[i], _rate(p, i, variance), _rate(p, i + 1, variance)
        x = x * (1.0 + 0.5 * h * (first + second * (1.0 + h * first)))
    return wiener(variance, p.level[-1]) * x / p.alpha[-1]


def ddim(p: Path, variance: Array, x: Array) -> Array:
    y, s = x / p.alpha[0], p.level
    for i in range(len(s) - 1):
        W = wiener(variance, s[i])
        y = (W + s[i + 1] / s[i] * (1.0 - W)) * y
    return wiener(variance, s[-1]) * y


def dpm_2m(p: Path, variance: Array, x: Array) -> Array:
    y, s, before, last = x / p.alpha[0], p.level, None, None
    for i in range(len(s) - 1):
        data, h = wiener(variance, s[i]) * y, np.log(s[i] / s[i + 1])
        slope = 0.0 if before is None else (data - before) / last
        y = np.exp(-h) * y + (1.0 - np.exp(-h)) * (data + 0.5 * h * slope)
        before, last = data, h
    return wiener(variance, s[-1]) * y


def _lagrange(nodes: list[Array], values: list[Array], u: Array) -> Array:
    """The polynomial through (nodes, values) at u."""
    total = np.zeros_like(u * values[0])
    for j, (node, value) in enumerate(zip(nodes, values)):
        basis = np.ones_like(u * node)
        for k, other in enumerate(nodes):
            if k != j:
                basis = basis * (u - other) / (node - other)
        total = total + basis * value
    return total


def unipc(p: Path, variance: Array, x: Array) -> Array:
    """∫₀^h e^{u−h} P(u) du by Gauss and Legendre on 12 points."""
    y, s = x / p.alpha[0], p.level
    points, weights = np.polynomial.legendre.leggauss(12)
    found, last = [wiener(variance, s[0]) * y], None

    def moved(y: Array, h: Array, nodes: list[Array], values: list[Array]) -> Array:
        parts = []
        for point, weight in zip(points, weights):
            u = 0.5 * h * (point + 1.0)
            parts.append(0.5 * h * weight * np.exp(u - h) * _lagrange(nodes, values, u))
        return np.exp(-h) * y + sum(parts)

    for i in range(len(s) - 1):
        h = np.log(s[i] / s[i + 1])
        nodes = [np.zeros_like(h)] + ([-last] if len(found) == 2 else [])
        predicted = moved(y, h, nodes, found)
        ahead = wiener(variance, s[i + 1]) * predicted
        y = moved(y, h, [*nodes, h], [*found, ahead])
        found, last = [ahead, found[0]], h
    return wiener(variance, s[-1]) * y


def _ancestral(p: Path, i: int, variance: Array, x: Array, z: Array) -> Array:
    a, s, b, r = p.alpha[i], p.sigma[i], p.alpha[i + 1], p.sigma[i + 1]
    rho = a / b
    q = np.sqrt(s**2 - (rho * r) ** 2)
    data = wiener(variance, p.level[i]) * x / a
    return rho * (r / s) ** 2 * x + b * (q / s) ** 2 * data + q * r / s * z


def ancestral(p: Path, variance: Array, x: Array, z: Callable[[int], Array]) -> Array:
    for i in range(len(p.t) - 1):
        x = _ancestral(p, i, variance, x, z(i))
    return wiener(variance, p.level[-1]) * x / p.alpha[-1]


def euler_maruyama(p: Path, variance: Array, x: Array, z: Callable[[int], Array]) -> Array:
    for i in range(len(p.t) - 1):
        h, g2 = p.t[i + 1] - p.t[i], p.squared[i]
        score = -(1.0 - wiener(variance, p.level[i])) / p.sigma[i] ** 2
        x = x * (1.0 + h * (p.drift[i] - g2 * score)) + np.sqrt(-h * g2) * z(i)
    return wiener(variance, p.level[-1]) * x / p.alpha[-1]


def churn(p: Path, variance: Array, x: Array, z: Callable[[int], Array]) -> Array:
    y, s = x / p.alpha[0], p.level
    gamma = min(40.0 / (len(s) - 1), np.sqrt(2.0) - 1.0)
    for i in range(len(s) - 1):
        up, down = (1.0 + gamma) * s[i], s[i + 1]
        y = y + np.sqrt(up**2 - s[i] ** 2) * z(i)
        h, first, second = down - up, (1.0 - wiener(variance, up)) / up, (1.0 - wiener(variance, down)) / down
        y = y * (1.0 + 0.5 * h * (first + second * (1.0 + h * first)))
    return wiener(variance, s[-1]) * y


def sde_2m(p: Path, variance: Array, x: Array, z: Callable[[int], Array]) -> Array:
    y, s, before, last = x / p.alpha[0], p.level, None, None
    for i in range(len(s) - 1):
        data, h = wiener(variance, s[i]) * y, np.log(s[i] / s[i + 1])
        slope = 0.0 if before is None else (data - before) / last
        kept = np.exp(-2.0 * h)
        y = kept * y + (1.0 - kept) * (data + 0.5 * h * slope) + s[i + 1] * np.sqrt(1.0 - kept) * z(i)
        before, last = data, h
    return wiener(variance, s[-1]) * y


def predictor_corrector(p: Path, variance: Array, x: Array, z: Callable[[int], Array]) -> Array:
    for i in range(len(p.t) - 1):
        x = _ancestral(p, i, variance, x, z(2 * i))
        size = 2.0 * (0.16 * p.sigma[i + 1]) ** 2
        x = x * (1.0 - size * (1.0 - wiener(variance, p.level[i + 1])) / p.sigma[i + 1] ** 2)
        x = x + np.sqrt(2.0 * size) * z(2 * i + 1)
    return wiener(variance, p.level[-1]) * x / p.alpha[-1]


FLOWS = {"euler": euler, "heun": heun, "ddim": ddim, "dpm_2m": dpm_2m, "unipc": unipc}
DIFFUSIONS = {
    "ancestral": ancestral, "euler_maruyama": euler_maruyama, "churn": churn, "sde_2m": sde_2m,
    "predictor_corrector": predictor_corrector,
}  # fmt: skip
