"""Checkpoints: a ledger of training runs in one file, from which a killed run goes on bit for bit.

    ledger.json          "format", "version", what the runs were asked to do, and the numbers of each run
    tensors.safetensors  "<run>/<name>": weights of finished runs; weights, moments and averages of the one under way

The file is written whole or not at all (`archives.py`), so that a kill at any moment leaves the last complete one. No
state of a random generator is kept: order and noise are functions of (seed, step) (`tensor_streams.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from surrogates.archives import ArchiveError, pack_tensors, read_archive, unpack_json, unpack_tensors, write_archive

FORMAT, VERSION = "surrogates-checkpoint", 1
_PARTS = ("ledger.json", "tensors.safetensors")
_CURE = "delete it to start afresh, or name another file"


class CheckpointError(ArchiveError):
    """The file is not a checkpoint, or one of another run; the message says what differs.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Ledger.open(folder + "/run.ckpt", {"seed": 0}).write("run", {"step": 3}, {})
    ...     Ledger.open(folder + "/run.ckpt", {"seed": 1})
    Traceback (most recent call last):
    ...
    surrogates.checkpoints.CheckpointError: ... was written with seed = 0, got seed = 1; delete it ...
    """


@dataclass
class Ledger:
    """The runs of one fit: `runs` name → (numbers, tensors); a run is finished when its numbers say so."""

    path: Path
    purpose: dict[str, Any]
    runs: dict[str, tuple[dict[str, Any], dict[str, Tensor]]] = field(default_factory=dict)
    writes: bool = True

    @classmethod
    def open(cls, path: str | Path, purpose: Mapping[str, Any], *, writes: bool = True) -> Ledger:
        """The ledger in this file, or an empty one if there is none yet.

        `purpose` (JSON values) says what is trained, on what and how: a file with another one raises CheckpointError.
        With `writes` False nothing is ever written: another process does.
        """
        ledger = cls(Path(path), json.loads(json.dumps(dict(purpose))), writes=writes)
        if not ledger.path.parent.is_dir():
            raise FileNotFoundError(
                f"the folder {ledger.path.parent} must exist to write {ledger.path.name}; create it"
            )
        if ledger.path.exists():
            ledger._read()
        return ledger

    def _read(self) -> None:
        parts = read_archive(self.path, _PARTS, kind="checkpoint", cure=_CURE, error=CheckpointError)
        try:
            book, tensors = unpack_json(parts["ledger.json"]), unpack_tensors(parts["tensors.safetensors"])
            if (book["format"], book["version"]) != (FORMAT, VERSION):
                raise ValueError(f"format {book['format']!r}, version {book['version']!r}")
            found: dict[str, Any] = book["purpose"]
            self.runs = {
                name: (numbers, {k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(name + "/")})
                for name, numbers in book["runs"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as failure:
            raise CheckpointError(f"{self.path} is not a checkpoint of this library ({failure}); {_CURE}") from None
        for name in sorted({*found, *self.purpose}):
            before, now = found.get(name), self.purpose.get(name)
            if before != now:
                raise CheckpointError(
                    f"{self.path} was written with {name} = {before}, got {name} = {now}; "
                    f"{_CURE}, or use the same options"
                )

    def write(self, name: str, numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Record a run's state, replacing its last one, on the disk before it returns."""
        self.runs[name] = (numbers, tensors)
        if self.writes:
            book = {"format": FORMAT, "version": VERSION, "purpose": self.purpose}
            book["runs"] = {run: kept for run, (kept, _) in self.runs.items()}
            flat = {f"{run}/{k}": v for run, (_, kept) in self.runs.items() for k, v in kept.items()}
            write_archive(self.path, dict(zip(_PARTS, (json.dumps(book), pack_tensors(flat)), strict=True)))
