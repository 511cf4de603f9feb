"""Fitted model ⇄ (config, tensors, log): what the model file holds, and how it is put together again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from surrogates.building import bf16_pays, build_denoiser
from surrogates.cascades import CascadeWay
from surrogates.corruption import corruption_from_tensors, corruption_tensors
from surrogates.covariance import Choice
from surrogates.files import ModelFileError, template_from_json, template_to_json
from surrogates.fitting import Fitted
from surrogates.gaussian import gaussian_from_tensors, gaussian_tensors
from surrogates.journals import Journal
from surrogates.latents import LatentWay
from surrogates.layouts import Layout, Scale
from surrogates.serving import Verdict

WAYS: Mapping[str, Any] = MappingProxyType({way.kind: way for way in (LatentWay, CascadeWay)})


def pack(
    fitted: Fitted, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor], list[dict[str, float]]]:
    """(config, tensors, log) of a fitted model, for the model file."""
    layout, tensors = fitted.layout, {"conditions": torch.from_numpy(np.ascontiguousarray(fitted.conditions))}
    laws = {}
    both = {"gaussian": fitted.gaussian} | ({} if fitted.baseline is fitted.gaussian else {"baseline": fitted.baseline})
    for name, law in both.items():
        arrays, laws[name] = gaussian_tensors(law)
        tensors |= {f"{name}.{key}": value for key, value in arrays.items()}
    arrays, corruption = corruption_tensors(fitted.corruption)
    tensors |= {f"corruption.{key}": value for key, value in arrays.items()}
    if layout.wet is not None:
        tensors["wet"] = torch.from_numpy(layout.wet)
    if fitted.static is not None:
        tensors["static"] = fitted.static
    if fitted.denoiser is not None:
        tensors |= {f"network.{key}": value for key, value in fitted.denoiser.network.state_dict().items()}
    names = ("variables", "condition", "samples", "kept", "space", "shape", "boundary", "maps")
    numbers = {"gain": fitted.verdict.gain, "error": fitted.verdict.error}
    finite = {name: None if math.isnan(value) else value for name, value in numbers.items()}
    config = {
        "options": dict(options),
        "layout": {name: list(getattr(layout, name)) for name in names},
        "scales": [asdict(scale) for scale in layout.scales],
        "condition_scales": [asdict(scale) for scale in layout.condition_scales],
        "map_scales": [asdict(scale) for scale in layout.map_scales],
        "template": template_to_json(layout.template),
        "laws": laws,
        "choice": asdict(fitted.choice) | {"score": repr(fitted.choice.score)},
        "noise_range": list(fitted.noise_range),
        "corruption": corruption,
        "skip": None if fitted.denoiser is None else fitted.denoiser.skip,
        "network": fitted.network,
        "objective": fitted.objective,
        "verdict": asdict(fitted.verdict) | finite,
    }
    if fitted.way is not None:
        config["way"], more = pack_way(fitted.way)
        tensors |= more
    return config, tensors, fitted.journal.rows


def pack_way(way: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config, tensors) of a way through another space, with all its models."""
    own, config = way.tensors()
    tensors, models = {f"way.{key}": value for key, value in own.items()}, {}
    for name, model in way.models().items():
        models[name], arrays, _ = pack(model, {})
        tensors |= {f"way.{name}/{key}": value for key, value in arrays.items()}
    return {"kind": way.kind, "config": config, "models": models}, tensors


def unpack_way(entry: Mapping[str, Any], tensors: dict[str, Tensor], fitted: Fitted, source: str) -> Any:
    """The inverse of `pack_way`."""
    own = {key.removeprefix("way."): value for key, value in tensors.items() if key.startswith("way.")}
    models = {}
    for name, config in entry["models"].items():
        arrays = {key.split("/", 1)[1]: value for key, value in own.items() if key.startswith(f"{name}/")}
        models[name], _ = unpack(config, arrays, [], source, None)
    return WAYS[str(entry["kind"])].from_tensors(own, entry["config"], fitted, models)


def unpack(
    config: Mapping[str, Any],
    tensors: dict[str, Tensor],
    log: list[dict[str, float]],
    source: str,
    network: nn.Module | None,
) -> tuple[Fitted, dict[str, Any]]:
    """The inverse of `pack`; ModelFileError if the parts do not belong together."""
    try:
        scales = tuple(Scale(**scale) for scale in config["scales"])
        condition_scales = tuple(Scale(**scale) for scale in config["condition_scales"])
        map_scales = tuple(Scale(**scale) for scale in config.get("map_scales", ()))
        names = {name: tuple(value) for name, value in config["layout"].items()}
        template = template_from_json(config["template"])
        layout = Layout(
            **names, scales=scales, condition_scales=condition_scales, template=template, map_scales=map_scales,
            wet=tensors["wet"].numpy() if "wet" in tensors else None,
        )  # fmt: skip

        def part(prefix: str) -> dict[str, Tensor]:
            return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}

        gaussian = gaussian_from_tensors(part("gaussian."), config["laws"]["gaussian"])
        plain = config["laws"].get("baseline")
        baseline = gaussian if plain is None else gaussian_from_tensors(part("baseline."), plain)
        noise = config.get("corruption", {"kind": "white"})
        corruption = corruption_from_tensors(part("corruption."), noise, gaussian.modes)
        kept = config["verdict"]
        gain, error = (math.nan if kept[k] is None else float(kept[k]) for k in ("gain", "error"))
        low, high = (float(level) for level in config["noise_range"])
        choice = Choice(**(config["choice"] | {"score": float(config["choice"]["score"])}))
        fitted = Fitted(
            layout, gaussian, baseline, choice, (low, high), corruption, tensors.get("static"),
            tensors["conditions"].numpy(), None, config["network"],
            Verdict(str(kept["served"]), gain, error, kept.get("measure", "denoising"), kept.get("beside", {})),
            Journal(rows=log), str(config.get("objective", "denoising")),
        )  # fmt: skip
        if config["skip"] is not None:
            if config["network"] is None and network is None:
                raise ValueError("the network was the caller's own module; pass it as sur.load(path, network=module)")
            choice_of = network if config["network"] is None else config["network"]
            fitted.denoiser = build_denoiser(fitted, config["skip"], choice_of, bf16=bf16_pays(torch.device("cpu")))
            fitted.denoiser.network.load_state_dict(part("network."))
            fitted.denoiser.eval()
        if "way" in config:
            fitted.way = unpack_way(config["way"], tensors, fitted, source)
    except (KeyError, TypeError, AttributeError, RuntimeError, AssertionError, IndexError) as failure:
        raise ModelFileError(f"{source} does not hold one consistent model ({failure}); save the model again") from None
    return fitted, dict(config["options"])
