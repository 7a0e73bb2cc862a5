"""What README and docs print is run as it is printed, in a folder with ordinary files."""

import re
import shlex
from pathlib import Path

import pyarrow as arrow
import pytest
import zoo
from calling import call
from PIL import Image
from pyarrow import parquet

from foclip.attacks import default_plan
from foclip.cli import progress
from foclip.errors import FoclipError
from foclip.studies import artworks, harness
from foclip.studies.harness import StudySettings, pictures

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")


def commands(text: str) -> list[str]:
    """The lines of code blocks that call foclip, without comments; an ellipsis stands for more than a command."""
    blocks = re.findall(r"^```(?:\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    found = [re.split(r"\s+#\s", line)[0].strip() for line in lines if line.startswith("foclip ")]
    return [line for line in found if not re.search(r"(^|\s)\S*…(\s|$)", line.replace('"…"', ""))]


#: What README's commands get beside what is printed, so that a test can wait for them; the last one given counts.
SHORTER = {
    "fool": ["--steps", "8"],
    # which precision is faster is not measured
    "harden": ["--steps", "2", "--batch-size", "4", "--lr", "1e-5", "--attack-steps", "1", "--precision", "float32"],
    "scan": ["--workers", "1"],
}
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "docs").rglob("*.md")
    if "decisions" not in path.parts
}
DOCS = sorted({line for text in PAGES.values() for line in commands(text)})
#: Blocks of Python, by the page that they stand on.
PYTHON = {
    name: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for name, text in PAGES.items() if "```python" in text
}


def expanded(words: list[str]) -> list[str]:
    """Words with an asterisk replaced by the files here that they stand for, as a shell does it."""
    return [str(path) for word in words for path in (sorted(Path().glob(word)) if "*" in word else [word])]


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory, small_photos: list[Image.Image]) -> Path:
    """A folder with a picture, folders of pictures and a table of them."""
    folder = tmp_path_factory.mktemp("ordinary")
    small_photos[0].save(folder / "cat.png")
    small_photos[0].save(folder / "IMAGE", format="PNG")
    (folder / "DIR").mkdir()
    for name in (
        "photos",
        "pictures",
        "imagenet-photos",
        "paintings",
        "PICTURES",
        "OTHERS",
        "PHOTOS",
        "PAINTINGS",
        "pool",
        "submissions",
        "fooled",
        "foclip-demo",
        "odd",
    ):
        (folder / name).mkdir()
        for number, tile in enumerate([*small_photos, *zoo.tiles(20)] if name == "pictures" else small_photos):
            tile.save(folder / name / f"{number}.png")
    small_photos[1].save(folder / "fooled" / "cat.png")
    captions = [f"submissions/{path.name},a photo" for path in sorted((folder / "submissions").iterdir())]
    (folder / "captions.csv").write_text("\n".join(["image,caption", *captions]))
    rows = {"image": [path.read_bytes() for path in sorted((folder / "photos").iterdir())], "text": list("abcd")}
    parquet.write_table(arrow.table(rows), folder / "data.parquet")
    return folder


@pytest.mark.slow
def test_the_commands_of_the_readme_run_as_they_are_printed(ordinary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ordinary)
    monkeypatch.setattr("foclip.demo.photos", lambda: sorted(Path("photos").iterdir()))
    assert call("demo", "--out", "foclip-demo", "--steps", 8).code == 0
    printed = commands(README)
    assert [line.split()[1] for line in printed] == ["score", "fool", "detect", "scan", "harden"]
    for line in printed:
        words = expanded(shlex.split(line)[1:])
        outcome = call(*words, *SHORTER.get(words[0], []))
        assert outcome.code == 0, f"{line}: {outcome.err}"
        assert outcome.out


@pytest.mark.parametrize("line", DOCS)
def test_the_commands_of_the_docs_are_right(line: str, ordinary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run until they would load a model, after all that can be checked; placeholders are files of these names."""

    def load(*_: object, **__: object) -> None:
        raise FoclipError("all is right so far")

    monkeypatch.chdir(ordinary)
    monkeypatch.setattr(progress, "load", load)
    monkeypatch.setattr("foclip.cli.serving.find_spec", lambda name: name)
    monkeypatch.setattr("foclip.models.remote._reach", lambda *_: None)
    monkeypatch.setattr("foclip.hardening.harden", load)
    line = line.replace("--model MODEL", "--model mini").replace("--out /mnt/shared/", "--out ")
    Path("detector.json").touch()
    outcome = call(*expanded(shlex.split(line)[1:]))
    assert (outcome.code == 0) if "--dry-run" in line else outcome.error == "error: all is right so far"


def test_weights_that_cannot_be_had_are_refused_in_one_line(ordinary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ordinary)
    command = "foclip harden --model ViT-B-32/laion2b_s34b_b79k --images PICTURES --out hardened-b32"
    assert "cannot be downloaded" in call(*command.split()[1:]).error


@pytest.mark.slow
def test_one_study_runs_without_paintings(ordinary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ordinary)
    monkeypatch.setattr(pictures, "shipped", lambda: sorted(Path("photos").iterdir()))
    smaller = ((StudySettings, "steps", 4), (StudySettings, "count", 2), (artworks, "QUERIES", 1), (harness, "DPI", 50))
    for home, name, value in smaller:
        monkeypatch.setattr(home, name, value)
    outcome = call("reproduce", "artworks", "--quick", "--out", "results")
    assert outcome.code == 0, outcome.err
    assert "results/report.html" in outcome.out


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(PYTHON))
def test_the_python_of_the_docs_runs_as_it_is_written(
    page: str, ordinary: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cat.png").write_bytes((ordinary / "cat.png").read_bytes())
    columns = {"key": ["a"], "caption": ["b"], "score": [0.3], "p_value": [0.5], "probe": ["jpeg"]}
    Path("scanned", "parts").mkdir(parents=True)
    parquet.write_table(arrow.table(columns), Path("scanned", "parts", "00000000.parquet"))
    names: dict[str, object] = {}
    for block in PYTHON[page]:
        exec(block, names)  # our own pages


@pytest.mark.slow
def test_the_library_part_runs_as_it_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_photos: list[Image.Image],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = re.findall(r"## Library\n\n```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    small_photos[0].save("cat.png")
    Path("fooled").mkdir()
    small_photos[0].save("fooled/cat.png")  # of an earlier command
    monkeypatch.setattr("foclip.runs.fooling.default_plan", lambda scorer: default_plan(scorer, steps=60))
    exec(code, {})  # our own README
    scored, after, verdict = capsys.readouterr().out.strip().splitlines()
    assert scored.startswith("[Scored(image='cat.png'")
    output, figure = after.split()
    assert output != "fooled/cat.png"
    assert float(figure) > 0
    assert verdict == "tampered"
