"""Scores against the libraries that others use: scoringrules (CRPS, energy score) and POT (Wasserstein distance)."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import scoringrules

from surrogates import distances

RNG = np.random.default_rng(5)
DRAWS = RNG.normal(size=(7, 4, 3, 5))  # K draws for each of N fields of 3 × 5
TRUTH = RNG.normal(0.5, 2.0, size=(4, 3, 5))


def test_crps_is_the_fair_one_of_scoringrules() -> None:
    peer = scoringrules.crps_ensemble(TRUTH, DRAWS, m_axis=0, estimator="fair", backend="numpy")
    np.testing.assert_allclose(distances.fair_crps(DRAWS, TRUTH), peer, rtol=1e-12, atol=1e-12)


def test_energy_score_is_that_of_scoringrules_per_root_cell() -> None:
    ours = distances.fair_energy_score(DRAWS, TRUTH) * np.sqrt(15)  # ours is in units of the field, not of its norm
    draws, truth = DRAWS.reshape(7, 4, 15), TRUTH.reshape(4, 15)
    biased = scoringrules.es_ensemble(truth, draws, m_axis=0, v_axis=-1, backend="numpy")
    spread = np.mean(
        [np.linalg.norm(draws[k] - draws[j], axis=-1) for k in range(7) for j in range(7) if j != k], axis=0
    )
    fair = biased + 0.5 * spread * (6 / 7) - 0.5 * spread  # Σ over K² pairs, of which K are zero, to K (K − 1)
    np.testing.assert_allclose(ours, fair, rtol=1e-10)


def test_a_pool_scores_as_the_same_draws_for_every_field() -> None:
    pool = DRAWS[:, 0]
    repeated = np.repeat(pool[:, None], len(TRUTH), axis=1)
    peer = scoringrules.crps_ensemble(TRUTH, repeated, m_axis=0, estimator="fair", backend="numpy")
    np.testing.assert_allclose(distances.pool_crps(pool, TRUTH), peer, rtol=1e-10, atol=1e-12)


def test_quantile_distance_is_the_wasserstein_distance_of_the_pixels() -> None:
    a, b = RNG.normal(size=4000), RNG.gumbel(0.3, 1.2, size=3000)
    ours = distances.quantile_distance(a, b, levels=20_000) * a.std()
    assert ours == pytest.approx(ot.wasserstein_1d(a, b, p=1), rel=2e-3)  # quadrature over 20,000 levels
