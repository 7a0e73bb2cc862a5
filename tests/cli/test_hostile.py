"""Hostile inputs × commands: the right exit code, one line on stderr each, nothing touched that is not ours.

Every cell is one call in a folder that holds all of `zoo`; results may only go to `out` in it.
"""

import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zoo
from calling import PROGRESS, Outcome, call, snapshot
from zoo import GOOD_PROMPTS, NOT_UTF8, READABLE, RED, TOO_LONG, UNREADABLE, WRONG_CAPTIONS, WRONG_PROMPTS

from foclip.attacks import FoCLIP

#: What takes longer has begun to work on what it should have refused.
pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("_embedded_once", "_passes_once")]

OUT = "out"
CAT = ("--prompt", "a cat")
FOOL = ("fool", "good.png", *CAT, "--steps", "1", "--out", OUT)
SCORE = ("score", "good.png", *CAT)
DETECT = ("detect", "good.png")
CALIBRATE = ("calibrate", "--clean", "good.png", "--out", f"{OUT}/d.json")
REPRODUCE = ("reproduce", "tau", "--quick", "--out", OUT)


@dataclass(frozen=True)
class Cell:
    """One call and what must come of it: an exit code, and words in the line that says what is wrong."""

    arguments: tuple[str, ...]
    codes: tuple[int, ...] = (2,)
    says: str = ""

    def __str__(self) -> str:
        text = " ".join(argument if len(argument) < 40 else f"{argument[:30]}…" for argument in self.arguments)
        return text.encode("ascii", "backslashreplace").decode()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.build(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def _nothing_else_touched(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(world)
    before = snapshot(world)
    yield
    after = snapshot(world, besides=OUT)
    for path in (world / OUT, *(world / name for name in after.keys() - before.keys())):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    assert sorted(after.keys() - before.keys()) == [], "made outside of --out"
    assert [name for name in before if before[name] != after.get(name)] == [], "touched"


def check(cell: Cell, failed: int = 1) -> Outcome:
    """Make the call of a cell, and hold what came of it against the rules for all of them.

    With exit code 1, so many inputs have failed.
    """
    outcome = call(*cell.arguments)
    assert outcome.code in cell.codes, f"exit {outcome.code}, not {cell.codes}: {outcome.err}"
    allowed = "\n\t"  # tabs separate the columns of a table that is piped; tabs of a name are escaped
    raw = [mark for mark in outcome.out + outcome.err if mark not in allowed and unicodedata.category(mark) == "Cc"]
    assert raw == [], "control characters on the terminal"
    if outcome.code == 2:
        assert re.search(cell.says, outcome.error), outcome.error
        assert not outcome.out or "error" in json.loads(outcome.out)
    else:
        assert len(outcome.failed) == outcome.code * failed, outcome.err
        assert all(re.search(cell.says, line) for line in outcome.failed), outcome.err
        assert not any(line.startswith("error") for line in outcome.lines)
    if "--json" in cell.arguments and outcome.out:
        json.loads(outcome.out)
    return outcome


def ids(cells: list[Cell]) -> list[str]:
    return [str(cell) for cell in cells]


# Pictures: each beside a good one, which must be done whatever the other is.

MANY = [
    ("fool", *CAT, "--steps", "1", "--out", OUT, "--json"),
    ("score", *CAT),
    ("detect", "--json"),
]


@pytest.mark.slow
@pytest.mark.parametrize("command", MANY, ids=lambda command: command[0])
@pytest.mark.parametrize("names", [UNREADABLE, READABLE], ids=["unreadable", "readable"])
def test_a_good_picture_is_done_beside_any_others(
    world: Path, command: tuple[str, ...], names: Collection[str]
) -> None:
    bad = names is UNREADABLE
    done = 1 if bad else len(names) + 1
    outcome = check(Cell((*command, *names, "good.png"), (int(bad),)), failed=len(names))
    if bad:
        for (name, says), line in zip(UNREADABLE.items(), outcome.failed, strict=True):
            assert re.search(says, line), (name, line)
    if "--json" in command:
        assert len(outcome.rows) == done
        assert "good.png" in {Path(row.get("source") or row["image"]).name for row in outcome.rows}
    else:
        assert "good.png" in outcome.out
    if command[0] == "fool":
        assert (world / OUT / "good.png").is_file()
        assert len(list((world / OUT).glob("*.png"))) == done
        assert len(json.loads((world / OUT / "results.json").read_text())) == done
        assert "<script" not in (world / OUT / "report.html").read_text()


@pytest.mark.parametrize("name", [*UNREADABLE], ids=lambda name: ascii(name)[:40])
def test_nothing_can_be_calibrated_on_it(name: str) -> None:
    check(Cell(("calibrate", "--clean", name, "--out", f"{OUT}/d.json")))


# Prompts, for every command that takes them.

TAKE_PROMPTS = [
    ("fool", "good.png", "--steps", "1", "--out", OUT),
    ("score", "good.png", "--json"),
    ("detect", "good.png", "--json"),
    CALIBRATE,
]


@pytest.mark.parametrize("command", TAKE_PROMPTS, ids=lambda command: command[0])
@pytest.mark.parametrize(("prompts", "says"), WRONG_PROMPTS, ids=lambda value: ascii(value)[:50])
def test_prompts_that_are_refused(command: tuple[str, ...], prompts: tuple[str, ...], says: str) -> None:
    check(Cell((*command, *prompts), says=says))


@pytest.mark.parametrize("command", TAKE_PROMPTS[:3], ids=lambda command: command[0])
@pytest.mark.parametrize("prompts", GOOD_PROMPTS, ids=lambda prompts: ascii(prompts)[:50])
def test_prompts_that_are_taken(world: Path, command: tuple[str, ...], prompts: tuple[str, ...]) -> None:
    # what no text can be, half a surrogate pair, may be refused
    codes = (0, 2) if NOT_UTF8 in prompts else (0,)
    outcome = check(Cell((*command, *prompts), codes))
    if command[0] == "fool" and outcome.code == 0:
        assert "<script>alert" not in (world / OUT / "report.html").read_text()


@pytest.mark.parametrize("command", TAKE_PROMPTS, ids=lambda command: command[0])
@pytest.mark.parametrize("file", WRONG_CAPTIONS, ids=lambda file: file[:40])
def test_captions_that_are_refused(command: tuple[str, ...], file: str) -> None:
    check(Cell((*command, "--captions", file), says="caption"))


# Options.

#: Options that are numbers, besides those below. `scan --min-score nan` once let no row pass, and said nothing.
NUMBERS = {
    "detect": ["fdr"],
    "harden": ["keep", "min-psnr", "least", "lr", "aimed", "checkpoint-every"],
    "scan": ["min-score", "fdr", "fpr"],
}
OPTIONS = [
    *(Cell((*FOOL, "--target", value), says="target") for value in ("5", "nan", "-1", "inf", "high")),
    *(Cell((*FOOL, "--min-psnr", value), says="--min-psnr") for value in ("nan", "-3", "200", "inf", "high")),
    *(Cell((*FOOL, "--batch-size", value), says="batch.size") for value in ("0", "-1", "many")),
    Cell((*FOOL, "--batch-size", "1000000"), (1, 2), "batch.size|memory"),
    *(Cell((*FOOL, "--steps", value), says="steps") for value in ("-1", "1e3", "many")),
    *(Cell((*FOOL, "--lr", value), says="lr") for value in ("x", "", "0", "-1", "nan", "inf")),
    *(Cell((*FOOL, "--momentum", value), says="momentum") for value in ("2", "1", "-1", "nan", "x")),
    *(Cell((*FOOL, "--alpha", value), says="alpha") for value in ("-1", "nan", "inf")),
    *(Cell((*FOOL, "--beta", value), says="beta") for value in ("-1", "nan", "inf")),
    *(Cell((*FOOL, f"--{choice}", "x"), says=choice) for choice in ("balance", "guard", "init", "attack", "seed")),
    Cell((*FOOL, "--seed", "9" * 30), (0, 2)),
    Cell((*FOOL, "--attack", "adam", "--momentum", "0.5"), says="adam has no --momentum"),
    Cell((*FOOL, "--init", "noise", "--min-psnr", "30"), says="noise"),
    Cell((*FOOL, "--nosuch", "x"), says="nosuch"),
    Cell(("fool", "good.png", *CAT), says="out"),
    Cell(("nosuch", "good.png"), says="nosuch"),
    *(Cell((*SCORE, "--scale", value), says="scale") for value in ("0", "-1", "nan", "inf", "x")),
    Cell(("score", "good.png"), says="prompt"),
    Cell(("score", "", "good.png", *CAT), (1, 2), "name|empty"),
    Cell(("fool", "", *CAT, "--out", OUT), (1, 2), "name|empty"),
    Cell(("detect", "", "good.png"), (1, 2), "name|empty"),
    Cell(("score", "empty-folder", *CAT), says="empty-folder"),
    *(Cell((*DETECT, "--fpr", value), says="fpr") for value in ("0", "1", "-1", "nan", "1e-9", "x")),
    *(Cell((*DETECT, "--method", "rule", "--fpr", value), says="fpr") for value in ("0", "1e-9")),
    Cell((*DETECT, "--method", "x"), says="method"),
    *(Cell((*CALIBRATE, "--fpr", value), says="fpr") for value in ("0", "1", "nan", "-1", "x")),
    Cell((*CALIBRATE, "--fooled", "3"), says="fooled"),
    Cell((*CALIBRATE, "--steps", "0"), says="steps"),
    Cell(("calibrate", "--clean", "gray-photos", "--out", f"{OUT}/d.json"), says="few|20"),
    Cell(("calibrate", "--out", f"{OUT}/d.json"), says="clean"),
    Cell(("calibrate", "--clean", "", "--out", f"{OUT}/d.json"), says="name|empty|clean"),
    *(Cell(("reproduce", *studies, "--out", OUT), says="nope") for studies in (["nope"], ["tau", "nope"])),
    Cell(("reproduce", "tau", "nope", "all", "--out", OUT), says="nope"),
    Cell(("reproduce", "--quick", "--out", OUT), says="STUDY|stud"),
    *(Cell((*REPRODUCE, "--images", name), says="images") for name in ("nosuch", "empty-folder", "file", TOO_LONG, "")),
    *(Cell((*REPRODUCE, "--paintings", name), says="paintings") for name in ("nosuch", "empty-folder", "file")),
    Cell((*REPRODUCE, "--also", "nosuch"), says="unknown encoder"),
    Cell((*REPRODUCE, "--seed", "x"), says="seed"),
    Cell((*REPRODUCE, "--images", "gray-photos"), says="gray|colour"),
    *(
        Cell((command, "good.png", "--out", OUT, f"--{name}", value), says=f"--{name}")
        for command, names in NUMBERS.items()
        for name in names
        for value in ("nan", "inf")
    ),
]

DEVICES = [
    ("meta", "meta"),
    ("cuda", "cuda|CUDA|GPU"),
    ("cuda:99", "cuda|CUDA|GPU"),
    ("nonsense", "nonsense|device"),
    ("", "device"),
    (RED, "device"),
]
MODELS = [
    ("nosuch", "unknown encoder"),
    ("", "unknown encoder|empty"),
    (TOO_LONG, "unknown encoder"),
    (RED, "unknown encoder"),
    (NOT_UTF8, "unknown encoder"),
    (f"RN50/{TOO_LONG}", "neither a file nor"),
    ("RN50", "names no weights"),
    ("RN50/nosuch", "neither a file nor"),
    ("local-dir:nosuch", "local-dir:nosuch.*(folder|file|irectory)"),
    ("local-dir:empty-folder", "empty-folder"),
    (f"local-dir:{TOO_LONG}", "local-dir"),
    ("local-dir:weights/cut", "weights/cut.*(damaged|cut|weights|safetensors)"),
    ("local-dir:weights/nan", "NaN|finite"),
    ("hf-hub:nosuch/nosuch", "cannot be downloaded"),
    ("weights/nosuch.pt", "no such"),
    *((f"{name}", "weights|checkpoint") for name in ("weights/text.pt", "weights/zero.pt", "weights/emptydict.pt")),
    *((f"{name}", "weights|checkpoint") for name in ("weights/tensor.pt", "weights/list.pt", "weights/few.pt")),
    *((f"{name}", "weights|checkpoint") for name in ("weights/page.safetensors", "weights/length.safetensors")),
    ("weights/code.pt", "code|weights-only"),
    *((f"RN50/weights/{name}.pt", f"{name}.pt: .*(weights|checkpoint)") for name in ("text", "emptydict", "tensor")),
    *((f"RN50/weights/{name}.pt", f"{name}.pt: .*(weights|checkpoint)") for name in ("zero", "list", "dict", "few")),
    ("RN50/weights/code.pt", "could run code"),
]
ENCODERS = [
    *(
        Cell((*command, "--device", name), says=f"^(?!.*network).*({says})")
        for name, says in DEVICES
        for command in (FOOL, SCORE)
    ),
    *(Cell((*SCORE, "--model", name), says=says) for name, says in MODELS),
    *(Cell((*command, "--model", "RN50/nosuch"), says="neither") for command in (FOOL, DETECT, CALIBRATE, REPRODUCE)),
]

DETECTORS = ["cut", "empty", "text", "list", "null", "number", "deep", "deep-inside", "nan", "huge", "digits", "format"]
DETECTORS += ["types", "clean", "unsorted", "inputs", "binary", "nosuch"]
DETECTOR_FILES = [
    *(Cell((*DETECT, "--detector", f"detectors/{name}.json"), says=f"{name}.json") for name in DETECTORS),
    *(Cell((*DETECT, "--detector", f"detectors/{name}.json"), says="calibrated on") for name in ("other", "name")),
    Cell((*DETECT, "--detector", "empty-folder"), says="empty-folder"),
    Cell((*DETECT, "--detector", "loop"), says="loop"),
    Cell((*DETECT, "--detector", TOO_LONG), says="detector"),
    Cell((*DETECT, "--detector", ""), says="detector"),
]

NO_FOLDERS = ["", "file", "file/out", "loop", "dangling/out", "/proc/nowhere/out", TOO_LONG, f"{OUT}/{TOO_LONG}"]
FOLDERS = [
    *(Cell((*FOOL, "--out", name), says="--out") for name in NO_FOLDERS),
    *(Cell(("reproduce", "tau", "--quick", "--out", name), says="--out") for name in NO_FOLDERS),
    *(Cell((*CALIBRATE, "--out", f"{name}/d.json"), says="--out") for name in NO_FOLDERS[1:]),
    *(Cell((*CALIBRATE, "--out", name), says="--out") for name in ("", "d.txt", "d", f"{TOO_LONG}.json")),
    Cell((*FOOL, "--out", "/proc"), (1, 2), "/proc"),
    Cell(("demo", "--steps", "1", "--out", "file"), says="--out"),
    Cell(("demo", "--steps", "1", "--out", ""), says="--out"),
]


@pytest.mark.parametrize("cell", OPTIONS, ids=ids(OPTIONS))
def test_options(cell: Cell) -> None:
    check(cell)


@pytest.mark.parametrize("cell", ENCODERS, ids=ids(ENCODERS))
def test_encoders(cell: Cell) -> None:
    check(cell)


@pytest.mark.parametrize("cell", DETECTOR_FILES, ids=ids(DETECTOR_FILES))
def test_detector_files(cell: Cell) -> None:
    check(cell)


@pytest.mark.parametrize("cell", FOLDERS, ids=ids(FOLDERS))
def test_folders_for_results(cell: Cell) -> None:
    check(cell)


# What lies in the folder for results already.


@pytest.mark.parametrize("name", ["results.json", "run.json", "report.html", ".unfinished"])
def test_a_folder_in_the_place_of_a_file(world: Path, name: str) -> None:
    (world / OUT / name / "mine").mkdir(parents=True)
    check(Cell(FOOL, (0, 2) if name == ".unfinished" else (2,), name))
    assert (world / OUT / name / "mine").is_dir()


@pytest.mark.parametrize("name", ["results.json", ".unfinished"])
@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"source": 3}]', "[" * 100_000], ids=lambda text: text[:9])
def test_a_damaged_file_in_the_place_of_ours(world: Path, name: str, content: str) -> None:
    (world / OUT).mkdir()
    (world / OUT / name).write_text(content)
    check(Cell(FOOL, (0, 2), name))


