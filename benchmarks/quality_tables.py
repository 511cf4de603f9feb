"""The page of `quality.py`: every score against network calls, mean ± standard deviation over the seeds so far."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from training_speed import processor, versions

SCORES = ("spectrum_error", "patch_wasserstein", "pixel_qq", "gradient_qq", "energy_score")
Record = dict[str, list[dict[str, float]]]


def gathered(work: Path, case: str, names: list[str], seeds: int) -> tuple[Record, dict[str, Any]]:
    """Scores by "contender sampler/calls" and the floors, with the steps of each contender."""
    rows: Record = {}
    facts: dict[str, Any] = {"steps": {}, "seeds": {}}
    for name in names:
        for seed in range(seeds):
            path = work / f"{case}-{name}-{seed}.json"
            record = json.loads(path.read_text()) if path.exists() else {}
            facts["steps"] |= {name: record["steps"]} if "steps" in record else {}
            found = {key: value for key, value in record.items() if "/" in key}
            facts["seeds"][name] = facts["seeds"].get(name, 0) + bool(found)
            for key in sorted(found, key=lambda k: (k.partition("/")[0], int(k.partition("/")[2]))):
                rows.setdefault(f"{name} {key}", []).append(found[key])
    floors = json.loads((work / f"{case}-floors.json").read_text())
    return rows | floors, facts


def cell(rows: list[dict[str, float]], score: str) -> str:
    values = np.array([row[score] for row in rows])
    spread = f" ± {values.std(ddof=1):.1g}" if len(values) > 1 else ""
    return f"{values.mean():.3g}{spread}"


def table(rows: Record) -> list[str]:
    lines = ["| | calls | " + " | ".join(SCORES) + " | seeds |", "| --- " * (len(SCORES) + 3) + "|"]
    for name, several in rows.items():
        who, _, calls = name.partition("/")
        cells = " | ".join(cell(several, score) for score in SCORES)
        lines.append(f"| {who} | {calls or '–'} | {cells} | {len(several)} |")
    return lines


def reached(rows: Record, *, calls: int = 35) -> list[str]:
    """For each score the fewest calls at which ours is no worse than EDM at 35, to what equal ensembles differ by."""
    target, floor = rows.get(f"edm heun/{calls}"), rows.get("fresh", rows.get("gaussian", []))
    if target is None:
        return []
    lines = [f"Fewest calls at which ours is no worse than EDM at {calls}, to a standard deviation of the floor:", ""]
    for score in SCORES:
        limit = np.mean([row[score] for row in target])
        limit += np.std([row[score] for row in floor], ddof=1) if len(floor) > 1 else 0.0
        enough = [
            int(name.partition("/")[2]) for name, several in rows.items()
            if name.startswith("ours ") and np.mean([row[score] for row in several]) <= limit
        ]  # fmt: skip
        lines.append(f"- {score}: {min(enough) if enough else 'none of those tried'}")
    return [*lines, ""]


def page(work: Path, out: Path, cases: list[str], names: list[str], seeds: int, budget: float) -> None:
    """Write quality.md and quality.json from whatever has been scored."""
    machine = f"{processor()}; {versions()}."
    budget_words = f"Training time {budget:g} s on two idle cores, counted in steps."
    lines = ["# Quality against network calls", "", f"{machine} {budget_words}", "",
             "Made by `python benchmarks/quality.py`, which says what is compared.", ""]  # fmt: skip
    record: dict[str, Any] = {}
    for case in cases:
        rows, facts = gathered(work, case, names, seeds)
        record[case] = {"rows": rows, **facts}
        steps = ", ".join(f"{name} {count}" for name, count in facts["steps"].items())
        lines += [f"## {case}", "", f"Steps of 64 samples: {steps}.", "", *table(rows), "", *reached(rows)]
    old = out / "quality.md"
    text = old.read_text().partition("\n# What it shows")[1:] if old.exists() else ()
    old.write_text("\n".join(lines) + "".join(text))
    (out / "quality.json").write_text(json.dumps(record, indent=1) + "\n")
