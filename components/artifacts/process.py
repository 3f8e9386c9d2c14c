"""Which process something belongs to, and whether it is gone, as far as this machine can know."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path


@cache
def machine() -> str:
    """A name for this boot and namespace of process numbers; empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return hashlib.sha256((boot + os.readlink("/proc/self/ns/pid")).encode()).hexdigest()[:16]  # noqa: PTH115
    except OSError:
        return ""


def is_gone(pid: int) -> bool:
    """Whether no process of this machine has that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
