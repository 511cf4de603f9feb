"""What an estimate says of itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Level:
    """Samples of one level: `mean` and `variance` of P_ℓ − P_ℓ₋₁ (of P at the first), `cost` scheme steps each."""

    steps: int
    samples: int
    mean: float
    variance: float
    cost: int


@dataclass(frozen=True)
class Estimate:
    """An expected value with what is known of its error.

    `value` ± `standard_error` is the sample's; `bias` bounds what the finest step is estimated to leave; together
    √(standard_error² + bias²) ≤ the rmse asked for. `cost` is the scheme's steps, over all members, pilots included.
    For "mc" and "rqmc" the last of `levels` is the sample and those before it are the pilots that chose the step.

    >>> Estimate(1.0, 0.3, 0.4, 64, "mc", "milstein", (Level(4, 16, 1.0, 1.44, 4),)).error
    0.5
    """

    value: float
    standard_error: float
    bias: float
    cost: int
    method: str
    scheme: str
    levels: tuple[Level, ...]

    @property
    def error(self) -> float:
        """√(standard_error² + bias²)."""
        return float(np.hypot(self.standard_error, self.bias))

    @property
    def variances(self) -> NDArray[np.float64]:
        """The variance of one sample of each level."""
        return np.array([level.variance for level in self.levels])

    def __str__(self) -> str:
        found = f"{self.value:.6g} ± {self.standard_error:.2g}, bias ≲ {self.bias:.2g}"
        lines = [f"{found}   [{self.method}, {self.scheme}, {self.cost:.3g} steps]",
                 f"{'steps':>7} {'samples':>10} {'mean':>12} {'variance':>12}"]  # fmt: skip
        lines += [f"{v.steps:>7} {v.samples:>10} {v.mean:>12.4e} {v.variance:>12.4e}" for v in self.levels]
        return "\n".join(lines)
