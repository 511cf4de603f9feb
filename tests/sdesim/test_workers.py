"""Groups of members computed in any sizes, and on a Dask cluster one of whose workers dies: the same bits."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from scipy import stats

import sdesim as sim


def patterns(**options):
    """Gray–Scott with a step that differs between members, since dt is left to the method."""
    model = sim.equations.gray_scott(sim.Grid(x=(0, 2.5, 16), y=(0, 2.5, 16)), "lambda")
    start = {"u": sim.GaussianField(mean=0.8, std=0.1, length=0.2), "v": sim.GaussianField(mean=0.3, std=0.3, length=0.2)}
    return sim.simulate(model, start, [0.0, 20.0], seed=1, **options)


def particles(**options):
    return sim.simulate(
        sim.equations.langevin(), {"x": 0.0, "v": 0.0}, [0.0, 1.0], parameters={"kT": stats.uniform(0.1, 0.3)},
        dt=0.01, seed=4, **options,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:v makes interfaces")  # bits, not patterns, are looked at
@pytest.mark.parametrize("make", [patterns, particles])
def test_the_size_of_a_group_and_the_company_change_no_bit(make):
    whole = make(members=12)
    assert make(members=12, chunks={"member": 5}).identical(whole)
    name = str(next(iter(whole.data_vars)))
    assert make(members=[7])[name].equals(whole[name].sel(member=[7]))


@pytest.mark.parametrize("bad", [{"x": 3}, {"member": 0}, {"member": True}, 3])
def test_chunks_say_what_they_are(bad):
    with pytest.raises(ValueError, match="member"):
        particles(members=2, chunks=bad)


def test_a_client_is_a_client():
    with pytest.raises(TypeError, match=r"dask\.distributed\.Client"):
        particles(members=2, client="tcp://somewhere")


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_loses_a_worker_gives_the_same_bits():
    distributed = pytest.importorskip("distributed")
    whole = particles(members=4000)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        pid = next(iter(client.run(os.getpid).values()))
        os.kill(pid, signal.SIGKILL)
        spread = particles(members=4000, client=client, chunks={"member": 300})
        kept = particles(members=4000, client=client, save="statistics")
    assert spread.identical(whole)
    assert np.isfinite(spread.x).all()
    np.testing.assert_allclose(kept.x_mean, whole.x.mean("member"), rtol=1e-11, atol=1e-14)
    assert kept.attrs["members"] == 4000 and (kept.v_histogram.sum("bin") == 4000).all()