def test_a_folder_in_the_place_of_a_fooled_picture(world: Path) -> None:
    (world / OUT / "good.png").mkdir(parents=True)
    check(Cell(FOOL, (0, 1), "good.png"))
    assert (world / OUT / "good.png").is_dir()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b'{"a": 1}', bytes(range(256))], ids=lambda c: str(c[:9])
)
def test_damaged_unfinished_work(world: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    update, calls = FoCLIP.update, 0

    def interrupt(self: FoCLIP, *arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # in the second picture; later steps refine
            raise KeyboardInterrupt
        update(self, *arguments)  # type: ignore[arg-type]

    command = ("fool", "good.png", "one.png", *CAT, "--steps", "3", "--batch-size", "1", "--out", OUT)
    with monkeypatch.context() as patch:
        patch.setattr(FoCLIP, "update", interrupt)
        assert call(*command).code == 130
    for path in (world / OUT).rglob("*"):
        if path.is_file() and any(part.startswith(".") for part in path.relative_to(world / OUT).parts):
            path.write_bytes(content)
    check(Cell(command, (0,)))
    assert len(json.loads((world / OUT / "results.json").read_text())) == 2


def test_a_full_disk(world: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        outcome = call(*FOOL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert outcome.code in (1, 2)
    assert len([line for line in outcome.lines if line.startswith(("error: ", "failed: "))]) == 1
    assert [path.name for path in (world / OUT).iterdir() if path.name.endswith(".part")] == []


def test_two_long_names_that_are_the_same(world: Path) -> None:
    check(Cell(("fool", "one", "two", *CAT, "--steps", "1", "--out", OUT), (0,)))
    assert len(list((world / OUT).glob("*.png"))) == 2


# A stdout that takes no text, or not all of it.


#: Most calls list the models, which needs no torch: all tables and all JSON are written in one place.
UNREAD = [
    (command, where) for where in (">&-", ">/dev/full", "| true") for command in (("models",), ("models", "--json"))
]


@pytest.mark.parametrize(
    ("command", "where"), [*UNREAD, pytest.param(SCORE, ">/dev/full", marks=pytest.mark.slow)], ids=str
)
def test_a_stdout_that_takes_nothing(command: tuple[str, ...], where: str) -> None:
    words = " ".join(f"'{word}'" for word in (sys.executable, "-m", "foclip", *command))
    done = subprocess.run(["bash", "-o", "pipefail", "-c", f"{words} {where}"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert len(PROGRESS.sub("", done.stderr).strip().splitlines()) <= 1
    assert done.returncode in ((0, 1, 2, 141) if where == "| true" else (1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["table", "json"])
def test_a_stdout_in_ascii(world: Path, more: tuple[str, ...]) -> None:
    shutil.copy("good.png", "café.png")
    outcome = call("detect", "café.png", *more, encoding="ascii")
    (world / "café.png").unlink()
    assert outcome.code == 0
    assert "caf" in outcome.out
