"""Every sampler beside its paper's formula on single modes (`amplification.py`): equal to round-off on every process.

So what a sampler misses of the exact law is its method's own error, and that of the first-order ones is known in closed
form. With q = s²/(λ + s²), d ln y/d ln s = q along the flow and dq/d ln s = 2q(1 − q); a step of DDIM over Δ = ln(s/s')
multiplies by 1 − (1 − e^{−Δ})q, which is Δ²q(1 − q)/2 less than ∫q says, to O(Δ³). Summed over equal steps the amplitude
is short by Δ(q_M − q_m)/4, the variance by Δ(q_M − q_m)/2.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sdesim as sim
from surrogates import diffusions, flows, samplers
from surrogates.noising import PROCESSES, Coloured, heat, process
from surrogates.processes import EDM, noise_levels
from tests.surrogates import amplification as formula

torch.set_num_threads(1)
F64 = torch.float64
VARIANCE = torch.logspace(-3, 2, 6, dtype=F64)
LOW, HIGH = 0.02, 60.0
FIELDS = {
    "heat": heat(sim.Grid(x=(0.0, 1.0, 6)), ("neumann",), 0.02, HIGH),
    "coloured": Coloured(EDM(), VARIANCE.sqrt()),
}
PATHS = {name: process(name) for name in PROCESSES} | FIELDS
OURS = {"euler": flows.euler, "heun": samplers.heun, "ddim": flows.ddim, "dpm_2m": flows.dpm_2m, "unipc": flows.unipc}
NOISY = {name: getattr(diffusions, name) for name in formula.DIFFUSIONS}


def denoise(y: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    return VARIANCE / (VARIANCE + s**2) * y


@pytest.mark.parametrize("name", sorted(PATHS))
@pytest.mark.parametrize("sampler", sorted(OURS))
def test_flows_are_their_formula(sampler, name):
    times = PATHS[name].time_of_level(noise_levels(LOW, HIGH, 30, rho=7.0))
    start = torch.randn(2, 1, 6, dtype=F64, generator=torch.Generator().manual_seed(1))
    got = OURS[sampler](denoise, start, PATHS[name], times)
    want = formula.FLOWS[sampler](formula.Path.of(PATHS[name], times), VARIANCE.numpy(), start[:, 0].numpy())
    assert np.allclose(got[:, 0], want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "sampler, name", [(s, p) for s in sorted(NOISY) for p in sorted(PATHS) if s != "churn" or p not in FIELDS]
)
def test_diffusions_are_their_formula(sampler, name):
    """Churn visits levels that no time of a process of fields has."""
    times = PATHS[name].time_of_level(noise_levels(LOW, HIGH, 30, rho=7.0))
    z = torch.randn(61, 2, 1, 6, dtype=F64, generator=torch.Generator().manual_seed(2))
    got = NOISY[sampler](denoise, z[60], PATHS[name], times, lambda k: z[k])
    path = formula.Path.of(PATHS[name], times)
    want = formula.DIFFUSIONS[sampler](path, VARIANCE.numpy(), z[60, :, 0].numpy(), lambda k: z[k, :, 0].numpy())
    assert np.allclose(got[:, 0], want, rtol=1e-9, atol=1e-12)


def shortfall(levels: torch.Tensor) -> torch.Tensor:
    """1 − variance of DDIM over that of the exact flow, to O(Δ²), equal steps of ln s."""
    q = levels**2 / (VARIANCE + levels**2)
    return 0.5 * torch.log(levels[0] / levels[1]) * (q[0] - q[-1])


@pytest.mark.parametrize("name", sorted({*PATHS} - {"heat"}))  # whose levels are even in no mode but the mean
@pytest.mark.parametrize("steps", [100, 400])
def test_what_ddim_misses_is_what_theory_says(name, steps):
    """var/λ = [s_M²/(λ + s_M²)]·[λ/(λ + s_m²)]·(1 − Δ(q_M − q_m)/2) to Δ², on every process alike; also by Euler's
    rule where time is the noise level."""
    path = PATHS[name]
    times = path.time_of_level(noise_levels(LOW, HIGH, steps))
    levels = torch.stack([path.sigma(t) / path.alpha(t) for t in times]).reshape(steps + 1, -1)
    truth = levels[0] ** 2 / (VARIANCE + levels[0] ** 2) * VARIANCE / (VARIANCE + levels[-1] ** 2)
    square = (math.log(HIGH / LOW) / steps) ** 2
    assert float(shortfall(levels).max()) > 4 * square  # or nothing would be seen
    for sampler in (flows.ddim, flows.euler) if name == "edm" else (flows.ddim,):
        end = sampler(denoise, path.sigma(times[0]) * torch.ones(1, 1, 6, dtype=F64), path, times)[0, 0]
        found = 1.0 - end**2 / VARIANCE / truth
        assert float((found - shortfall(levels)).abs().max()) < square


def test_a_wrong_half_is_caught():
    """Mutation: a DDIM that takes its noise from the end of a step misses its formula and the shortfall."""
    levels = noise_levels(LOW, HIGH, 400)
    y = HIGH * torch.ones(6, dtype=F64)
    for s, after in zip(levels[:-1], levels[1:], strict=True):
        y = denoise(y, after) + after / s * (y - denoise(y, after))
    truth = HIGH**2 / (VARIANCE + HIGH**2) * VARIANCE / (VARIANCE + LOW**2)
    found = 1.0 - (denoise(y, levels[-1]) ** 2 / VARIANCE) / truth
    assert float((found - shortfall(levels[:, None])).abs().max()) > 10 * (math.log(HIGH / LOW) / 400) ** 2
