"""Commands that are killed at random moments and called again: do they write the bytes of an undisturbed run?

Each command is killed (SIGKILL) or interrupted (SIGINT, as Ctrl-C sends it) again and again, a few times on the way to
one result, until as many moments have come as were asked for. A moment is drawn among the changes that an undisturbed
run makes to its folder, half of them among the last ones, when reports are written, and lies anywhere between that
change and the next.

    python benchmarks/killed.py [--moments 20] [--chain 4] [--seed 0] [fool calibrate tau]

It exits with 1 where a byte differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from foclip.demo import photos

#: Folder that a command writes into, relative to where it is called.
OUT = "out"
#: The last changes in the folder: those of reports.
LAST = 8
#: Seconds between two looks at the folder.
LOOK = 0.005
#: Exit codes of a command that was stopped: killed, interrupted and it says so, or faster than the signal; and
#: interrupted while Python itself was starting or ending.
STOPPED = {signal.SIGKILL: (-signal.SIGKILL, 0), signal.SIGINT: (130, 0, -signal.SIGINT)}


class Process(Protocol):
    """A process that runs, as `subprocess.Popen` has it."""

    pid: int

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended."""


def new_interpreter(arguments: Sequence[str], folder: Path, errors: Path) -> Process:
    """Start `foclip` in a folder as a shell does; its stderr goes to a file."""
    call = [sys.executable, "-m", "foclip", *arguments]
    with errors.open("w") as stream:
        return subprocess.Popen(call, cwd=folder, stdout=subprocess.DEVNULL, stderr=stream)


@dataclass(frozen=True)
class Command:
    """A command that goes on where it was cut off.

    Attributes:
        arguments: Of `foclip`, called in the folder of `pictures`; results go to `OUT`.
        results: The bytes that must not differ, by name, drawn from the folder of results.
        start: Starts it with its arguments in a folder, with a file for its stderr.
    """

    arguments: Sequence[str]
    results: Callable[[Path], Mapping[str, bytes]]
    start: Callable[[Sequence[str], Path, Path], Process] = new_interpreter


def fooled(out: Path) -> dict[str, bytes]:
    """What `fool` writes, but for the seconds it took."""
    rows = json.loads((out / "results.json").read_text(encoding="utf-8"))
    timeless = json.dumps([{key: value for key, value in row.items() if key != "seconds"} for row in rows])
    assert (out / "report.html").stat().st_size > 1000
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))
    return {path.name: path.read_bytes() for path in out.glob("*.png")} | {"results.json": timeless.encode()}


def written(*names: str) -> Callable[[Path], dict[str, bytes]]:
    """The files of these names."""
    return lambda out: {name: (out / name).read_bytes() for name in names}


COMMANDS = {
    "fool": Command(
        ("fool", "0.png", "1.png", "2.png", "--prompts", "artworks", "--steps", "60", "--out", OUT), fooled
    ),
    "calibrate": Command(
        ("calibrate", "--clean", ".", "--fpr", "0.1", "--fooled", "8", "--steps", "30", "--out", f"{OUT}/d.json"),
        written("d.json"),
    ),
    "tau": Command(("reproduce", "tau", "--quick", "--out", OUT), written("tau/table.csv", "tau/table.parquet")),
}


