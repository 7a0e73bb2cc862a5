"""The page in a browser: what people see and press. Needs Playwright and Chromium (`benchmarks.screenshots`)."""

import base64
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calling import call
from playwright.sync_api import Browser, Page, expect

from benchmarks.screenshots import chromium
from benchmarks.visitor import serving
from foclip.app.limits import Limits
from foclip.app.served import Served
from foclip.demo import photos
from foclip.models import load

#: Milliseconds that anything may take on a busy machine.
LONG = 120_000
EVIL = "<script>window.evil = 1</script><img src=x onerror='window.evil = 2'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def served() -> Served:
    return Served.of(load("clipscore", "mini"), Limits(climbs=1))


@pytest.fixture(scope="module")
def url(served: Served) -> Iterator[str]:
    with serving(served) as url:
        yield url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    page = browser.new_page()
    page.set_default_timeout(LONG)
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url))
    page.goto(url)
    page.wait_for_selector("#fool-start")
    yield page
    page.close()
    assert [asked for asked in elsewhere if not asked.startswith((url, "data:", "blob:"))] == []


def send(page: Page, control: str, *files: Any) -> None:
    """Put files into a control, and wait until they are sent."""
    page.set_input_files(f"{control} input[type=file]", files)
    expect(page.locator(f"{control} .file-preview tr")).to_have_count(len(files), timeout=LONG)


def saved(page: Page, name: str) -> bytes:
    """What a link of this name saves."""
    with page.expect_download() as coming:
        page.click(f'.foclip-links a[download="{name}"]')
    return Path(coming.value.path()).read_bytes()


def steps_to(page: Page, count: int) -> None:
    page.locator("input[type=number]").first.fill(str(count))
    page.keyboard.press("Tab")


def test_a_picture_climbs_and_is_saved_as_the_command_line_writes_it(page: Page, tmp_path: Path) -> None:
    photo = photos()[1]
    send(page, "#fool-picture", photo)
    steps_to(page, 30)
    page.click("#fool-start")
    page.wait_for_selector(".foclip-live img")
    page.wait_for_selector(".foclip-slider")
    png = saved(page, "chelsea.png")
    assert b"<!doctype html>" in saved(page, "chelsea-report.html")
    shown = page.get_attribute(".foclip-slider img + img", "src") or ""
    assert base64.b64decode(shown.partition(",")[2]) == png
    frame = page.frame_locator(".foclip-report")
    expect(frame.locator("h1")).to_have_text("Fooled pictures")
    assert page.locator(".foclip-report").evaluate("frame => frame.clientHeight") > 1000  # as high as its content
    slider = page.locator(".foclip-slider input")
    slider.focus()
    page.keyboard.press("Home")  # by the keyboard alone
    assert page.eval_on_selector(".foclip-slider", "each => each.style.getPropertyValue('--at')") == "0%"
    (tmp_path / "fooled.png").write_bytes(png)
    page.get_by_role("tab", name="Check").click()
    send(page, "#check-pictures", photo, tmp_path / "fooled.png")
    page.click("#check-start")
    expect(page.locator("#check-view .foclip-says")).to_contain_text("fooled.png: tampered. 1 of 2", timeout=LONG)
    assert saved(page, "verdicts.csv").count(b"\n") == 3
    call("fool", str(photo), "--prompts", "artworks", "--steps", "30", "--out", str(tmp_path / "out"))
    assert png == (tmp_path / "out" / "chelsea.png").read_bytes()


def test_stop_is_heard_within_a_second(page: Page) -> None:
    steps_to(page, 300)
    page.click("#fool-start")
    page.wait_for_function("() => /step ([3-9]|\\d\\d+) of/.test(document.querySelector('#fool-view').innerText)")
    pressed = time.monotonic()
    page.click("#fool-stop")
    page.wait_for_function("() => /no more steps|stopped there/.test(document.querySelector('#fool-view').innerText)")
    assert time.monotonic() - pressed < 1
    page.wait_for_selector(".foclip-slider")
    expect(page.locator("#fool-view .foclip-says")).to_contain_text("stopped there")


def test_scripts_in_prompts_and_names_stay_text(page: Page) -> None:
    send(page, "#fool-picture", {"name": f"{EVIL}.png", "mimeType": "image/png", "buffer": photos()[1].read_bytes()})
    page.get_by_label("my own").first.check()
    page.fill("#fool-prompts textarea", EVIL)
    steps_to(page, 1)
    page.click("#fool-start")
    page.wait_for_selector(".foclip-slider")
    expect(page.frame_locator(".foclip-report").locator("td.prompt").first).to_contain_text("<script>window.evil")
    page.wait_for_timeout(500)
    assert page.evaluate("window.evil") is None
    assert page.evaluate("document.querySelector('.foclip-report').contentWindow.evil") is None


def test_bad_pictures_are_lines(page: Page) -> None:
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x4e\x20\0\0\x27\x10\x08\x02\0\0\0"  # 20,000 × 10,000
    for name, content in {"bomb.png": header + bytes(64), "text.jpg": b"no picture"}.items():
        send(page, "#fool-picture", {"name": name, "mimeType": "image/png", "buffer": content})
        page.click("#fool-start")
        expect(page.locator("#fool-view .foclip-failed")).to_contain_text(name, timeout=LONG)
        page.locator(
            "#fool-picture button[aria-label='Clear'], #fool-picture button[aria-label='Remove this file']"
        ).first.click()
    page.set_input_files("#fool-picture input[type=file]", [])
    large = {"name": "large.png", "mimeType": "image/png", "buffer": bytes(21 * 2**20)}
    page.set_input_files("#fool-picture input[type=file]", large)
    expect(page.get_by_text(re.compile("exceed|too large|maximum", re.I)).first).to_be_visible(timeout=LONG)


def test_closed_page_frees_its_slot(browser: Browser, url: str, served: Served) -> None:
    page = browser.new_page()
    page.goto(url)
    page.wait_for_selector("#fool-start")
    steps_to(page, 300)
    page.click("#fool-start")
    page.wait_for_selector(".foclip-live img", timeout=LONG)
    assert served.climbs.count == 1
    page.close()
    end = time.monotonic() + 30
    while served.climbs.count and time.monotonic() < end:
        time.sleep(0.1)
    assert not served.climbs.count


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone(browser: Browser, url: str, scheme: Any) -> None:
    page = browser.new_page(viewport={"width": 420, "height": 800}, color_scheme=scheme)
    page.goto(url)
    page.wait_for_selector("#fool-start")
    for tab in ("Check", "Compare", "Data set", "Fool"):
        if page.get_by_role("tab", name=tab).is_visible():
            page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
    page.close()
