"""What is averaged: a functional of the state at one time, sampled on coupled copies of the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.arithmetic import NUMPY
from sdesim.calculus import evaluate
from sdesim.ensemble import available_threads, distributions, draw
from sdesim.estimation.bounds import absorbing
from sdesim.estimation.coupled import Copy, couple
from sdesim.initial import sde_initial
from sdesim.integrate import integrate
from sdesim.methods.method import Method
from sdesim.models.sde import SDE
from sdesim.parsing import as_expr
from sdesim.streams import Purpose, seed_key, words

Functional = Callable[[Mapping[str, Any]], NDArray[np.float64]]
_BLOCK = 2**17  # members sampled at once


@dataclass(frozen=True, eq=False)
class Problem:
    """E[P(X(time))]: everything `estimate` was given, in final form."""

    model: SDE
    initial: Any
    time: float
    functional: Functional
    parameters: Mapping[str, Any]
    scheme: Method
    seed: int
    backend: str

    def controlled(self, control: Functional, mean: float, weight: float) -> Problem:
        """The same expected value, of P − β(C − E C)."""
        plain = self.functional
        return replace(self, functional=lambda env: plain(env) - weight * (control(env) - mean))

    def start(self, numbers: NDArray[np.int64], seed: int) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Initial states (state, member), with what bounds add to them, and parameters of these members."""
        every = {**self.model.parameters, **self.parameters}
        values = draw(every, numbers, seed=seed)
        how: dict[str, Any] = {"design": "random", "seed": seed, "first_axis": len(distributions(every))}
        state = sde_initial(self.model, self.initial, numbers, values, **how)[0]
        return (np.vstack([state, np.ones(len(numbers))]) if absorbing(self.model) else state), dict(values)

    def value(self, states: NDArray[np.float64], parameters: Mapping[str, Any]) -> NDArray[np.float64]:
        """P of each member from its states (state, member). Raises ValueError where it is not a number.

        With bounds that absorb, the mean of P over what may have happened between the steps.
        """
        if not np.isfinite(states).all():
            raise ValueError("some paths did not stay finite: give more steps at the coarsest level, steps=..., or "
                             "another scheme")  # fmt: skip
        env = {**parameters, "t": self.time, **dict(zip(self.model.states, states, strict=False))}
        left = absorbing(self.model)
        if left is None:
            return self._evaluated(env, states.shape[1:])
        (name, wall), alive = left, states[-1]
        gone = {**env, name: np.full_like(alive, wall), "alive": np.zeros_like(alive)}
        inside = self._evaluated({**env, "alive": np.ones_like(alive)}, alive.shape)
        return np.asarray(alive * inside + (1.0 - alive) * self._evaluated(gone, alive.shape))

    def _evaluated(self, env: Mapping[str, Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
        with np.errstate(all="ignore"):
            found = np.asarray(self.functional(env))
        if found.dtype.kind not in "biuf":
            raise TypeError(f"functional must give real numbers; its result is an array of {found.dtype}")
        found = found.astype(np.float64)
        if found.shape not in ((), shape):
            raise ValueError(f"functional must give one number for each of {shape[0]} members; its result has the "
                             f"shape {found.shape}")  # fmt: skip
        if not np.isfinite(found).all():
            raise ValueError("functional is not finite for some members; state it for every value of the states")
        return np.broadcast_to(found, shape)

    def sample(
        self, copies: tuple[Copy, ...], steps: int, first: int, count: int, stream: int
    ) -> NDArray[np.float64]:
        """Σ weight·P over the copies, for members first … first+count−1 of an independent stream; (member,).

        `steps` are those of the coarsest copy. Raises ValueError for more members than 2³².
        """
        if first + count > 2**32:
            raise ValueError(f"{first + count:.3g} samples are wanted of one level, more than the 2³² that have noise: "
                             "ask for a larger rmse")  # fmt: skip
        whole, method = _coupled(self.model, self.scheme, copies)
        seed, times = stream_seed(self.seed, stream), np.array([0.0, self.time])
        out = np.empty(count)
        for begin in range(0, count, _BLOCK):
            numbers = np.arange(first + begin, first + min(begin + _BLOCK, count), dtype=np.int64)
            state, values = self.start(numbers, seed)
            result = integrate(whole, method, np.tile(state, (len(copies), 1)), values, times, self.time / steps,
                               seed=seed, members=numbers, backend=self.backend,
                               threads=available_threads())  # fmt: skip
            ends = result.states[-1].reshape(len(copies), len(state), -1)
            total = sum(copy.weight * self.value(end, values) for copy, end in zip(copies, ends, strict=True))
            out[begin : begin + len(numbers)] = total
        return out


@lru_cache(maxsize=32)
def _coupled(model: SDE, scheme: Method, copies: tuple[Copy, ...]) -> tuple[SDE, Method]:
    """Once for each kind of level, so that its kernel is generated once."""
    return couple(model, scheme, copies)


def stream_seed(seed: int, stream: int) -> int:
    """The seed of an independent stream of the same experiment.

    >>> stream_seed(1, 0) != stream_seed(1, 1)
    True
    """
    counter = [np.uint64(v) for v in (stream, 0, 0, Purpose.SAMPLE)]
    return int(words(NUMPY, counter, seed_key(seed))[0])


def functional_of(value: Any, model: SDE, what: str = "functional") -> Functional:
    """A functional as a function of {name: array over the members}, from text, or from a function of arrays.

    A function takes states and parameters by the names of its arguments, or one argument that is none of them: the
    mapping {name: array}. Raises `EquationError` for an unknown name in text, TypeError for anything else.

    >>> from sdesim.equations import geometric_brownian_motion
    >>> functional_of("max(x - 1, 0)", geometric_brownian_motion())({"x": np.array([0.5, 3.0])})
    array([0., 2.])
    """
    known = [*model.states, *model.parameters, "t", *(["alive"] if absorbing(model) else [])]
    if callable(value) and not hasattr(value, "op"):
        arguments = list(inspect.signature(value).parameters)
        if set(arguments) <= set(known):
            return lambda env: np.asarray(value(**{name: env[name] for name in arguments}))
        if len(arguments) == 1:
            return lambda env: np.asarray(value(env))
        raise TypeError(f"{what} takes states and parameters by name ({', '.join(known)}) or one mapping of them; its "
                        f"arguments are {', '.join(arguments)}")  # fmt: skip
    if not isinstance(value, str | int | float) and not hasattr(value, "op") and not hasattr(value, "free_symbols"):
        raise TypeError(f"{what} is an expression of the states or a function of arrays, got {value!r:.80}")
    node = as_expr(value, known, what)
    return lambda env: np.asarray(evaluate([node], env)[0], np.float64)