def pictures(folder: Path, count: int = 32, side: int = 96) -> None:
    """Make a folder with pieces of real photos that share no pixel."""
    folder.mkdir(parents=True)
    opened = [Image.open(path).convert("RGB") for path in photos()]
    for number in range(count):
        left, top = (100 * place for place in divmod(number // len(opened), 3))
        piece = opened[number % len(opened)].crop((left, top, left + 100, top + 100))
        piece.resize((side, side)).save(folder / f"{number}.png")


class Run:
    """A command that runs, seen by the changes that it makes to its folder."""

    def __init__(self, command: Command, folder: Path) -> None:
        self._out, self._errors = folder / OUT, folder.with_suffix(".stderr")
        self._seen = self._look()
        self.changes = 0
        self._process = command.start(command.arguments, folder, self._errors)

    def _look(self) -> set[tuple[str, int]]:
        found = set()
        for inside, _, names in os.walk(self._out):  # passes over folders that are gone since
            for path in (Path(inside, name) for name in names):
                with suppress(OSError):  # gone since
                    if path.suffix != ".part":
                        found.add((str(path), path.stat().st_mtime_ns))
        return found

    def next(self) -> bool:
        """Wait for the next change; False if the command ended without one."""
        while True:
            ended = self._process.poll() is not None
            now = self._look()
            if new := now - self._seen:
                self._seen |= new
                self.changes += len(new)
                return True
            if ended:
                return False
            time.sleep(LOOK)

    def stop(self, signal_number: signal.Signals) -> bool:
        """Send a signal and wait for the end, which must be one in order; whether it came before the end."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):  # ended since
                os.kill(self._process.pid, signal_number)
        code, errors = self._process.wait(timeout=600), self._errors.read_text()
        assert code in STOPPED[signal_number], (code, errors[-2000:])
        assert "Traceback" not in errors, errors[-2000:]
        return code != 0

    def finish(self) -> None:
        """Wait for the end, which must be a good one."""
        assert self._process.wait(timeout=3600) == 0, self._errors.read_text()[-2000:]


def undisturbed(command: Command, folder: Path) -> tuple[Mapping[str, bytes], list[float]]:
    """Results of a run that nobody stops, and the seconds at which it changed its folder, the end included."""
    pictures(folder)
    start, times = time.monotonic(), []
    run = Run(command, folder)
    while run.next():
        times.append(time.monotonic() - start)
    run.finish()
    return command.results(folder / OUT), [*times, time.monotonic() - start]


def disturbed(
    command: Command,
    folder: Path,
    times: Sequence[float],
    signals: Sequence[signal.Signals],
    draw: random.Random,
) -> tuple[Mapping[str, bytes], int]:
    """Results of a run that is stopped at random moments, and each time called again; and how many came before its end.

    Args:
        command: The command.
        folder: Folder to make and call it in.
        times: Those of an undisturbed run.
        signals: What stops it, one after the other.
        draw: Draws the moments.
    """
    pictures(folder)
    made, landed, last = 0, 0, len(times) - 2
    for signal_number in signals:
        first = min(made, last) if draw.random() < 0.5 else max(0, last - LAST)
        change = draw.randint(first, last)
        run = Run(command, folder)
        for _ in range(max(1, change - made + 1)):  # what was made before is not made again
            if not run.next():
                break
        time.sleep(draw.uniform(0, times[change + 1] - times[change]))
        landed += run.stop(signal_number)
        made = max(made, change)
    run = Run(command, folder)
    run.finish()
    return command.results(folder / OUT), landed


def differences(expected: Mapping[str, bytes], found: Mapping[str, bytes]) -> list[str]:
    """Names of what is missing, too much or other than expected."""
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"of {', '.join(COMMANDS)}; all by default")
    parser.add_argument("--moments", type=int, default=20, help="of each command and signal")
    parser.add_argument("--chain", type=int, default=4, help="of them on the way to one result")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    worst = 0
    print(f"{'command':<10} {'signal':<8} {'moments':>7} {'results':>7} {'differ':>6}  undisturbed", flush=True)
    for name in arguments.commands or COMMANDS:
        with tempfile.TemporaryDirectory() as place:
            expected, times = undisturbed(COMMANDS[name], Path(place, "undisturbed"))
            for signal_number in (signal.SIGKILL, signal.SIGINT):
                results, differing, moments = 0, [], 0
                while moments < arguments.moments:
                    folder = Path(place, f"{signal_number.name}-{results}")
                    stops = min(arguments.moments - moments, arguments.chain)
                    found, landed = disturbed(COMMANDS[name], folder, times, [signal_number] * stops, draw)
                    differing += differences(expected, found)
                    results, moments = results + 1, moments + landed
                worst = max(worst, len(differing))
                print(
                    f"{name:<10} {signal_number.name:<8} {moments:>7} {results:>7} {len(differing):>6}  "
                    f"{times[-1]:.1f} s, {len(times) - 1} changes {' '.join(differing)}",
                    flush=True,
                )
    return int(worst > 0)


if __name__ == "__main__":
    sys.exit(main())
