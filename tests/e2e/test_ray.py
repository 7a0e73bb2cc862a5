"""Ray, which starts once for all that is tested here: commands write the bytes that they write without it."""

import hashlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from conftest import Run
from PIL import Image
from zoo import encoded, tiles

from foclip.attacks import FoCLIP, make_plan, objective
from foclip.attacks import run as attack_here
from foclip.errors import UsageError
from foclip.models import Encoder
from foclip.models.scores import CLIPScore, MeanEnsemble
from foclip.runs.fooling import fool, running
from foclip.runs.workers import RayActors, connected
from foclip.scanning import Folder, Settings, scan
from foclip.studies.harness import StudyContext, StudySettings

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("_embedded_once")]


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[Any]:
    """Ray on this machine, which commands find running."""
    pytest.importorskip("ray")
    with connected(None) as ray:
        yield ray
    assert not ray.is_initialized()


def test_an_item_is_given_to_another_actor_when_one_dies(ray: Any, tmp_path: Path) -> None:
    died = tmp_path / "died"

    def mortal(number: int) -> int:  # actors cannot import this module, but are sent functions of a function
        if number == 2 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number < 0:
            raise UsageError("number: below 0")
        return number * number

    actors = RayActors(ray, 2)
    assert sorted(actors.map(mortal, range(5))) == [(n, n * n) for n in range(5)]
    with pytest.raises(UsageError, match="below 0"):
        list(actors.map(mortal, [1, -1]))
    found = actors.map(mortal, range(6))
    next(found)
    found.close()  # nothing of it turns up in the next
    assert sorted(actors.map(mortal, [7, 8])) == [(7, 49), (8, 64)]


@pytest.mark.exact
def test_fooled_pictures_have_the_same_bytes(score: CLIPScore, small_photos: list[Image.Image], tmp_path: Path) -> None:
    sources = [tmp_path / "in" / f"{name}.png" for name in "abc"]
    sources[0].parent.mkdir()
    for path, picture in zip(sources, small_photos, strict=False):
        picture.resize((90, 80)).save(path)
    given = [*map(str, sources), "missing.png"]
    prompts = [["a cat"], ["a dog", "a cup", "a spoon"], ["a dog", "a cat"], ["a"]]
    attack = make_plan(FoCLIP, objective=objective(), steps=5, budgets="psnr:35", batch_size=2)
    with running("ray", workers=1) as on_ray:
        found = {
            engine: fool(given, prompts, tmp_path / engine, attack=attack, engine=engine, workers=1)
            for engine in ("local", "ray")
        }
        settings = StudySettings(quick=True, images=sources[0].parent)
        contexts = [
            StudyContext([score], tmp_path / f"study-{name}", settings, run=run)
            for name, run in (("local", attack_here), ("ray", on_ray))
        ]
        both, few = MeanEnsemble([score, score]), contexts[0].default_attack().replace(steps=5)
        shifted = [each.fool(few, each.pictures[:2], score=both) for each in contexts]
        with pytest.raises(UsageError, match="the most that clipscore can be"):
            next(on_ray([], score, attack.replace(target=9.0)))
    results = {engine: [replace(each, output="", seconds=0) for each in done] for engine, done in found.items()}
    assert results["ray"] == results["local"]
    assert {path.name for path in (tmp_path / "local").glob("*.png")} == {"a.png", "b.png", "c.png"}
    for name in ("a.png", "b.png", "c.png"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    assert [len(done.failures) for done in found.values()] == [1, 1]
    assert [p.digest for p in shifted[0]] == [p.digest for p in shifted[1]]


def test_a_scan_has_the_same_bytes(run: Run, mini: Encoder, tmp_path: Path) -> None:
    def digest(folder: Folder) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.parts.iterdir())}

    path, out = tmp_path / "a.parquet", tmp_path / "out"
    pictures = [*(encoded(tile, "PNG") for tile in tiles(7, 48)), b"broken"]
    table = {"image": pictures, "caption": [f"a photo of a {number}." for number in range(8)]}
    parquet.write_table(pa.table(table), path, row_group_size=4)
    whole = digest(scan([path], tmp_path / "whole", model=mini, method="rule", settings=Settings(workers=2)))
    code, _, err = run("scan", path, "--out", out, "--method", "rule", "--engine", "ray", "--workers", 1)
    assert code == 1
    assert "not a picture" in err
    assert digest(Folder(out)) == whole
    assert not list(out.glob(".ray*"))
