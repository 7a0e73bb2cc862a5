"""What this process may use of its machine."""

from pathlib import Path

import psutil
import pytest
import torch

from foclip import machine


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [("1000", "900", 200), ("1000", "1200", 0), ("max", "900", None), ("9" * 19, "900", None)],
)
def test_free_memory_is_what_the_container_allows(
    version: int, limit: str, used: str, free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, limit_file, used_file = machine._CGROUPS[version]
    (tmp_path / limit_file).write_text(f"{limit}\n")
    (tmp_path / used_file).write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text("anon 800\ninactive_file 100\nactive_file 7\n")
    monkeypatch.setattr(machine, "_CGROUPS", ((tmp_path, limit_file, used_file), (tmp_path / "none", "a", "b")))
    found = machine.available_memory(torch.device("cpu"))
    assert found == free if free is not None else 0 < found <= psutil.virtual_memory().total
