"""Calls the command line in this process, and looks at what it left on disk."""

import io
import json
import multiprocessing
import os
import re
import stat
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from foclip import cli
from foclip.detection import TwoThresholds, probes
from foclip.detection.cascade import Cascade
from foclip.detection.rule import DriftThreshold

#: What stderr shows of progress where it is no terminal: `[1:20] fooling: 3 of 50`.
PROGRESS = re.compile(r"^\[\d+:\d\d\] .*\n", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What a call came to.

    Attributes:
        code: Exit code.
        out: All of stdout.
        err: All of stderr but progress.
    """

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Lines of stderr that say something."""
        return [line for line in self.err.split("\n") if line.strip()]

    @property
    def failed(self) -> list[str]:
        """One line per input that failed."""
        return [line for line in self.lines if line.startswith("failed: ")]

    @property
    def error(self) -> str:
        """The one line of a call that was wrong."""
        assert self.code == 2, f"exit {self.code}, not 2: {self.err}"
        assert len(self.lines) == 1, f"{len(self.lines)} lines on stderr instead of one: {self.err}"
        assert self.lines[0].startswith("error: "), self.lines[0]
        return self.lines[0]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows on stdout of a call with `--json` that were done."""
        document = json.loads(self.out)
        assert isinstance(document, list)
        return [row for row in document if "error" not in row]


def call(*arguments: object, encoding: str = "utf-8") -> Outcome:
    """Call `foclip` with arguments; an exception that leaves it, a traceback to its user, fails the test.

    Args:
        arguments: Of the command line.
        encoding: What stdout and stderr take, as `PYTHONIOENCODING` says it.
    """
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace", write_through=True)
    code = 0
    with (
        mock.patch.object(sys, "argv", ["foclip", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except (Exception, KeyboardInterrupt) as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "foclip" in frame.filename]
            where = f"{Path(frames[-1].filename).name}, {frames[-1].name}" if frames else "?"
            pytest.fail(f"a traceback ({where}): {type(error).__name__}: {str(error)[:200]}", pytrace=False)
    written = [
        stream.buffer.getvalue().decode(encoding) for stream in (out, err) if isinstance(stream.buffer, io.BytesIO)
    ]
    assert "Traceback" not in written[1]
    return Outcome(code, written[0], PROGRESS.sub("", written[1]))


#: Forks processes from one that has imported what commands need: importing takes longer than most commands.
_ready = multiprocessing.get_context("forkserver")
_ready.set_forkserver_preload(["ready"])


def _process(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Start a function of this module in a process of its own."""
    here = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    with mock.patch.dict(os.environ, PYTHONPATH=here):  # where `ready` is found, by whatever Python
        forkserver.ensure_running()
    process = _ready.Process(target=target, args=arguments)
    process.start()
    return process


def started(
    *arguments: object,
    prepare: Callable[[], None] | None = None,
    out: Path | None = None,
    err: Path | None = None,
    folder: Path | None = None,
) -> BaseProcess:
    """Start `foclip` with arguments in a process of its own, which may be killed.

    Args:
        arguments: Of the command line.
        prepare: Called in the process before; a function of a module.
        out: File for its stdout, which is dropped otherwise.
        err: File for its stderr, likewise.
        folder: Where it is called; here unless given.
    """
    return _process(_command, [*map(str, arguments)], prepare, (out, err), folder or Path.cwd())


def _command(
    arguments: list[str], prepare: Callable[[], None] | None, streams: tuple[Path | None, Path | None], folder: Path
) -> None:
    os.chdir(folder)
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path or os.devnull, os.O_WRONLY | os.O_CREAT, 0o600), number)
    if prepare:
        prepare()
    sys.argv = ["foclip", *arguments]
    cli.main()


def executed(code: str, *arguments: object) -> BaseProcess:
    """Start Python code in a process of its own, with arguments in `sys.argv`."""
    return _process(_execute, code, [*map(str, arguments)])


def _execute(code: str, arguments: list[str]) -> None:
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})  # our own


#: Where it says how many pictures a pass of detectors is for; tests have few, and the rest of a pass is black.
ROWS: list[tuple[Any, str]] = [
    (probes, "ROWS"),
    (probes, "SOME_ROWS"),
    (Cascade, "rows"),
    (TwoThresholds, "rows"),
    (DriftThreshold, "rows"),
]


def few_rows() -> None:
    """From here on, passes of detectors are for few pictures."""
    for home, name in ROWS:
        setattr(home, name, 8)


def snapshot(folder: Path, besides: str = "") -> dict[str, tuple[object, ...]]:
    """Every path below a folder with what changes when it is touched; what starts with `besides` is left out."""
    found: dict[str, tuple[object, ...]] = {}
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(parent, name)
            relative = str(path.relative_to(folder))
            if not (besides and relative.startswith(besides)):
                status = path.lstat()
                # a folder's own time changes with what is in it, which is listed anyway
                touched = (status.st_size, status.st_mtime_ns, status.st_ino)
                found[relative] = (status.st_mode, *(() if stat.S_ISDIR(status.st_mode) else touched))
    return found
