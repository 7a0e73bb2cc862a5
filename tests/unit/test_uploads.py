"""How much visitors of the page have sent (`foclip.app.guard`), without the page itself."""

import os
from pathlib import Path
from typing import Any

import pytest

from foclip.app import guard


def test_a_folder_that_vanishes_while_uploads_are_counted_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = os.scandir
    for name in ("here", "gone"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "picture.png").write_bytes(b"abc")

    def vanished(path: Any) -> Any:
        if Path(path).name == "gone":
            raise FileNotFoundError(path)
        return scan(path)

    assert guard._size(tmp_path) == 6
    monkeypatch.setattr(os, "scandir", vanished)
    assert guard._size(tmp_path) == 3
    assert guard._size(tmp_path / "never") == 0
