"""Many visitors of the page at once: how long they wait, what memory stays, whether anyone sees another's file.

```
python -m benchmarks.visitors --visitors 20 --seconds 300
```

This needs `pip install "foclip[app]"`.

First one visitor is alone: how soon the first live picture comes after the button was pressed, and the processor time
of the run on the page beside that of the same run by `foclip.runs.fooling.fool`, picture and report written, in turns.
Then every visitor sends a picture of their own, fools it in eight steps, checks what came out, and begins again. The
server is `foclip app` in a process of its own; its memory is read before the first visitor, after a warm-up, and at the
end.
"""

import argparse
import base64
import io
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.visitor import Visitor
from foclip.attacks import default_plan
from foclip.data.prompts import ARTWORKS
from foclip.demo import photos
from foclip.models import Scorer, load
from foclip.reports.fooled import FooledReport
from foclip.runs import fooling

LINK = re.compile(r'download="(\w+\.png)" href="data:image/png;base64,([^"]*)"')


def picture(number: int) -> bytes:
    """A picture that no other visitor has: a patch of colour, and noise."""
    pixels = np.random.default_rng(number).integers(0, 60, (192, 192, 3), dtype=np.uint8)
    pixels += np.array([10 * number % 190, 7 * number % 190, 90], dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def visit(url: str, number: int, until: float, waits: list[float], faults: list[str]) -> None:
    """Be one visitor until it is late."""
    own, name = picture(number), f"visitor{number}.png"
    original = np.asarray(Image.open(io.BytesIO(own)), dtype=int)
    while True:
        began = time.monotonic()
        try:
            visitor = Visitor(url)
            shown = visitor.press("fool-start", **{"fool-picture": visitor.upload(name, own), "Steps": 8})
            ((saved, content),) = LINK.findall(shown)
            fooled = base64.b64decode(content)
            change = np.abs(np.asarray(Image.open(io.BytesIO(fooled)), dtype=int) - original).max()
            others = set(re.findall(r"visitor\d+", shown)) - {f"visitor{number}"}
            if saved != name or others or change > 60:
                faults.append(f"{name} got {saved}, {others}, changed by {change}")
            checked = visitor.press("check-start", **{"check-pictures": [visitor.upload(name, fooled)]})
            if f"{name}" not in checked:
                faults.append(f"{name}: no verdict")
            visitor.client.close()
        except Exception as error:
            faults.append(f"{name}: {type(error).__name__} {error}"[:200])
        waits.append(time.monotonic() - began)
        if time.monotonic() > until:
            return


def crowd(url: str, count: int, seconds: float) -> tuple[list[float], list[str]]:
    """How long each round of each visitor took, and what went wrong."""
    waits, faults, until = list[float](), list[str](), time.monotonic() + seconds
    threads = [threading.Thread(target=visit, args=(url, number, until, waits, faults)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waits, faults


def by_library(scorer: Scorer, steps: int) -> float:
    """Processor seconds of one run on the demo's first photo, its picture and its report written."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        report, plan = FooledReport(), default_plan(scorer, steps=steps)
        run = fooling.fool(photos()[0], list(ARTWORKS), folder, model=scorer, attack=plan, on_result=report.add)
        report.write(Path(folder) / "report.html", run.results, [])
    return time.process_time() - began


def on_page(url: str, steps: int, used: Callable[[], float]) -> tuple[float, float]:
    """Processor seconds of the server in the same run, and seconds until the first live picture."""
    visitor, before, pressed = Visitor(url), used(), time.monotonic()
    visitor.join("fool-start", Steps=steps)
    first = None
    for message in visitor.messages():
        if first is None and "data:image" in str(message.get("output", "")):
            first = time.monotonic() - pressed
    visitor.client.close()
    assert first is not None
    return used() - before, first


def alone(url: str, used: Callable[[], float], steps: int = 70, rounds: int = 5) -> None:
    """Print what one visitor waits for, and what their run costs."""
    scorer = load("clipscore", "mini")
    by_library(scorer, 2), on_page(url, 2, used)
    ratios, waits = [], []
    for _ in range(rounds):
        plain = by_library(scorer, steps)
        cost, wait = on_page(url, steps, used)
        ratios.append(cost / plain)
        waits.append(wait)
    print(f"one visitor, {steps} steps: first live picture after {max(waits):.1f} s (longest of {rounds})")
    print(f"processor time of page / library: {statistics.median(ratios):.3f} (median), {max(ratios):.3f} (most)")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=300)
    given = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "foclip", "app", "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        while server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.5)
        url, process = f"http://127.0.0.1:{port}", psutil.Process(server.pid)

        def memory() -> float:
            return process.memory_info().rss / 2**20

        alone(url, lambda: sum(process.cpu_times()[:2]))
        start = memory()
        crowd(url, given.visitors, 0)
        warm = memory()
        waits, faults = crowd(url, given.visitors, given.seconds)
        busy = memory()
        time.sleep(10)
        print(f"{given.visitors} visitors, {given.seconds:g} s: {len(waits)} rounds", flush=True)
        print(f"a round took {statistics.median(waits):.0f} s (median), {max(waits):.0f} s (longest)")
        print(f"memory of the server / MB: {start:.0f} at the start, {warm:.0f} warm, {busy:.0f}, {memory():.0f} after")
        print(f"faults: {len(faults)}", *faults[:10], sep="\n")
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
