"""What this process may use of its machine."""

from pathlib import Path

import psutil
import pytest
import torch

from foclip import machine

#: Lines of /proc/self/cgroup, and the folder of that group: version 2 and 1, containers and jobs of a cluster in them.
GROUPS = {
    "2, container": ("0::/", ""),
    "2, job": ("0::/system.slice/slurmstepd.scope/job_7/step_0", "system.slice/slurmstepd.scope/job_7/step_0"),
    "2, host's names": ("0::/docker/0123", ""),
    "1, container": ("4:memory:/docker/0123\n1:name=systemd:/\n0::/", "memory"),
    "1, job": ("7:cpu,cpuacct:/\n4:memory,blkio:/slurm/uid_7/job_7", "memory/slurm/uid_7/job_7"),
}


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [("1000", "900", 200), ("1000", "1200", 0), ("max", "900", None), ("9" * 19, "900", None)],
)
@pytest.mark.parametrize("above", [False, True])
def test_free_memory_is_what_the_container_allows(
    groups: str, limit: str, used: str, free: int | None, above: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit may be that of a group above; groups without a limit say so."""
    told, name = GROUPS[groups]
    root, files = tmp_path / "cgroup", machine._LIMITS["memory" in told][1:]
    (tmp_path / "own").write_text(f"{told}\n")
    own = root / name
    own.mkdir(parents=True)
    limited = root / name.partition("/")[0] if above else own
    for folder in {own, limited}:
        values = (limit if folder == limited else "max", used)
        for file, value in zip(files, values, strict=True):
            (folder / file).write_text(f"{value}\n")
        (folder / "memory.stat").write_text("anon 800\ninactive_file 100\nactive_file 7\n")
    monkeypatch.setattr(machine, "_OWN", tmp_path / "own")
    monkeypatch.setattr(machine, "_CGROUPS", root)
    found = machine.available_memory(torch.device("cpu"))
    assert found == free if free is not None else 0 < found <= psutil.virtual_memory().total


def test_free_memory_without_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_OWN", tmp_path / "none")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    assert 0 < machine.available_memory(torch.device("cpu")) <= psutil.virtual_memory().total
