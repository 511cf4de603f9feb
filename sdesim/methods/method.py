"""What is known of a time-stepping method: its step and, as data beside it, orders, noise types and source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

# from the most special to the most general: a method for one type serves every type before it
NOISE_TYPES = ("none", "additive", "scalar", "diagonal", "commutative", "general")


@dataclass(frozen=True)
class Method:
    """One time-stepping method.

    `step` is the pure function of its paper. `kind` is "sde" (finite-dimensional), "law" (finite-dimensional, sampled
    from its transition law), "jump" (jumps alone, event by event), "leap" (takes the model's jumps itself), "stencil"
    (fields, finite volumes), "implicit" (the same), "spectral" (fields, modal space) or "reference" (fields, finite
    volumes by SciPy). `calculus` is the stochastic calculus whose solution it converges to, None if it takes no
    noise. Orders are those of the source, `order` the one without noise; `strong` and `weak` are None where they do
    not apply. `requires` raises ValueError for a model whose structure the method does not serve. `refined` gives the
    step for a model and a size of step, for a method whose work depends on them. With bounds `step` may be that of a
    path that knows none, and `push(m, t, before, after, h, draw)` what they make of it; `landing` says what becomes
    of a state that an event of a jump has moved, with bounds (see `methods.bounded`). `points` is how many values an
    increment of its noise takes, None for a normal one. A step of a multistep method uses those `past` before it; its
    first steps are by `start`. `reach` bounds what a step of it may be times the rates of what it takes explicitly,
    None for what its order suggests.

    >>> from sdesim.methods import table
    >>> table()["milstein"].strong
    1.0
    """

    name: str
    step: Callable[..., Any]
    kind: str
    source: str
    noise: tuple[str, ...] = ("none",)
    calculus: str | None = None
    order: float | None = None
    strong: float | None = None
    weak: float | None = None
    details: str = ""
    requires: Callable[[Any], None] | None = None
    refined: Callable[[Any, float], Callable[..., Any]] | None = None
    points: int | None = None
    push: Callable[..., Any] | None = None
    landing: Callable[..., Any] | None = None
    past: int = 0
    start: Callable[..., Any] | None = None
    reach: float | None = None

    def at(self, model: Any, h: float) -> Method:
        """The method for a model and steps of h."""
        return self if self.refined is None else replace(self, step=self.refined(model, h), refined=None)

    def refusal(self, model: Any) -> str | None:
        """Why the method does not serve an SDE, by the type of its noise or its structure; None if it does.

        >>> import sdesim as sim
        >>> from sdesim.methods import find
        >>> find("sra1", ("sde",)).refusal(sim.SDE({"x": "-x"}, {"x": "x"}))
        'it does not serve scalar noise'
        """
        if model.noise_type not in self.noise:
            return f"it does not serve {model.noise_type} noise"
        try:
            if self.requires is not None:
                self.requires(model)
        except ValueError as error:
            return str(error)
        return None

    def __post_init__(self) -> None:
        unknown = set(self.noise) - {*NOISE_TYPES, "multiplicative"}
        if unknown:
            raise ValueError(f"{self.name}: noise types are among {NOISE_TYPES}, got {sorted(unknown)}")
