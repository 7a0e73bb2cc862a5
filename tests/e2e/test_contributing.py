"""The recipes of CONTRIBUTING, built as another package and run as they are printed."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from calling import call
from PIL import Image

from foclip.studies.harness import StudySettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Recipes\n")[2]
FILES = re.findall(r"```\w+\n# (\S+\.(?:py|toml))\n(.*?)```", RECIPES, re.DOTALL)
COMMANDS = re.findall(r"^foclip .*$", RECIPES, re.MULTILINE)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the recipes' files, as `pip install -e .` makes them known."""
    for name, content in FILES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = tmp_path / f"foclip_toy-{project['version']}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    groups = [f"[{group}]\n" + "\n".join(map(" = ".join, points.items())) for group, points in entries(project)]
    (info / "entry_points.txt").write_text("\n".join(groups) + "\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def entries(project: dict[str, dict[str, dict[str, str]]]) -> list[tuple[str, dict[str, str]]]:
    """Groups of entry points, each with its names."""
    return list(project["entry-points"].items())


@pytest.mark.slow
def test_every_recipe_works_in_a_package_of_its_own(
    package: Path, small_photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StudySettings, "steps", 8)
    small_photos[0].save("cat.png")
    (package / "photos").mkdir()
    for number, photo in enumerate(small_photos[:2]):
        photo.save(package / "photos" / f"{number}.png")
    for command in COMMANDS:
        outcome = call(*shlex.split(command)[1:])
        assert outcome.code == 0, f"{command}: {outcome.err}"
    runpy.run_path("attack_cat.py")
    assert Path("fooled-cat.png").is_file()
