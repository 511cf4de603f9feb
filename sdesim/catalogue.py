"""What the library offers, as tables: `sim.methods()`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdesim.methods import rows
from sdesim.methods.adaptive import adapts

if TYPE_CHECKING:
    import pandas as pd


def methods() -> pd.DataFrame:
    """Every method: name, kind, orders, noise types, calculus and source, one row each.

    "adaptive" names the types of noise for which its steps can follow an error estimate (`rtol`, `atol`).

    >>> import sdesim as sim
    >>> sim.methods().loc["milstein", "strong"]
    np.float64(1.0)
    """
    import pandas as pd

    table = [
        {
            "name": m.name,
            "kind": m.kind,
            "order": m.order,
            "strong": m.strong,
            "weak": m.weak,
            "noise": ", ".join(m.noise),
            "calculus": m.calculus or "",
            "adaptive": ", ".join(adapts(m)),
            "source": m.source,
            "details": m.details,
        }
        for m in rows()
    ]
    return pd.DataFrame(table).set_index("name").astype({"order": float, "strong": float, "weak": float})
