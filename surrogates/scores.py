"""How far one ensemble of fields is from another: `evaluate(reference, synthetic)` -> a Dataset of scores.

Every variable of the result says its formula in `long_name` and its source in `references`; the arithmetic
is in `distances` and `spectra`. The dimensions member, time and draw count samples, all others are space.
Scores that are distances have a floor above zero, the sampling error of finite ensembles: read them beside
the same score of fresh draws from the truth (the solver), never alone.

If both ensembles carry the same parameters on `member`, and every reference member finds K ≥ 2 synthetic
members of exactly its parameters, the proper scores are those of a conditional forecast: K draws for each
held-out member. Otherwise the synthetic ensemble is one climatological forecast of every reference field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from surrogates import measures
from surrogates.alignment import Ensembles, align, pairing, samples, shared_parameters, shared_variables


def evaluate(
    reference: xr.Dataset,
    synthetic: xr.Dataset,
    *,
    variables: Sequence[str] | None = None,
    condition: Sequence[str] | None = None,
    training: xr.Dataset | None = None,
    periodic: Mapping[str, bool] | None = None,
    block: int = 1,
    bootstrap: int = 400,
    patch_sizes: Sequence[int] = (3, 6),
    seed: int = 0,
) -> xr.Dataset:
    """Score a synthetic ensemble against a reference (held-out) ensemble.

    Args:
        reference: variables over (member and/or time, *space), free of NaN.
        synthetic: the same variables over the same space, any number of samples.
        variables: names to score; None scores all that both hold with a space dimension.
        condition: parameters on `member` that pair synthetic members with reference members; None uses all
            the real-valued coordinates of `member` that both have, an empty sequence pairs nothing.
        training: the fields that the model saw; adds the memorisation scores.
        periodic: for each space dimension; None judges by the reference (`spectra.is_periodic`).
        block: neighbouring samples drawn together in the bootstrap (the correlation time of a series).
        bootstrap: how many bootstrap ensembles the confidence bands use.
        patch_sizes: sides in cells of the patches in the patch Wasserstein distance.
        seed: of patches, directions and bootstrap.

    Returns:
        Dataset with dimensions `band`, `axis` and `probability`, and `variable` where there are several;
        attribute `conditional` is 1 where the proper scores are conditional.

    Raises:
        KeyError: a variable is missing.
        ValueError: grids differ, values are not finite, named conditions do not pair.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> make = lambda: xr.Dataset({"u": (("member", "x"), rng.normal(size=(200, 32)))}, {"x": np.arange(32.0)})
    >>> scores = evaluate(make(), make())
    >>> 0.8 < float(scores.spectrum_ratio.min()) <= float(scores.spectrum_ratio.max()) < 1.25
    True
    """
    names = list(variables) if variables is not None else shared_variables(reference, synthetic)
    pairs = pairing(reference, synthetic, condition)
    parts = []
    for name in names:
        pair = align(reference, synthetic, name, pairs, periodic)
        part = measures.proper(pair)
        part |= measures.spectral(pair, block=block, bootstrap=bootstrap, seed=seed)
        part |= measures.distribution(pair, patch_sizes, block=block, bootstrap=bootstrap, seed=seed)
        part |= measures.maps(pair)
        if training is not None:
            part |= measures.memorisation(pair, samples(training, name, pair.space))
        parts.append(_labelled(part, pair, str(reference[name].attrs.get("units", "1"))))
    if len(names) == 1:
        scores = parts[0].assign_coords(variable=names[0])
    else:
        scores = xr.concat(parts, dim=xr.DataArray(names, dims="variable", name="variable"), coords="minimal")
    scores.attrs = {
        "title": "Scores of a synthetic ensemble against a reference ensemble",
        "conditional": int(pairs is not None),
        "draws_per_member": 0 if pairs is None else len(pairs),
    }
    return scores


def compare(
    reference: xr.Dataset,
    sources: Mapping[str, xr.Dataset | Sequence[xr.Dataset]],
    *,
    condition: Sequence[str] | None = None,
    training: xr.Dataset | None = None,
    **options: Any,
) -> xr.Dataset:
    """Scores of several ensembles against one reference, along a new dimension `source`.

    `sources` maps a name (surrogate, fresh, gaussian) to an ensemble, or to several independent ones of the same size
    whose scores are averaged: a floor that owes nothing to the luck of one draw. `options` are those of `evaluate`,
    the same for all; conditions pair either all ensembles with the reference or none. What belongs to the reference
    alone has no `source` dimension. Raises what `evaluate` raises.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> make = lambda a: xr.Dataset({"u": (("member", "x"), a * rng.normal(size=(200, 32)))}, {"x": np.arange(32.0)})
    >>> scores = compare(make(1), {"fresh": make(1), "wide": make(2)})
    >>> bool(scores.crps.sel(source="wide") > scores.crps.sel(source="fresh"))
    True
    """
    if not sources:
        raise ValueError("wanted at least one ensemble to score, got none: pass {name: Dataset}")
    groups = [[ds] if isinstance(ds, xr.Dataset) else list(ds) for ds in sources.values()]
    if condition is None:  # what one ensemble lacks must not pair another
        condition = shared_parameters(reference, [ds for group in groups for ds in group])
        if any(pairing(reference, ds, condition, strict=False) is None for group in groups for ds in group):
            condition = ()
    options |= {"condition": condition, "training": training}
    each = [_mean([evaluate(reference, ds, **options) for ds in group]) for group in groups]
    own = [n for n in each[0].data_vars if not str(n).startswith("reference_") and n != "variance_share"]
    label = xr.DataArray(list(sources), dims="source", name="source", attrs={"long_name": "ensemble scored"})
    scores = xr.concat([e[own] for e in each], dim=label, coords="minimal", compat="override")
    scores = scores.assign({str(n): each[0][n] for n in each[0].data_vars if n not in own})
    for name in own:
        scores[name].attrs = each[0][name].attrs
    scores.attrs = each[0].attrs | {"conditional": min(int(e.attrs["conditional"]) for e in each)}
    return scores


def _mean(several: Sequence[xr.Dataset]) -> xr.Dataset:
    """The scores of one ensemble, or the mean of those of several."""
    if len(several) == 1:
        return several[0]
    with xr.set_options(keep_attrs=True):
        total = several[0]
        for other in several[1:]:
            total = total + other
        return total / len(several)


def _labelled(part: measures.Scores, pair: Ensembles, units: str) -> xr.Dataset:
    """The scores of one variable with their coordinates; "u" in a score's units stands for the field's own."""
    ds = xr.Dataset({name: (s.dims, s.value, s.attributes(units)) for name, s in part.items()})
    ds = ds.assign_coords(axis=("axis", list(pair.space)), probability=("probability", list(measures.PROBABILITIES)))
    ds = ds.set_coords(["band_low", "band_high", "wavenumber", "resolved"])
    ds["probability"].attrs = {"long_name": "probability of the quantile", "units": "1"}
    return ds
