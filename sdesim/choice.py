"""Which method: by name, or by the model's structure, with the reason in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import evaluate
from sdesim.integrate import save_plan
from sdesim.methods import find, rows
from sdesim.methods.adaptive import Control
from sdesim.methods.bounded import check_bounds
from sdesim.methods.field_control import FieldControl
from sdesim.methods.field_scipy import default_control
from sdesim.methods.method import Method
from sdesim.models.pde import PDE
from sdesim.models.sde import SDE
from sdesim.own_steps import fitting

_STEPS = 100  # steps between save times if nobody says otherwise
_MAX_STEPS = 2**32


@dataclass(frozen=True)
class Choice:
    """The method, the step (None: the method's own, or one of `steps` for each member), and why.

    With a `control` the step is the longest, and the method's steps follow its error.
    """

    method: Method
    dt: float | None
    reason: str
    steps: NDArray[np.float64] | None = None
    control: Control | FieldControl | None = None


def choose(
    model: SDE | PDE, name: str | None, dt: float | None, clock: NDArray[np.float64], initial: NDArray[np.float64],
    parameters: Mapping[str, Any],
) -> Choice:  # fmt: skip
    """The method for a model, checked against what the model's noise allows.

    Raises ValueError for a method that does not serve this model (saying which do), a step that is not positive, or
    more steps than the noise has numbers for.

    >>> ou = SDE({"x": "-x"}, {"x": "0.5"})
    >>> choose(ou, None, 0.1, np.array([0.0, 1.0]), np.zeros((1, 1)), {}).method.name
    'shark'
    """
    number = isinstance(dt, (int, float, np.number)) and not isinstance(dt, bool)
    if dt is not None and not (number and math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt is a positive number, got {dt!r}")
    if isinstance(model, SDE):
        choice = _for_sde(model, name, dt, clock)
    else:
        choice = _for_pde(model, name, dt, clock, initial, parameters)
    span = clock[-1] - clock[0]
    if choice.dt is not None and span / choice.dt >= _MAX_STEPS:
        raise ValueError(f"{span / choice.dt:.3g} steps are more than the 2³² that have noise; choose a larger dt")
    return choice


def check_device(model: SDE | PDE, method: Method, device: str) -> None:
    """Raise ValueError, naming those that can, for a method that generates no CUDA source where the device wants it.

    >>> from sdesim.methods import find
    >>> check_device(SDE({"x": "-x"}, {"x": 1}), find("heun", ("sde",)), "cuda")
    """
    if device == "cuda" and isinstance(model, PDE) and method.kind not in ("stencil", "spectral"):
        able = [m.name for m in rows(("stencil", "spectral")) if model.noise_kind in ("none", *m.noise)]
        raise ValueError(f'{method.name} has no CUDA source: with device="cuda" use one of {", ".join(able)}, or '
                         'device="cpu"')  # fmt: skip


def _for_sde(model: SDE, name: str | None, dt: float | None, clock: NDArray[np.float64]) -> Choice:
    noise = model.noise_type
    if name == "exact":
        return _exact(model, dt)
    reason = "asked for"
    if name is None:
        name, reason = _best_for(model)
    method = find(name, ("sde", "law", "jump", "leap"))
    if model.jumps and model.bounds:
        reason += "; steps are cut at the events of jumps, whose rates are those at the beginning of each part"
    elif model.jumps and method.kind == "sde":
        reason += f"; jumps by their exact law, after and before steps in turn: weak order {min(method.weak or 1, 2):g}"
    if noise not in method.noise:
        able = ", ".join(m.name for m in rows(("sde",)) if m.refusal(model) is None)
        raise ValueError(f"{name} does not serve {noise} noise, which this model has; use one of {able}")
    if (refusal := method.refusal(model)) is not None:
        raise ValueError(f"{name}: {refusal}")
    if model.bounds:
        check_bounds(model, method)
    if dt is None:
        gaps = np.diff(clock)
        dt = float(gaps.min()) / _STEPS if gaps.size else 1.0
        reason += f"; dt is the shortest interval between save times over {_STEPS}"
    if method.points is not None and save_plan(clock, float(dt)).bridge.any():
        raise ValueError(
            f"{name} takes a walk of {method.points} values, whose law holds on the grid of steps alone: save at "
            f"multiples of dt = {dt:g} from the start, or take a method of normal increments"
        )
    return Choice(method.at(model, float(dt)), float(dt), reason)


def _exact(model: SDE, dt: float | None) -> Choice:
    method = find("exact", ("law",))
    if (refusal := method.refusal(model)) is not None:
        raise ValueError(f"exact: {refusal}")
    if dt is not None:
        raise ValueError(f"exact goes from save time to save time in law and takes no step; leave dt={dt!r} out")
    return Choice(method, None, "asked for")


def _best_for(model: SDE) -> tuple[str, str]:
    """The method of highest order that evaluates the model only where its solution may be.

    Methods of strong order 1½ for multiplicative noise look about √h g away from the path, which a noise such as √x
    need not bear: they are there by name.
    """
    noise, stratonovich = model.noise_type, model.interpretation == "stratonovich"
    if model.bounds:
        return "euler_maruyama" if noise == "general" else "milstein", (
            "bounds are met by the bridge of a step with frozen noise: weak order 1"
        )
    if model.jumps and find("ssa", ("jump",)).refusal(model) is None:
        return "ssa", "nothing but jumps: every event in turn, exact in law"
    if noise in ("none", "additive") and find("align", ("sde",)).refusal(model) is None:
        return "align", "a Langevin equation: strong order 2, its friction and noise solved exactly"
    if noise == "none":
        return "sra3", "no noise: order 3"
    if noise == "additive":
        return "shark", "additive noise: strong order 1.5 in either calculus, with two evaluations of the drift"
    if noise == "general":
        return "heun" if stratonovich else "euler_maruyama", (
            "the noise does not commute: strong order 1 needs Lévy areas (milstein_levy), weak order 2 has dri1"
        )
    if stratonovich:
        return "heun", f"{noise} noise in the Stratonovich calculus: strong order 1 without derivatives"
    return "milstein", f"{noise} noise: strong order 1 with derivatives taken on the expressions"


def _for_pde(
    model: PDE, name: str | None, dt: float | None, clock: NDArray[np.float64], initial: NDArray[np.float64],
    parameters: Mapping[str, Any],
) -> Choice:  # fmt: skip
    from sdesim.integrate_field import modal_form

    reason = "asked for"
    if name is None:
        name, reason = _best_field_method(model)
    method = find(name, ("stencil", "implicit", "spectral", "reference"))
    if model.noise_kind not in ("none", *method.noise):
        able = [m.name for m in rows(("stencil", "implicit", "spectral")) if model.noise_kind in m.noise]
        raise ValueError(f"{name} does not serve {model.noise_kind} noise, which this model has; use one of "
                         f"{', '.join(able)}")  # fmt: skip
    if model.potential and method.kind not in ("stencil", "reference"):
        able = [m.name for m in rows(("stencil",)) if model.noise_kind in ("none", *m.noise)]
        raise ValueError(f"{name} steps what flows, and {', '.join(model.potential)} flows by a potential "
                         f"({', '.join(map(str, model.potential.values()))}): use {' or '.join(able)}")
    if method.kind == "spectral":
        modal_form(model, method)  # raises what does not fit
    if dt is None and method.kind == "spectral" and not name.startswith("exact"):
        steps = fitting(model, method, initial, parameters, float(clock[0]), float(clock[-1] - clock[0]) or 1.0)
        return Choice(method, None, f"{reason}; each member's dt from the rates of what is not taken exactly", steps)
    control = default_control(model.state) if method.kind == "reference" else None
    return Choice(method, None if dt is None else float(dt), reason, control=control)


def _best_field_method(model: PDE) -> tuple[str, str]:
    """The cheapest method that is accurate for the model's structure."""
    from sdesim.integrate_field import modal_form

    table = {m.name: m for m in rows(("spectral",))}
    reasons = {
        "exact": "constant coefficients and a reaction linear in its own state: exact at any step",
        "etdrk4": "constant coefficients with a nonlinear reaction: order 4, diffusion exact",
        "exponential_euler": "constant coefficients, a nonlinear reaction and additive noise: linear part exact in law",
    }
    asked = model.advection or model.cross_flux  # schemes of finite volumes
    for name, reason in () if asked else reasons.items():
        if model.noise_kind not in ("none", *table[name].noise):
            continue
        try:
            modal_form(model, table[name])
        except ValueError:
            continue
        return name, reason
    if "lon" in model.grid.axes and (by_lines := _for_meridians(model)) is not None:
        return by_lines
    if model.noise:
        return "euler_maruyama", "noise with coefficients or boundaries that no transform diagonalises"
    return "rkl2", "coefficients or boundaries that no transform diagonalises: stabilised explicit, order 2"


def _is_still(model: PDE) -> bool:
    """Whether nothing diffuses, with the model's own parameters."""
    if not model.uses("diffusivity") <= set(model.parameters):
        return False
    values = evaluate(model.expressions["diffusivity"], model.parameters)
    return all(np.all(np.asarray(value) == 0.0) for value in values)


def _for_meridians(model: PDE) -> tuple[str, str] | None:
    """An implicit method for a sphere, where meridians meet; None where the diffusivity changes with state or time."""
    from sdesim.kernels.implicit_operator import split
    from sdesim.stencils import discretise

    if model.potential:
        return None
    if model.noise_kind == "none" and model.velocity and _is_still(model):
        return "ssprk3", "transport without diffusion: explicit, order 3, keeps what limited slopes promise"
    able = {"none": ("tr_bdf2", "ars232"), "additive": ("crank_nicolson", "backward_euler"),
            "multiplicative": ("backward_euler",)}[model.noise_kind]  # fmt: skip
    for name in able:
        try:
            if not split(discretise(model), name).is_affine:
                continue
        except (ValueError, TypeError):
            continue
        return name, "cells are narrow where meridians meet, which explicit steps would have to resolve: implicit"
    return None
