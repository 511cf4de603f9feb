"""A spectral run on a GPU: memory and transforms by CuPy (cuFFT), passes and noise by the generated CUDA source.

Passes and noise have the bits of the CPU; cuFFT rounds in its own way, so that a run agrees to rounding. Cosine and
sine transforms are made of Fourier transforms of twice the length, padded with zeros: with ω = e^{−iπ/2N} and F the
transform of x (for type 4 of x ωⁿ), n, k < N,

    Σ x cos π(n+½)k/N = Re ωᵏ F_k           Σ x sin π(n+½)(k+1)/N = −Im ωᵏ⁺¹ F_{k+1}
    Σ x cos π(n+½)(k+½)/N = Re ω^{k+½} F_k   Σ x sin π(n+½)(k+½)/N = −Im ω^{k+½} F_k
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.kernels.spectral_cuda import cuda_source
from sdesim.kernels.spectral_pointwise import Body
from sdesim.kernels.spectral_run import Host
from sdesim.spectral import Transform
from sdesim.spherical import SphereTransform
from sdesim.streams import Purpose, seed_key

_THREADS = 256
MOST_MEMBERS = 65535  # blocks along y
VALUES = 1 << 23  # cells times members of a block: 64 MB for each array


def cupy() -> Any:
    """CuPy; ModuleNotFoundError with the install command if it is missing."""
    try:
        import cupy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'device="cuda" needs CuPy: pip install "sdesim[cuda12x]" or "sdesim[cuda13x]", by your CUDA version'
        ) from error
    return cupy


class Device(Host):
    """The current CUDA device as the machine of a fused run.

    Args:
        xp: CuPy, or what stands in for it.
    """

    direct = False

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.kept: dict[Any, Any] = {}
        self.kernels: dict[Body | None, Any] = {}

    def passes(self, body: Body) -> Any:
        """The device's function of a body."""
        return self._function(body, "pass0")

    def noise(self) -> Callable[..., None]:
        """What fills fields with normals."""
        function = self._function(None, "noise")

        def fill(out: Any, seed: int, members: NDArray[np.int64], step: int, state: int,
                 purpose: Purpose = Purpose.STEP) -> None:
            cells = out.shape[-1]
            rows = out.size // (out.shape[0] * cells)
            words = (step, int(purpose) | state << 8, *(int(word) for word in seed_key(seed)))
            blocks = -(-rows * ((cells + 1) // 2) // _THREADS)
            function((blocks, members.size), (_THREADS,), (
                out, self._keep("members", members), np.int64(members.size), np.int64(rows), np.int64(cells),
                *(np.uint64(word) for word in words)))

        return fill

    def empty(self, shape: tuple[int, ...]) -> Any:
        """An array of unknown content on the device."""
        return self.xp.empty(shape)

    def put(self, values: Any) -> Any:
        """Values as a C-contiguous float64 array on the device."""
        return self.xp.ascontiguousarray(self.xp.asarray(values, dtype=np.float64))

    def address(self, array: Any) -> int:
        """Where an array begins in the memory of the device."""
        return address_of(array)

    def launch(self, kernel: Any, members: int, places: int, addresses: Sequence[int],
               strides: NDArray[np.int64], scalars: Any) -> None:
        """Run a pass: a thread for each place, members along y."""
        table = self._keep("addresses", np.array(addresses, np.int64))
        steps = self._keep("strides", strides)
        blocks = max(1, -(-places // _THREADS))
        kernel((blocks, members), (_THREADS,),
               (np.int64(members), np.int64(0), np.int64(places), table, steps, scalars))

    def transform(self, direction: str, transform: Transform, source: Any, out: Any, scratch: Any) -> None:
        """Transform.forward, .inverse or .white into `out`."""
        out[...] = (_sphere(self.xp, direction, transform, source, scratch) if isinstance(transform, SphereTransform)
                    else _box(self.xp, direction, transform, source, scratch))

    def copy_out(self, array: Any, out: NDArray[np.float64]) -> None:
        """Copy to an array of the host."""
        out[...] = array.get() if hasattr(array, "get") else array

    def _function(self, body: Body | None, name: str) -> Any:
        if body not in self.kernels:
            source = cuda_source([] if body is None else [body])
            module = self.xp.RawModule(code=source, options=("--fmad=false", "--std=c++17"))
            self.kernels[body] = module.get_function(name)
        return self.kernels[body]

    def _keep(self, what: str, values: NDArray[np.int64]) -> Any:
        """A table on the device; the same one for the same values, of which a run has few."""
        key = (what, values.tobytes())
        if key not in self.kept:
            self.kept[key] = self.xp.asarray(values)
        return self.kept[key]


def address_of(array: Any) -> int:
    """Where an array of CuPy or NumPy begins."""
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)


def _box(xp: Any, direction: str, transform: Transform, source: Any, scratch: Any) -> Any:
    d, kinds = len(transform.kinds), transform.kinds
    periodic = tuple(i - d for i, kind in enumerate(kinds) if kind == "periodic")
    others = [(i - d, kind) for i, kind in enumerate(kinds) if kind != "periodic"]
    field = source
    if direction != "inverse":
        for axis, kind in others:
            field = cosines(xp, field, kind, axis)
        if not periodic:
            return field
        return xp.ascontiguousarray(xp.fft.rfftn(field, axes=periodic, norm="ortho")).view(np.float64)
    if periodic:
        scratch[...] = source  # cuFFT may write over what it transforms to real numbers
        field = xp.fft.irfftn(scratch.view(np.complex128), s=[transform.grid.shape[axis] for axis in periodic],
                              axes=periodic, norm="ortho")
    for axis, kind in others:
        field = cosines(xp, field, kind, axis, back=True)
    return field


def cosines(xp: Any, x: Any, kind: str, axis: int, back: bool = False) -> Any:
    """The orthonormal cosine or sine transform of a kind of `sdesim.spectral`, or (`back`) what undoes it.

    >>> u = np.random.default_rng(0).random((3, 7))
    >>> bool(np.allclose(cosines(np, cosines(np, u, "dirichlet", -1), "dirichlet", -1, back=True), u))
    True
    """
    x = xp.moveaxis(x, axis, -1)
    n = x.shape[-1]
    turn, half, scale = (xp.asarray(a) for a in _turns(n, kind))
    if kind in ("dirichlet-neumann", "neumann-dirichlet"):
        waves = xp.fft.fft(x * half, n=2 * n, axis=-1)[..., :n] * turn
        result = scale * (waves.real if kind == "neumann-dirichlet" else -waves.imag)
    elif not back:
        first = int(kind == "dirichlet")
        waves = xp.fft.rfft(x, n=2 * n, axis=-1)[..., first : n + first] * turn
        result = scale * (waves.real if kind == "neumann" else -waves.imag)
    else:
        first = int(kind == "dirichlet")
        waves = xp.zeros((*x.shape[:-1], n + 1), np.complex128)
        waves[..., first : n + first] = (x * scale * n) * (xp.conj(turn) * (-1j if first else 1.0))
        waves[..., n if first else 0] *= 2.0
        result = xp.fft.irfft(waves, n=2 * n, axis=-1)[..., :n]
    return xp.moveaxis(result, -1, axis)


@lru_cache(maxsize=32)
def _turns(n: int, kind: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Powers of ω for the modes, those for the cells, and the scale of each mode."""
    k = np.arange(n) + {"neumann": 0.0, "dirichlet": 1.0}.get(kind, 0.5)
    scale = np.full(n, np.sqrt(2.0 / n))
    if kind in ("neumann", "dirichlet"):
        scale[0 if kind == "neumann" else -1] = np.sqrt(1.0 / n)
    return np.exp(-0.5j * np.pi * k / n), np.exp(-0.5j * np.pi * np.arange(n) / n), scale


def _sphere(xp: Any, direction: str, transform: SphereTransform, source: Any, scratch: Any) -> Any:
    rows, columns = transform.grid.shape
    values, root = (xp.asarray(a) for a in transform.basis)
    if direction == "inverse":
        scratch[...] = source
        modes = scratch.view(np.complex128)
        found = xp.matmul(xp.swapaxes(values, 1, 2), xp.swapaxes(modes, -1, -2)[..., None])[..., 0]
        waves = xp.zeros((*modes.shape[:-2], rows, columns // 2 + 1), np.complex128)
        waves[..., : len(values)] = xp.swapaxes(found, -1, -2)
        return xp.fft.irfft(waves, n=columns, axis=-1, norm="ortho") / root
    field = source if direction == "white" else source * root
    waves = xp.fft.rfft(field, axis=-1, norm="ortho")[..., : len(values)]
    modes = xp.matmul(values, xp.swapaxes(waves, -1, -2)[..., None])[..., 0]
    return xp.ascontiguousarray(xp.swapaxes(modes, -1, -2)).view(np.float64)
