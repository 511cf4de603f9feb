"""Orthonormal discrete transforms of fields, by NumPy and SciPy or, where it is installed, by ducc0.

ducc0 (`pip install 'sdesim[fft]'`) takes about half the time. Each library rounds in its own way: the bits of a
spectral run are those of one library, which `library` names and every such file records; the environment variable
SDESIM_FFT ("numpy" or "ducc0") chooses. Neither plans by the clock, so that a run has the same bits again, and the bits
of a field depend neither on the fields beside it nor on the number of threads.

Results go into `out` where it is given: memory that the system hands out anew for every transform costs as much time
as the transform itself. Axes are counted from the end, −1 the last.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib import metadata
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Work: TypeAlias = Callable[[Array, int, Array], object]
"""(source, axis, target): one transform along an axis."""
LIBRARIES = ("numpy", "ducc0")
_PACK = 64  # lines: a multiple of what ducc0 takes at once, so that a cut changes no bit
_own = threading.local()


@lru_cache(maxsize=1)
def library() -> str:
    """Name of the library that transforms: "numpy" (which has SciPy's for cosines and sines) or "ducc0".

    >>> library() in LIBRARIES
    True
    """
    wanted = os.environ.get("SDESIM_FFT") or None
    if wanted not in (None, *LIBRARIES):
        raise ValueError(f"SDESIM_FFT is {' or '.join(LIBRARIES)}; got {wanted!r}")
    if wanted == "numpy":
        return wanted
    try:
        import ducc0  # noqa: F401
    except ModuleNotFoundError as error:
        if wanted is None:
            return "numpy"
        raise ModuleNotFoundError("SDESIM_FFT=ducc0 needs ducc0: pip install 'sdesim[fft]'") from error
    return "ducc0"


def version() -> str:
    """The library and its version, as files record it.

    >>> version().split()[0] == library()
    True
    """
    return _version(library())


@lru_cache(maxsize=2)
def _version(name: str) -> str:
    return f"{name} {metadata.version(name)}"


@contextmanager
def shared(threads: int) -> Iterator[None]:
    """Within this, a transform that this thread asks for is shared out, line by line, over so many threads."""
    if threads <= 1:
        yield
        return
    with ThreadPoolExecutor(max_workers=threads) as pool:
        _own.pool, _own.threads = pool, threads
        try:
            yield
        finally:
            _own.pool, _own.threads = None, 1


def in_parts(count: int, work: Callable[[range], object]) -> None:
    """work(range(count)), in parts at once where threads share this thread's work; see `shared`.

    >>> in_parts(3, print)
    range(0, 3)
    """
    parts = int(getattr(_own, "threads", 1))
    if parts <= 1:
        work(range(count))
        return
    edges = [count * k // parts for k in range(parts + 1)]
    for done in [_own.pool.submit(work, range(*ends)) for ends in zip(edges[:-1], edges[1:])]:
        done.result()


def waves(field: Array, dimension: int, axes: Sequence[int], out: Array | None = None) -> Array:
    """Complex coefficients of real fields along some of the axes of space, the last of them halved.

    Args:
        field: (…, *space).
        dimension: number of axes of space.
        axes: to be transformed, rising.
        out: where the coefficients go, C-contiguous.

    >>> waves(np.ones((2, 4)), 1, [-1]).real
    array([[2., 0., 0.],
           [2., 0., 0.]])
    """
    last = axes[-1]
    if out is None:
        shape = list(field.shape)
        shape[last] = shape[last] // 2 + 1
        out = np.empty(shape, np.result_type(field.dtype, np.complex64))
    _along("waves", dimension, last, field, out)
    for axis in axes[:-1]:
        _along("forth", dimension, axis, out, out)
    return out


def field_of(coefficients: Array, dimension: int, axes: Sequence[int], cells: int, out: Array | None = None,
             scratch: Array | None = None) -> Array:
    """The real fields with these coefficients: undoes `waves`.

    Args:
        coefficients: complex (…, *space); not changed.
        dimension, axes: as in `waves`.
        cells: along the last of the axes.
        out: where the fields go, C-contiguous.
        scratch: like the coefficients, to be written over.
    """
    last = axes[-1]
    if out is None:
        shape = list(coefficients.shape)
        shape[last] = cells
        out = np.empty(shape, coefficients.real.dtype)
    for axis in axes[:-1]:
        scratch = np.empty(coefficients.shape, coefficients.dtype) if scratch is None else scratch
        _along("back", dimension, axis, coefficients, scratch)
        coefficients = scratch
    _along("field", dimension, last, coefficients, out)
    return out


def real(values: Array, dimension: int, name: str, number: int, axis: int, out: Array | None = None) -> Array:
    """A cosine ("dct") or sine ("dst") transform of type 2, 3 (which undoes 2) or 4 (which undoes itself).

    `out` may be `values` itself.

    >>> u = np.arange(4.0)
    >>> bool(np.allclose(real(real(u, 1, "dct", 2, -1), 1, "dct", 3, -1), u))
    True
    """
    if out is None:
        out = np.empty(values.shape, np.result_type(values.dtype, np.float32))
    _along(f"{name}{number}", dimension, axis, values, out)
    return out


def _along(transform: str, dimension: int, axis: int, source: Array, target: Array) -> None:
    """Transform along one axis. ducc0 takes packs of lines and rounds a rest in another way: it gets field by field."""
    name = library()
    if name == "numpy":
        _lines(_WORK[name, transform], axis, source, target, 1)
        return
    lead = source.ndim - dimension
    if lead == 0 or (lead == 1 and len(source) == 1):
        _lines(_WORK[name, transform], axis, source, target, _PACK)
        return
    fields = (a.reshape(-1, *a.shape[lead:]) for a in (source, target))
    for x, y in zip(*fields, strict=True):
        _lines(_WORK[name, transform], axis, x, y, _PACK)


def _lines(transform: Work, axis: int, source: Array, target: Array, pack: int) -> None:
    """Transform along one axis, the lines cut into whole packs for the threads that share this thread's work."""
    count = int(getattr(_own, "threads", 1))
    if count <= 1 or source.ndim < 2:
        transform(source, axis, target)
        return
    across = max((k for k in range(-source.ndim, 0) if k != axis), key=lambda k: source.shape[k])
    lines = source.shape[across]
    edges = sorted({lines} | {lines * k // (count * pack) * pack for k in range(count)})
    cuts: list[Any] = [(..., slice(*ends), *(slice(None),) * (-1 - across)) for ends in zip(edges[:-1], edges[1:])]
    for done in [_own.pool.submit(_quietly, transform, source[cut], axis, target[cut]) for cut in cuts]:
        done.result()


def _quietly(transform: Work, source: Array, axis: int, target: Array) -> None:
    with np.errstate(all="ignore"):
        transform(source, axis, target)


def _scipy(name: str, number: int, x: Array, axis: int, out: Array) -> None:
    from scipy import fft

    if x is not out:
        out[...] = x
    result = getattr(fft, name)(out, type=number, axis=axis, norm="ortho", overwrite_x=True)
    if result is not out:
        out[...] = result


def _ducc0(name: str, options: Mapping[str, Any], x: Array, axis: int, out: Array) -> None:
    from ducc0 import fft

    if name == "c2r":
        fft.c2r(x, axes=(x.ndim + axis,), lastsize=out.shape[axis], out=out, inorm=1, forward=False)
    else:
        getattr(fft, name)(np.asarray(x, out.dtype) if name[0] == "d" else x, axes=(x.ndim + axis,), out=out, inorm=1,
                           **options)


_WORK: dict[tuple[str, str], Work] = {
    ("numpy", "waves"): lambda x, axis, out: np.fft.rfft(x, axis=axis, norm="ortho", out=out),
    ("numpy", "forth"): lambda x, axis, out: np.fft.fft(x, axis=axis, norm="ortho", out=out),
    ("numpy", "back"): lambda x, axis, out: np.fft.ifft(x, axis=axis, norm="ortho", out=out),
    ("numpy", "field"): lambda x, axis, out: np.fft.irfft(x, n=out.shape[axis], axis=axis, norm="ortho", out=out),
    ("ducc0", "waves"): partial(_ducc0, "r2c", {}),
    ("ducc0", "forth"): partial(_ducc0, "c2c", {}),
    ("ducc0", "back"): partial(_ducc0, "c2c", {"forward": False}),
    ("ducc0", "field"): partial(_ducc0, "c2r", {}),
}
for _name, _number in product(("dct", "dst"), (2, 3, 4)):
    _WORK["numpy", f"{_name}{_number}"] = partial(_scipy, _name, _number)
    _WORK["ducc0", f"{_name}{_number}"] = partial(_ducc0, _name, {"type": _number})
