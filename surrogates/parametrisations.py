"""What a network may predict, and the estimate D of the data that it stands for, x = αx₀ + σε:

    data       x₀                     D = p
    noise      ε                      D = (x − σp)/α                                                   Ho et al. 2020
    velocity   v = αε − σx₀           D = (αx − σp)/(α² + σ²)                                   Salimans & Ho 2022, §4
    flow       u = ε − x₀             D = (x − σp)/(α + σ)                                        Lipman et al. 2023
    score      ∇ log p_t = −ε/σ       D = (x + σ²p)/α                                             Song et al. 2021
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from surrogates.processes import Process

KINDS = ("data", "noise", "velocity", "flow", "score")


def to_data(kind: str, prediction: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """D from a prediction of one of KINDS; all tensors broadcast. ValueError for another kind.

    >>> import torch
    >>> x, alpha, sigma = torch.tensor(1.5), torch.tensor(0.5), torch.tensor(2.0)              # x₀ = 1, ε = ½
    >>> float(to_data("noise", torch.tensor(0.5), x, alpha, sigma))
    1.0
    """
    match kind:
        case "data":
            return prediction
        case "noise":
            return (x - sigma * prediction) / alpha
        case "velocity":
            return (alpha * x - sigma * prediction) / (alpha**2 + sigma**2)
        case "flow":
            return (x - sigma * prediction) / (alpha + sigma)
        case "score":
            return (x + sigma**2 * prediction) / alpha
    raise ValueError(f"a parametrisation is one of {list(KINDS)}, got {kind!r}; choose one of these")


def from_data(kind: str, data: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The inverse of `to_data`: what a network of this kind would say where D = data.

    >>> import torch
    >>> float(from_data("velocity", torch.tensor(1.0), torch.tensor(1.5), torch.tensor(0.5), torch.tensor(2.0)))
    -1.75
    """
    noise = (x - alpha * data) / sigma
    match kind:
        case "data":
            return data
        case "noise":
            return noise
        case "velocity":
            return alpha * noise - sigma * data
        case "flow":
            return noise - data
        case "score":
            return -noise / sigma
    raise ValueError(f"a parametrisation is one of {list(KINDS)}, got {kind!r}; choose one of these")


def denoiser_of(
    predict: Callable[[Tensor, Tensor], Tensor], kind: str, process: Process
) -> Callable[[Tensor, Tensor], Tensor]:
    """D(y; s) for the samplers, from predict(x, t) of a network trained on `process` with this parametrisation.

    >>> import torch
    >>> from surrogates.processes import VP
    >>> wiener = denoiser_of(lambda x, t: VP().sigma(t) * x, "noise", VP())                    # data N(0, 1): ε̂ = σx
    >>> round(float(wiener(torch.tensor(3.0), torch.tensor(2.0))), 4)                          # 3/(1 + 2²)
    0.6
    """

    def denoise(y: Tensor, s: Tensor) -> Tensor:
        t = process.time_of_level(s)
        alpha, sigma = process.alpha(t), process.sigma(t)
        return to_data(kind, predict(alpha * y, t), alpha * y, alpha, sigma)

    return denoise
