"""What this machine has: cores, and free memory."""

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: Where a container finds its own limit, of either version of cgroups: folder, limit, and use.
_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory(device: "torch.device") -> int:
    """Bytes of memory that are free on a device; unless it is a GPU, of the machine's own that this process may use."""
    import psutil
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(min(psutil.virtual_memory().available, *map(_allowed, _CGROUPS)))


def _allowed(cgroup: tuple[Path, str, str]) -> float:
    """Bytes that a cgroup still allows; files that are cached give way."""
    folder, limit, used = cgroup
    try:
        cached = re.search(r"^(?:total_)?inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
        taken = int((folder / used).read_text()) - (int(cached[1]) if cached else 0)
        return max(0, int((folder / limit).read_text()) - taken)
    except (OSError, ValueError):  # there is none, or its limit is "max"
        return math.inf
