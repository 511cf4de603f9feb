"""Archives: one zip of named parts, written whole or not at all, and read with suspicion. Nothing in it is executed.

A file is written beside its target, forced to the disk, and renamed when it is complete: whoever opens it, at any
moment and after any crash, sees the old file or the new one. Reading checks that it is a zip, that its members and
their sizes are as declared and that their checksums hold.
"""

from __future__ import annotations

import json
import os
import secrets
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

LARGEST = 8 * 2**30  # bytes a member may unpack to: a hostile zip must not fill the memory


class ArchiveError(ValueError):
    """The file is not a complete archive of the wanted kind; the message says what it is instead and what to do.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as foreign:
    ...     read_archive(foreign.name, ["config.json"], kind="model file", cure="save it again")
    Traceback (most recent call last):
    ...
    surrogates.archives.ArchiveError: ... is truncated or not a model file ...; save it again
    """


def write_archive(path: str | os.PathLike[str], parts: Mapping[str, bytes | str]) -> Path:
    """Write the parts as one file, whole or not at all; returns its path. FileNotFoundError without the folder."""
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} must exist to save {target.name}; create it first")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                for name, content in parts.items():
                    archive.writestr(name, content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def read_archive(
    path: str | os.PathLike[str],
    names: Sequence[str],
    *,
    kind: str,
    cure: str,
    error: type[ArchiveError] = ArchiveError,
) -> dict[str, bytes]:
    """The named parts of an archive; FileNotFoundError, or `error` for anything else, naming `kind` and `cure`."""
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"a {kind} was wanted at {source}, there is none")
    try:
        with zipfile.ZipFile(source) as archive:
            return {name: _member(archive, name) for name in names}
    except KeyError as failure:
        raise error(f"{source} is a zip but not a {kind} ({failure.args[0]}); {cure}") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as failure:
        raise error(f"{source} is truncated or not a {kind} ({failure}); {cure}") from None


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member; KeyError if absent, BadZipFile if its checksum fails or its size is beyond reason."""
    if archive.getinfo(name).file_size > LARGEST:
        raise zipfile.BadZipFile(f"{name} unpacks to more than {LARGEST} bytes")
    return archive.read(name)


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Named tensors as safetensors; those that share memory are written apart.

    >>> import torch
    >>> list(unpack_tensors(pack_tensors({"w": torch.ones(2)})))
    ['w']
    """
    return save_tensors({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})


def unpack_tensors(content: bytes) -> dict[str, Tensor]:
    """The inverse of `pack_tensors`; ValueError for anything but safetensors."""
    try:
        return load_tensors(content)
    except SafetensorError as failure:
        raise ValueError(str(failure)) from None


def unpack_json(content: bytes) -> Any:
    """JSON text; ValueError for anything else."""
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("the JSON text is nested beyond reason") from None
