"""What commands print: those that README and docs show with their output, run as they stand there, one thread each.

    python -m benchmarks.printed --pictures PICTURES

They run after `foclip demo`, in a new folder. `photos` has the demo's photographs, `cat.png` is one of them, and
`pictures` has the first 200 of PICTURES. What is printed is written to docs/figures/printed.json.
"""

import argparse
import contextlib
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from benchmarks.common import Table
from benchmarks.layouts import PRINTED
from benchmarks.record import save
from foclip import demo
from foclip.data import images
from foclip.errors import UsageError

#: Pictures that an encoder is hardened on, and columns of the terminal.
PICTURES, WIDTH = 200, 124
#: How terminals are told to print boldly or in colour.
BOLD = re.compile(r"\x1b\[[\d;]*m")


def printed(line: str, folder: Path) -> str:
    """What a command that is typed in a folder prints on a terminal; an error if it fails."""
    words = [each for word in shlex.split(line)[1:] for each in _expanded(word, folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": str(WIDTH), "TERM": "xterm"}
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        with os.fdopen(theirs, "wb") as terminal:
            command = [sys.executable, "-m", "foclip", *words]
            done = subprocess.Popen(command, cwd=folder, env=environment, stdout=terminal)
        text = b"".join(_until_it_ends(screen)).decode()
        if done.wait():
            raise subprocess.CalledProcessError(done.returncode, command)
    return "\n".join(row.rstrip() for row in BOLD.sub("", text).splitlines()).strip("\n")


def _until_it_ends(screen: IO[bytes]) -> Iterator[bytes]:
    """What appears on a terminal. Where nobody writes to it any more, Linux says so by an error."""
    with contextlib.suppress(OSError):
        while part := screen.read(4096):
            yield part


def _expanded(word: str, folder: Path) -> Sequence[str]:
    """A word, or the files that it stands for if it has an asterisk, as a shell does it."""
    return sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if "*" in word else [word]


def main() -> None:
    """Run the commands, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="folder of photographs")
    found = images.find([parser.parse_args().pictures])[:PICTURES]
    if len(found) < PICTURES:
        raise UsageError(f"--pictures: {len(found)} pictures, and {PICTURES} are needed")
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place, paths in {"photos": demo.photos(), "pictures": found}.items():
            (folder / place).mkdir()
            for path in paths:
                shutil.copy(path, folder / place)
        shutil.copy(folder / "photos" / "chelsea.png", folder / "cat.png")
        printed("foclip demo --out foclip-demo", folder)
        for shown in PRINTED.values():
            table.add({"command": shown.command, "printed": printed(shown.command, folder)})
    print(save("printed", "What commands print", {"commands": table}, models=["mini"], detectors=["mini"]))


if __name__ == "__main__":
    main()
