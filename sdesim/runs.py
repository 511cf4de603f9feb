"""A call of `simulate` in final form: everything checked, nothing done yet; and the work on any of its members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.boundaries import Absorbing
from sdesim.calculus import evaluate
from sdesim.certificates import certificates, settle
from sdesim.choice import Choice, check_device, choose
from sdesim.coefficients import on_grid
from sdesim.ensemble import distributions, draw, member_numbers
from sdesim.forecast import foresee
from sdesim.initial import coefficient_fields, is_field, is_list, over_members, pde_initial, sde_initial
from sdesim.kernels.field_reference import Sheet
from sdesim.kernels.sde_hazard import first_events, with_hazard
from sdesim.methods.adaptive import Control
from sdesim.methods.bounded import ALIVE, bounded
from sdesim.methods.field_control import FieldControl
from sdesim.models.pde import PDE
from sdesim.models.sde import SDE
from sdesim.own_steps import followed
from sdesim.richardson import TIGHTER, errors
from sdesim.tolerance import adaptive_choice

DEVICES = ("cpu", "cuda", "reference")
Engine: TypeAlias = tuple[NDArray[np.float64], NDArray[np.int8], dict[str, Any]]


class Group(NamedTuple):
    """States (time, state, member, *space), status (member,), what is known of each member by name (member,), notes."""

    states: NDArray[np.float64]
    status: NDArray[np.int8]
    marks: dict[str, NDArray[np.float64]]
    notes: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A validated call of `simulate`: everything that work needs, in final form.

    `clock` is `times` with the start in front; `skip` tells whether the start is not itself saved.
    """

    model: SDE | PDE
    numbers: NDArray[np.int64]
    parameters: dict[str, Any]
    initial: NDArray[np.float64]
    clock: NDArray[np.float64]
    skip: int
    choice: Choice
    seed: int
    dtype: str
    device: str
    record: dict[str, Any]
    certify: bool = False
    sheet: Sheet | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The states."""
        return self.model.states if isinstance(self.model, SDE) else tuple(self.model.state)

    @property
    def absorbs(self) -> bool:
        """Whether members can leave the model's bounds."""
        return isinstance(self.model, SDE) and any(isinstance(b, Absorbing) for b in self.model.bounds.values())

    @property
    def arithmetic(self) -> str:
        """The format of the arithmetic: that of what is stored for SDEs with fixed steps, else float64."""
        free = self.choice.control is not None or self.choice.method.kind != "sde"
        if not isinstance(self.model, SDE) or self.model.bounds or self.model.jumps or free:
            return "float64"
        return self.dtype

    @property
    def space(self) -> dict[str, NDArray[np.float64]]:
        """Cell centres by axis, in array order; empty for an SDE."""
        return {} if isinstance(self.model, SDE) else self.model.grid.coordinates

    def group(self, positions: slice, threads: int) -> Group:
        """The members at these positions, integrated; one that is not finite holds its last good state from there on.

        With bounds that are not sampled exactly the last state is the time of exit, below all times if there is none.
        """
        states, status, said = self._integrated(positions, threads)
        notes = {name: value for name, value in said.items() if np.ndim(value) == 0}
        marks = {"last_good_time": settle(states, status, self.clock)}
        marks |= {name: value for name, value in said.items() if name not in notes}
        if isinstance(self.model, PDE):
            own = {n: v[positions] if np.ndim(v) else v for n, v in self.parameters.items()}
            marks |= certificates(self.model, states, self.clock, own)
            if self.certify:
                part = self.part(positions)
                marks |= errors(part, states, notes, part.steps(), threads)
        return Group(states, status, marks, notes)

    def flowing(self, positions: slice, states: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """The potentials (time, member, *space) of the members at these positions, from their states."""
        if isinstance(self.model, SDE) or not self.model.potential:
            return []
        own = {n: v[positions] if np.ndim(v) else v for n, v in self.parameters.items()}
        known = on_grid(self.model.grid, self.model.fields, {**self.model.parameters, **own})
        with np.errstate(all="ignore"):
            return [term.values(states[:, self.names.index(name)], known)
                    for name, term in self.model.potential.items()]

    def integrated(self, threads: int, sheet: Sheet) -> NDArray[np.float64]:
        """The states of all members, with the noise of another run's steps and cells."""
        return replace(self, sheet=sheet)._integrated(slice(None), threads)[0]

    def steps(self) -> NDArray[np.float64] | None:
        """The longest step of each member, None where the method takes none or all take `choice.dt`."""
        settled = self.choice.dt is not None or self.choice.control is not None
        if settled or not isinstance(self.model, PDE) or self.choice.method.kind == "spectral":
            return self.choice.steps
        from sdesim.stencil_integrate import steps_of

        return steps_of(self.model, self.choice.method.name, self.initial, self.parameters, self.clock)

    def _integrated(self, positions: slice, threads: int) -> Engine:
        """States (time, state, member, *space), status and notes, as the engine of the method leaves them.

        A note that is an array is a mark of each member.
        """
        from sdesim import integrate, integrate_adaptive, integrate_exact, integrate_field

        numbers = self.numbers[positions]
        own = {n: v[positions] if np.ndim(v) else v for n, v in self.parameters.items()}
        start = np.ascontiguousarray(self.initial[:, positions], self.arithmetic)
        backend = {"cpu": "kernel", "reference": "numpy", "cuda": "cuda"}[self.device]
        common: dict[str, Any] = {"seed": self.seed, "members": numbers, "backend": backend, "threads": threads}
        if isinstance(self.model, SDE):
            if self.choice.method.kind == "law":
                start = np.vstack([start, np.full(len(numbers), ALIVE)]) if self.absorbs else start
                states = integrate_exact.sample(self.model, self.choice.method, start, own, self.clock, **common)
                return states, np.where(np.isfinite(states).all(axis=(0, 1)), 0, 1).astype(np.int8), {}
            step = self.choice.dt or 1.0  # an SDE's choice always has a step
            model, method = self.model, self.choice.method
            if model.bounds:
                model, method = bounded(model, method, apart=self.choice.control is not None)
                start = np.vstack([start, np.full(len(numbers), ALIVE)])
            if isinstance(self.choice.control, Control):
                if model.jumps:
                    model, start = with_hazard(model), np.vstack([start, first_events(self.seed, numbers)])
                free = integrate_adaptive.integrate_adaptive(model, method, start, own, self.clock, step,
                                                             self.choice.control, **common)  # fmt: skip
                return free.states, free.status, dict(zip(("steps", "rejected_steps"), free.steps, strict=True))
            flat = integrate.integrate(model, method, start, own, self.clock, step, **common)
            return flat.states, flat.status, {}
        if self.choice.steps is not None:
            return self._own_steps(positions, threads)
        control = self.choice.control if isinstance(self.choice.control, FieldControl) else None
        if control is not None and self.sheet is not None and self.sheet.halves:
            control = control.tightened(TIGHTER)
        field = integrate_field.integrate(self.model, self.choice.method, start, own, self.clock, self.choice.dt,
                                          sheet=self.sheet, control=control, **common)  # fmt: skip
        return field.states, field.status, dict(field.notes)

    def part(self, positions: slice | NDArray[np.int64]) -> Run:
        """The work on the members at these positions alone."""
        steps = self.choice.steps
        return replace(
            self,
            numbers=self.numbers[positions],
            parameters={n: v[positions] if np.ndim(v) else v for n, v in self.parameters.items()},
            initial=np.ascontiguousarray(self.initial[:, positions]),
            choice=self.choice if steps is None else replace(self.choice, steps=steps[positions]),
            record={},
        )

    def _own_steps(self, positions: slice, threads: int) -> Engine:
        """As `_integrated`, where each member has a step of its own: members of equal steps go together."""
        whole = self.part(positions)
        assert isinstance(whole.model, PDE)
        assert whole.choice.steps is not None

        def advance(where: NDArray[np.int64], first: int, start: NDArray[np.float64], step: float) -> Engine:
            alike = replace(whole.part(where), initial=start, clock=self.clock[first:],
                            choice=replace(self.choice, dt=step, steps=None))
            return alike._integrated(slice(None), threads)

        return followed(whole.model, self.choice.method, whole.initial, whole.parameters, self.clock,
                        whole.choice.steps, advance)


def merged(notes: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """What engines said of two groups of members, free of how members were cut into groups.

    Of numbers the largest (the smallest of a limit), of texts each once.

    >>> merged({"steps": 3, "solver": "modes"}, {"steps": 7, "solver": "sparse LU", "advection": "upwind"})
    {'steps': 7, 'solver': 'modes; sparse LU', 'advection': 'upwind'}
    """
    result = dict(notes)
    for name, value in more.items():
        old = result.get(name, value)
        if isinstance(value, str):
            result[name] = "; ".join(sorted({*str(old).split("; "), *value.split("; ")}))
        else:
            result[name] = min(old, value) if name.endswith("limit") else max(old, value)
    return result


def prepare(
    model: SDE | PDE, initial: Any, times: Any, members: Any, parameters: Mapping[str, Any], device: str,
    call: dict[str, Any],
) -> Run:  # fmt: skip
    """Check everything a call of `simulate` was given and put it in final form; no work is done yet."""
    if not isinstance(model, (SDE, PDE)):
        raise TypeError(f"model is an SDE or a PDE, got {type(model).__name__}; see sim.equations for a catalogue")
    if device not in DEVICES:
        raise ValueError(f"device is one of {', '.join(DEVICES)}, got {device!r}")
    if call["dtype"] not in ("float64", "float32"):
        raise ValueError(f'dtype is "float64" or "float32", got {call["dtype"]!r}')
    from sdesim.streams import seed_key

    seed_key(call["seed"])
    clock, skip = _clock(times)
    numbers = member_numbers(members)
    original = model
    model, values, given = _parameters(model, parameters, numbers, call["design"], call["seed"])
    taken = len(distributions({**model.parameters, **parameters}))
    how: dict[str, Any] = {"design": call["design"], "seed": call["seed"], "first_axis": taken}
    if isinstance(model, SDE):
        state, record = sde_initial(model, initial, numbers, values, **how)
    else:
        state, record = pde_initial(model, initial, numbers, values, **how)
    if "rtol" in call:
        choice = adaptive_choice(model, call["method"], call["dt"], clock, call["rtol"], call["atol"], state,
                                 values)  # fmt: skip
    else:
        choice = choose(model, call["method"], call["dt"], clock, state, values)
    check_device(model, choice.method, device)
    if isinstance(model, PDE):
        foresee(model, choice if choice.control is None else replace(choice, dt=None), clock, state, values)
    if isinstance(model, SDE) and choice.method.kind != "law":
        _check_start(model, state, values, float(clock[0]))
    kept = {
        "model": original, "initial": record, "times": clock[skip:], "members": _compact(numbers), "parameters": given,
        **call, "method": choice.method.name, "dt": choice.dt,
    }  # fmt: skip
    return Run(model, numbers, values, state, clock, skip, choice, int(call["seed"]), call["dtype"], device, kept,
               bool(call.get("certify")))


def _check_start(model: SDE, state: NDArray[np.float64], parameters: Mapping[str, Any], t: float) -> None:
    """Raise ValueError where a drift or noise is finite, or a rate at least 0, for none of the members at the start."""
    terms = [(f"drift of {s}", f) for s, f in model.drift.items()]
    terms += [(f"noise {c} of {s}", g) for (s, c), g in model.noise.items()]
    for some in (slice(0, 64), slice(None)):  # a few are enough where all is well
        env = {n: v[some] if np.ndim(v) else v for n, v in parameters.items()} | {"t": t}
        env |= dict(zip(model.states, state[:, some], strict=True))
        values = evaluate([node for _, node in terms], env)
        lost = [what for (what, _), v in zip(terms, values, strict=True) if not np.isfinite(v).any()]
        rates = evaluate([jump.rate for jump in model.jumps.values()], env)
        lost += [f"rate of the jump {j}" for j, v in zip(model.jumps, rates, strict=True)
                 if not np.any(np.isfinite(v) & (v >= 0.0))]  # fmt: skip
        if not lost:
            return
    at = ", ".join(f"{s} = {x:g}" for s, x in zip(model.states, state[:, 0], strict=True))
    kind = "number at least 0" if lost[0].startswith("rate") else "number"
    raise ValueError(f"the {lost[0]} is not a finite {kind} at the start of any member ({at}, t = {t:g}): state it for "
                     "such values, for example by where(...), or start elsewhere")  # fmt: skip


def _compact(numbers: NDArray[np.int64]) -> range | list[int]:
    """A range where the numbers are one, else a list: short in a file."""
    first, last = int(numbers[0]), int(numbers[-1])
    if last - first + 1 == len(numbers) and (np.diff(numbers) == 1).all():
        return range(first, last + 1)
    return [int(n) for n in numbers]


def _clock(times: Any) -> tuple[NDArray[np.float64], int]:
    """(the start and every save time, how many of the first to skip)."""
    try:
        array = np.atleast_1d(np.asarray(times))
    except ValueError:  # lists of unequal lengths
        array = np.empty(0)
    if array.dtype.kind not in "iuf" or array.ndim != 1 or array.size == 0:
        raise ValueError(f"times is a list of increasing numbers, got {times!r}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all() or (np.diff(array) <= 0).any():
        raise ValueError(f"times must be finite and strictly increasing, got {array}; sort them and drop repeats")
    return (np.concatenate([[0.0], array]), 1) if array[0] > 0.0 else (array, 0)


def _parameters(
    model: SDE | PDE, overrides: Mapping[str, Any], numbers: NDArray[np.int64], design: str, seed: int
) -> tuple[SDE | PDE, dict[str, Any], dict[str, Any]]:
    """The model with what are fields as its fields, every parameter's values, and for provenance the overrides.

    There whatever is a list in the members' order knows their numbers.
    """
    names = (*model.parameters, *(model.fields if isinstance(model, PDE) else ()))
    unknown = sorted(set(overrides) - set(names))
    if unknown:
        known = ", ".join(names) or "none"
        raise ValueError(f"'{unknown[0]}' is no parameter of this model; its parameters are {known}")
    fields = {} if isinstance(model, SDE) else {n: v for n, v in overrides.items() if is_field(model, n, v)}
    every = {name: v for name, v in {**model.parameters, **overrides}.items() if name not in fields}
    values = dict(draw(every, numbers, design=design, seed=seed))
    lists = {name: over_members(np.asarray(v, float), numbers) for name, v in every.items() if is_list(v)}
    given = {**overrides, **lists}
    if isinstance(model, PDE):
        model, more, record = coefficient_fields(model, fields, numbers, values, seed)
        values, given = {**values, **more}, {**given, **record}
    return model, values, given
