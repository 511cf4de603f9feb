"""Whether what was asked for fits into this machine's memory, said before any work."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available() -> int | None:
    """Bytes that a process may still take; None where the system does not say.

    >>> (available() or 1) > 0
    True
    """
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    if not found and hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        found.append(max(0, limit - used))
    except (OSError, ValueError):  # no limit, or another system
        pass
    return min(found, default=None)


def check(wanted: int, what: str, cure: str) -> None:
    """Raise MemoryError where `wanted` bytes are more than there are, with the cure.

    >>> check(2**70, "the states of 4 members", "fewer of them")
    Traceback (most recent call last):
    ...
    MemoryError: the states of 4 members take 1.18e+12 GB, and this machine has ... GB to give: fewer of them
    """
    room = available()
    if room is not None and wanted > room:
        raise MemoryError(f"{what} take {_shown(wanted)}, and this machine has {_shown(room)} to give: {cure}")


def _shown(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
