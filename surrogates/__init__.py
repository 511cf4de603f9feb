"""surrogates: score-based generative models of physical fields, learned from any xarray Dataset.

>>> import numpy as np, xarray as xr, surrogates as sur
>>> u = xr.DataArray(np.random.default_rng(0).normal(size=(60, 16)), dims=("member", "x"))
>>> model = sur.Surrogate(["u"], network=False).fit(xr.Dataset({"u": u}))
>>> model.sample(members=4, seed=1).sizes["member"]
4
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from surrogates.files import ModelFileError
from surrogates.guidance import Observation
from surrogates.surrogate import NotFittedError, Surrogate, load

if TYPE_CHECKING:
    from surrogates.report import report
    from surrogates.scores import evaluate

__all__ = ["ModelFileError", "NotFittedError", "Observation", "Surrogate", "evaluate", "load", "report"]


def __getattr__(name: str) -> Any:
    # Scores and the report bring in SciPy and Matplotlib: only those who ask for them wait for them.
    if name == "evaluate":
        from surrogates.scores import evaluate

        return evaluate
    if name == "report":
        from surrogates.report import report

        return report
    raise AttributeError(f"surrogates has no attribute {name!r}; it offers {__all__}")
