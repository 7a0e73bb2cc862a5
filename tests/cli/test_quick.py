"""What the command line says at once: refusals before torch is imported, progress, piped tables, Ctrl-C."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from calling import call

from foclip.cli import console, progress

CALL = "import sys; sys.argv = ['foclip', *sys.argv[1:]]\nfrom foclip import cli\n"
#: Ends with 99 if torch was imported on the way.
LIGHT = CALL + "try:\n    cli.main()\nfinally:\n    if 'torch' in sys.modules: __import__('os')._exit(99)\n"
#: Imports from the current folder first.
HERE_FIRST = "import sys; sys.path.insert(0, '.')\n" + CALL + "cli.main()"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--help",), 0, ""),
        (("fool", "--help"), 0, ""),
        (("models", "--json"), 0, ""),
        (("fool", "nosuch.png", "--prompt", "a", "--out", "out"), 1, "nosuch.png: no such file"),
        (("score", "a.png", "--prompts", "nosuch"), 2, "no prompt set"),
        (("score", "a.png", "--prompts", "imagenet:2000"), 2, "1 to 1000"),
        (("score", "nosuch.png", "--prompts", "imagenet:20"), 1, "no such file"),
        (("score", "a.png", "--prompt", "a", "--captions", "nosuch.csv"), 2, "nosuch.csv: no such file"),
        (("score", "a.png", "--prompt", "a", "--model", "mimi"), 2, "did you mean mini"),
        (("score", "a.png", "--prompt", "a", "--model", "RN50/nosuch"), 2, "neither a file nor"),
        (("score", "a.png", "--prompt", "a", "--score", "nosuch"), 2, "nosuch"),
        (("fool", "a.png", "--prompt", "a", "--lr", "fast", "--out", "out"), 2, "--lr fast"),
        (("fool", "a.png", "--prompt", "a", "--budget", "flop:1", "--out", "out"), 2, "--budget"),
        (("fool", "a.png", "--prompt", "a", "--attack", "nosuch", "--out", "out"), 2, "nosuch"),
        (("fool", "a.png", "--prompt", "a", "--out", "a.png"), 2, "--out"),
        (("fool", "a.png", "--out", "out"), 2, "--prompts: no prompts given"),
        (("score", "a.png"), 2, "--prompts: no prompts given"),
        (("score", "a.png", "--prompt", "a", "--captions", "sidecar"), 2, "--captions: give either"),
        (("detect", "a.png", "--prompt", "a", "--captions", "sidecar"), 2, "--captions: give either"),
        (("detect", "a.png", "--fpr", "5"), 2, "--fpr: 5.0 is not in"),
        (("detect", "a.png", "--detector", "nosuch.json"), 2, "nosuch.json: no such file"),
        (("scan", "pool", "--fpr", "5", "--out", "out"), 2, "--fpr"),
        (("calibrate", "--clean", "nosuch", "--out", "d.json"), 2, "nosuch: no such file or folder"),
        (("harden", "--images", "nosuch", "--out", "out"), 2, "nosuch: no such file or folder"),
        (("reproduce", "nosuch", "--out", "out"), 2, "no study nosuch"),
        (("reproduce", "tau", "--images", "nosuch", "--out", "out"), 2, "nosuch: no such file or folder"),
    ],
)
def test_what_is_wrong_is_said_before_torch_is_imported(
    tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == (code > 0)


def test_where_there_is_no_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.05)
    with progress.loading("mini"), progress.bars() as stages:
        slow, quick = stages("fooling", 4), stages("reading", 2)
        quick(2)
        slow(1.9, "1 of 2 pictures")
        time.sleep(0.3)
        slow(4)
        slow(4)
    lines = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == "loading mini"
    assert "reading: 2 of 2" in lines[1:3]
    assert lines.count("fooling: 1 of 4, 1 of 2 pictures") >= 2
    assert lines.count("fooling: 4 of 4") == 1
    assert lines[-1] == "fooling: 4 of 4"


def test_what_is_loaded_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A score of another package by its own name: it may have nothing to do with `mini`."""
    monkeypatch.setattr("foclip.models.registry.by_open_clip", lambda *_: False)
    monkeypatch.setattr("foclip.models.registry.resolve", lambda *_: None)
    for score in ("clipscore", "toy"):
        progress.load("mini", score, "cpu")
    lines = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["loading mini", "loading toy"]


def test_the_first_line_comes_before_torch(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    done = subprocess.run(
        [sys.executable, "-c", HERE_FIRST, "score", "a.png", "--prompt", "a"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[0].endswith("] loading mini")


def test_a_table_that_is_piped_has_one_whole_row_per_picture(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("folder/" * 40 + "a name.png", "+2376.4 %", "0.1 " + "word " * 40), ("tab\there.png", "–", "x")]
    console.table(("picture", "gain", "lowest prompt"), rows)
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split("\t") == ["picture", "gain", "lowest prompt"]
    assert first.split("\t") == ["folder/" * 40 + "a name.png", "+2376.4 %", "0.1 " + "word " * 40]
    assert second.split("\t")[0] == "tab\\there.png"


def test_a_list_of_models_that_is_piped() -> None:
    outcome = call("models")
    rows = [line.split("\t") for line in outcome.out.splitlines()]
    assert rows[0] == ["name", "kind", "input / px", "parameters"]
    assert {len(row) for row in rows} == {4}
    assert ["ViT-L-14-336-quickgelu/openai", "open_clip", "336", "–"] in rows


def test_a_path_of_models_is_one_that_open_clip_can_load() -> None:
    rows = {row["name"]: row for row in json.loads(call("models", "--json").out)}
    assert (Path(rows["mini-robust"]["path"]) / "open_clip_config.json").is_file()
    assert rows["mini-robust-46"]["path"] is None
    assert rows["mini-robust-46"]["parameters"] == rows["mini"]["parameters"]


#: Compiled code that knows no signals, for so many seconds, below the command line's answer to Ctrl-C. Another thread
#: says so once the main thread has spent more processor time than Python needs to get there.
BUSY = """
import hashlib, threading, time
from foclip.cli.progress import answered
start = time.monotonic()
hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000)
rounds = int(200_000 * 60 / (time.monotonic() - start))  # it is ended long before
clock = time.pthread_getcpuclockid(threading.main_thread().ident)

def announce(begun):
    while time.clock_gettime(clock) < begun + 0.3:
        time.sleep(0.01)
    print("busy", flush=True)

with answered():
    threading.Thread(target=announce, args=(time.clock_gettime(clock),), daemon=True).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", rounds)
"""


def test_an_interrupt_is_answered_while_the_main_thread_is_busy() -> None:
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "busy\n"
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    line = process.stderr.readline()
    assert line.startswith("stopping after the step that is under way")
    assert time.monotonic() - start < 2.5
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)  # and a second one ends it
    assert process.wait(timeout=3) == 130
    assert process.stderr.read() == ""
