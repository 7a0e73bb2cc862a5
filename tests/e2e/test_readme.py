import re
from pathlib import Path

import pytest
from PIL import Image

from foclip.attacks import default_plan

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_library_part_runs_as_it_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_photos: list[Image.Image],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = re.findall(r"## Library\n\n```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    small_photos[0].save("cat.jpg")
    monkeypatch.setattr("foclip.runs.fooling.default_plan", lambda scorer: default_plan(scorer, steps=60))
    exec(code, {})  # our own README
    scored, after, verdict = capsys.readouterr().out.strip().splitlines()
    assert scored.startswith("[Scored(image='cat.jpg'")
    assert float(after) > 0
    assert verdict == "tampered"
