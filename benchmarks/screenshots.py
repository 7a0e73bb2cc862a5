"""Screenshots of every report, of every tab of the page, and of the documentation's first pages, to be looked at.

Each is made wide and narrow, light and dark.

```
python -m benchmarks.screenshots OUT
```

This needs `pip install "foclip[app,docs]" playwright` and Chromium: CHROMIUM names it, by default /usr/bin/chromium.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from benchmarks.visitor import serving
from foclip import cli
from foclip.app.served import Served
from foclip.demo import photos
from foclip.models import load

#: Nothing of the browser's own calls elsewhere.
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"wide": (1280, 900), "narrow": (420, 900)}
SCHEMES = ("light", "dark")
#: Pages of the documentation: one of each kind.
SITE = ("index", "tutorials/fool", "concepts/clip-scores", "reference/python", "results")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def looks(browser: Browser) -> Iterator[tuple[str, Any]]:
    """A page for each size and scheme, and what it is called."""
    for size, (width, height) in SIZES.items():
        for scheme in SCHEMES:
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            yield f"{size}-{scheme}", page
            page.close()


def command(*arguments: object) -> None:
    """A command of `foclip`, in this process; it may have failures."""
    sys.argv = ["foclip", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as ended:
        if ended.code not in (0, 1):
            raise


def reports(out: Path) -> dict[str, Path]:
    """The reports of runs on the demo's photos."""
    fooled = out / "fool"
    command("demo", "--out", fooled, "--steps", 20)
    command("detect", fooled, *photos(), "--out", out / "detect")
    command("scan", fooled, *photos(), "--out", out / "scan", "--workers", 1)
    return {
        "fool": fooled / "report.html",
        "detect": out / "detect" / "verdicts.html",
        "scan": out / "scan" / "report.html",
    }


def shoot_reports(browser: Browser, out: Path, pages: dict[str, Path]) -> None:
    """Each report; a page that is wider than the screen is a fault."""
    for look, page in looks(browser):
        for name, path in pages.items():
            page.goto(path.resolve().as_uri())
            page.screenshot(path=out / f"report-{name}-{look}.png", full_page=True)
            _check_width(page, f"report {name} {look}")


def shoot_tabs(browser: Browser, out: Path, url: str, fooled: Sequence[Path]) -> None:
    """Each tab with something done in it."""
    photo = photos()[0]
    for look, page in looks(browser):
        page.goto(url)
        page.locator("input[type=number]").first.fill("20")
        page.keyboard.press("Tab")
        page.click("#fool-start")
        page.wait_for_selector(".foclip-live img", timeout=60_000)
        page.screenshot(path=out / f"tab-fool-live-{look}.png")
        page.wait_for_selector(".foclip-slider", timeout=120_000)
        _shoot(page, out / f"tab-fool-{look}.png")
        page.get_by_role("tab", name="Check").click()
        page.set_input_files("#check-pictures input", [photo, fooled[0]])
        page.wait_for_timeout(2000)
        page.click("#check-start")
        page.wait_for_selector("#check-view iframe", timeout=120_000)
        _shoot(page, out / f"tab-check-{look}.png")
        page.get_by_role("tab", name="Compare").click()
        page.set_input_files("#compare-before input", photo)
        page.set_input_files("#compare-after input", fooled[0])
        page.wait_for_timeout(2000)
        page.click("#compare-start")
        page.wait_for_selector("#compare-view table", timeout=120_000)
        _shoot(page, out / f"tab-compare-{look}.png")
        page.get_by_role("tab", name="Data set").click()
        page.wait_for_selector("#data-view iframe", timeout=120_000)
        _shoot(page, out / f"tab-data-{look}.png")


def site(folder: Path) -> Path:
    """The documentation, built as CI builds it, but to be opened without a server."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--no-directory-urls"]
    subprocess.run([*command, "--site-dir", str(folder)], check=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    return folder


def shoot_site(browser: Browser, out: Path, folder: Path) -> None:
    """Some pages of the documentation, as far as a screen shows them."""
    for look, page in looks(browser):
        for name in SITE:
            page.goto((folder / f"{name}.html").as_uri())
            page.screenshot(path=out / f"site-{name.replace('/', '-')}-{look}.png")
            _check_width(page, f"site {name} {look}")


def _shoot(page: Any, path: Path) -> None:
    page.wait_for_timeout(700)
    page.screenshot(path=path, full_page=True)
    _check_width(page, path.stem)


def _check_width(page: Any, name: str) -> None:
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    print(f"{name}: {'fits' if over <= 0 else f'{over} px wider than the screen'}", flush=True)


def main() -> None:
    """Make the screenshots."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    pages = reports(out / "runs")
    fooled = sorted((out / "runs" / "fool").glob("*.png"))
    served = Served.of(load("clipscore", "mini"), data=[str(out / "runs" / "fool")])
    with chromium() as browser:
        shoot_site(browser, out, site((out / "site").resolve()))
        shoot_reports(browser, out, pages)
        with serving(served) as url:
            shoot_tabs(browser, out, url, fooled)


if __name__ == "__main__":
    main()
