"""What this machine has: processor, cores, and free memory."""

import math
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: Where the kernel says in which groups this process is, and where their files are.
_OWN, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
#: Of either version of cgroups: the folder of memory, limit, and use.
_LIMITS = (("", "memory.max", "memory.current"), ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's model in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def available_memory(device: "torch.device") -> int:
    """Bytes of memory that are free on a device; unless it is a GPU, of the machine's own that this process may use."""
    import psutil
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(min(psutil.virtual_memory().available, *_allowed()))


def _allowed() -> Iterator[float]:
    """Bytes that each group of this process still allows, from its own (a job's) up to the container's or the root."""
    try:
        groups = [line.split(":", 2)[1:] for line in _OWN.read_text().splitlines()]
    except OSError:  # no Linux
        groups = []
    for kind, limit, used in _LIMITS:
        own = next((PurePosixPath(path) for kinds, path in groups if kind in kinds.split(",")), PurePosixPath("/"))
        for group in (own, *own.parents):
            yield _left(_CGROUPS / kind / str(group).strip("/"), limit, used)


def _left(folder: Path, limit: str, used: str) -> float:
    """Bytes that a group still allows; files that are cached give way."""
    try:
        cached = re.search(r"^(?:total_)?inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
        taken = int((folder / used).read_text()) - (int(cached[1]) if cached else 0)
        return max(0, int((folder / limit).read_text()) - taken)
    except (OSError, ValueError):  # there is none, or its limit is "max"
        return math.inf
