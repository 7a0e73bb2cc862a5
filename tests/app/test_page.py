"""The page as visitors use and abuse it, over HTTP: what they get, what stays closed, what is gone afterwards."""

import base64
import gc
import re
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest
from calling import call
from gradio.state_holder import StateHolder

from benchmarks.visitor import Visitor, serving
from foclip.app.address import Address
from foclip.app.limits import Limits
from foclip.app.served import Served
from foclip.demo import photos
from foclip.errors import UsageError
from foclip.models import load

PNG_LINK = re.compile(r'download="([^"]*\.png)" href="data:image/png;base64,([^"]*)"')
#: Ways to a file of the server, none of which may be one.
WAYS = (
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=/proc/self/environ",
    "/gradio_api/file%3D/etc/passwd",
    "/gradio_api/file=../../../../etc/passwd",
    "/gradio_api/file=%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/gradio_api/file=http://127.0.0.1:1/",
    "/gradio_api/file/etc/passwd",
    "/gradio_api/proxy=http://127.0.0.1:1/",
    "/static/../../../../etc/passwd",
    "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/assets/..%2f..%2f..%2fetc/passwd",
    "/svelte/....//....//etc/passwd",
    "/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/gradio_api/info",
    "/gradio_api/run-history/records",
    "/monitoring",
    "/docs",
)
#: Bounds that are soon reached.
LIMITS = Limits(pixels=1_000_000, file_bytes=4 * 2**20, pictures=4, climbs=1)


@pytest.fixture(scope="module")
def served() -> Served:
    return Served.of(load("clipscore", "mini"), LIMITS)


@pytest.fixture(scope="module")
def url(served: Served) -> Iterator[str]:
    with serving(served) as url:
        yield url


@pytest.fixture
def visitor(url: str) -> Iterator[Visitor]:
    visitor = Visitor(url)
    yield visitor
    visitor.client.close()


@pytest.fixture(scope="module")
def cat() -> Path:
    return photos()[1]


def png_of(width: int, height: int) -> bytes:
    """A PNG that says to be so large, and holds nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def raw(url: str, request: bytes) -> bytes:
    """The answer to a request that is sent as it is, without what clients make of paths."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(request)
        return connection.recv(65536)


def test_download_is_the_file_that_foclip_fool_writes(visitor: Visitor, cat: Path, tmp_path: Path) -> None:
    shown = visitor.press("fool-start", **{"fool-picture": visitor.upload(cat.name, cat.read_bytes()), "Steps": 6})
    (name, content), *_ = PNG_LINK.findall(shown)
    written = call("fool", str(cat), "--prompts", "artworks", "--steps", "6", "--out", str(tmp_path))
    assert written.code == 0
    assert name == "chelsea.png"
    assert base64.b64decode(content) == (tmp_path / "chelsea.png").read_bytes()
    assert f'src="data:image/png;base64,{content}"' in shown  # what is looked at is that file too


@pytest.mark.parametrize(
    ("seen", "budget", "option"),
    [("35 dB, as in the paper", "", ["--min-psnr", "35"]), ("my own", "ssim:0.97", ["--budget", "ssim:0.97"])],
)
def test_settings_are_those_of_the_command_line(
    visitor: Visitor, cat: Path, tmp_path: Path, seen: str, budget: str, option: list[str]
) -> None:
    asked = {"Prompts that it is to score high for": "my own", "fool-prompts": "a dog\n\na bird\n"}
    bounds = {"What may be seen of the change": seen, "fool-budget": budget}
    picture = visitor.upload(cat.name, cat.read_bytes())
    shown = visitor.press("fool-start", **{"fool-picture": picture, "Steps": 4} | asked | bounds)
    ((_, content),) = PNG_LINK.findall(shown)
    prompts = ["--prompt", "a dog", "--prompt", "a bird"]
    assert call("fool", str(cat), *prompts, *option, "--steps", "4", "--out", str(tmp_path)).code == 0
    assert base64.b64decode(content) == (tmp_path / "chelsea.png").read_bytes()


def test_stop_keeps_the_best_picture_so_far(visitor: Visitor) -> None:
    visitor.join("fool-start", Steps=300)
    asked = step = 0.0
    for message in visitor.messages():
        shown = str(message.get("output", {}).get("data", ""))
        if not asked and (found := re.search(r"step (\d+) of 300", shown)) and int(found[1]) >= 2:
            visitor.join("fool-stop")
            asked, step = time.monotonic(), int(found[1])
        if message["msg"] == "process_completed":
            break
    found = re.search(r"from ([\d.]+) to ([\d.]+) in (\d+) steps and was stopped there", shown)
    assert found
    assert int(found[3]) < step + 100
    assert float(found[2]) > float(found[1])
    assert PNG_LINK.search(shown)


def test_names_and_prompts_stay_text(visitor: Visitor, cat: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    picture = visitor.upload(f"{evil.replace('/', '')}.png", cat.read_bytes())
    asked = {"Prompts that it is to score high for": "my own", "fool-prompts": evil}
    fooled = visitor.press("fool-start", **{"fool-picture": picture, "Steps": 1} | asked)
    checked = visitor.press("check-start", **{"check-pictures": [picture], "check-captions": evil})
    compared = visitor.press("compare-start", **{"compare-before": picture, "Prompts, one per line": evil})
    for shown in (fooled, checked, compared):
        outer = re.sub(r'srcdoc="[^"]*"', "", shown)
        framed = unescape("".join(re.findall(r'srcdoc="([^"]*)"', shown)))
        for text in (outer, framed):
            assert not re.search(r"<script|<img src=x", text)
    assert "&lt;script&gt;alert(1)" in unescape("".join(re.findall(r'srcdoc="([^"]*)"', fooled)))


def test_bad_picture_is_one_line_and_the_next_works(visitor: Visitor, cat: Path) -> None:
    said = {}
    for name, content in {
        "bomb.png": png_of(20_000, 10_000),
        "large.png": png_of(1500, 1000),
        "text.jpg": b"this is no picture",
        "broken.png": cat.read_bytes()[:2000],
    }.items():
        said[name] = visitor.press("fool-start", **{"fool-picture": visitor.upload(name, content)})
        assert said[name].startswith('<p class="foclip-failed"')
        assert f">{name}: " in said[name]
        assert "\n" not in said[name].strip()
    assert "megapixels" in said["bomb.png"]
    assert "1500×1000 is more than 1 megapixels" in said["large.png"]
    sent = [visitor.upload("text.jpg", b"no"), visitor.upload(cat.name, cat.read_bytes())]
    checked = visitor.press("check-start", **{"check-pictures": sent})
    assert "0 of 1 pictures tampered, 1 could not be read" in checked


def test_large_files_and_requests_are_refused(visitor: Visitor) -> None:
    for size in (5, 100):
        answer = visitor.client.post("/gradio_api/upload", files={"files": ("large.png", bytes(size * 2**20))})
        assert answer.status_code == 413
        assert len(answer.text.splitlines()) == 1
    answer = visitor.client.post("/gradio_api/queue/join", content=bytes(3 * 2**20))
    assert (answer.status_code, answer.text) == (413, "more than 2 MB")
    many = visitor.press("check-start", **{"check-pictures": [visitor.upload(f"{n}.png", b"x") for n in range(5)]})
    assert "5 are more than 4" in many
    visitor.join("fool-start", Steps=301)
    (done,) = [message for message in visitor.messages() if message["msg"] == "process_completed"]
    assert "greater than maximum value 300" in done["output"]["error"]


def test_no_way_leads_to_files_of_the_server(url: str) -> None:
    for way in WAYS:
        answer = raw(url, f"GET {way} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        assert answer.split()[1] in (b"403", b"404"), way
        assert b"root:" not in answer


def test_named_files_and_addresses_are_not_opened(visitor: Visitor, url: str, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    for path in (str(tmp_path / "secret.png"), "secret.png"):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        for button, control in (
            ("fool-start", {"fool-picture": file}),
            ("check-start", {"check-pictures": [file]}),
            ("fool-start", {"fool-prompts": file}),
        ):
            visitor.join(button, **control)
            (done,) = [message for message in visitor.messages() if message["msg"] == "process_completed"]
            assert not done["success"]
            assert done["output"]["error"] == "only files that were sent are read"


def test_closed_page_frees_its_slot(served: Served, url: str) -> None:
    gone = Visitor(url)
    gone.join("fool-start", Steps=300)
    for message in gone.messages():
        if "step" in str(message.get("output", "")):
            break
    gone.client.close()
    end = time.monotonic() + 20
    while served.climbs.count and time.monotonic() < end:
        time.sleep(0.1)
    assert not served.climbs.count
    assert "went from" in Visitor(url).press("fool-start", Steps=1)  # there is one slot


def test_fooled_picture_is_tampered_and_its_original_clean(visitor: Visitor, cat: Path) -> None:
    photo = visitor.upload(cat.name, cat.read_bytes())
    ((_, content),) = PNG_LINK.findall(visitor.press("fool-start", **{"fool-picture": photo, "Steps": 40}))
    fooled = visitor.upload("fooled.png", base64.b64decode(content))
    shown = visitor.press("check-start", **{"check-pictures": [photo, fooled]})
    assert shown.startswith('<p class="foclip-says" role="status">fooled.png: tampered. 1 of 2 pictures tampered.</p>')
    assert 'download="verdicts.csv"' in shown
    compared = visitor.press("compare-start", **{"compare-before": photo, "compare-after": fooled})
    rows = re.findall(r"<tr><td>(\S+)</td><td>(\S+)</td>\s*<td>([\d.]+)</td><td>([\d.]+)</td>", compared)
    figures = {(score, encoder): (float(before), float(after)) for score, encoder, before, after in rows}
    before, after = figures["clipscore", "mini"]
    assert after > before + 0.1
    assert {score for score, _ in figures} == {"clipscore", "clip-iqa"}  # the others need weights


def test_nothing_comes_from_elsewhere(visitor: Visitor) -> None:
    answer = visitor.client.get("/")
    assert not re.findall(r'(?:src|href)="(?:https?:)?//(?!127\.0\.0\.1)[^"]*\.(?:js|css|woff2?)', answer.text)
    assert "connect-src 'self'" in answer.headers["content-security-policy"]
    assert not visitor.config["analytics_enabled"]
    assert "fonts.googleapis" not in visitor.client.get("/theme.css").text + answer.text


def test_files_are_deleted_in_time(cat: Path) -> None:
    served = Served.of(load("clipscore", "mini"), Limits(kept_seconds=1))
    with serving(served) as url:
        visitor = Visitor(url)
        kept = Path(visitor.upload("mine.png", cat.read_bytes())["path"])
        folder = next(parent for parent in kept.parents if parent.name.startswith("foclip-app-"))
        assert folder.stat().st_mode & 0o077 == 0
        end = time.monotonic() + 20
        while kept.exists() and time.monotonic() < end:
            time.sleep(0.2)
        assert not kept.exists()
        other = visitor.upload("mine.png", cat.read_bytes())
        Path(other["path"]).unlink()
        assert "choose it again" in visitor.press("fool-start", **{"fool-picture": other})
    assert not folder.exists()


def test_answers_to_visitors_who_left_are_forgotten(cat: Path) -> None:
    with serving(Served.of(load("clipscore", "mini"), Limits(sessions=2))) as url:
        for _ in range(3):
            visitor = Visitor(url)
            photo = visitor.upload(cat.name, cat.read_bytes())
            assert "0 of 1 pictures tampered" in visitor.press("check-start", **{"check-pictures": [photo]})
            visitor.client.close()
        held = [len(each.session_data) for each in gc.get_objects() if isinstance(each, StateHolder)]
        assert 2 in held
        assert 3 not in held


def test_password_name_and_prefix(served: Served) -> None:
    for host in ("0.0.0.0", "192.168.1.2"):
        with pytest.raises(UsageError, match="can be reached by others"):
            Address(host)
    Address("0.0.0.0", auth=("me", "secret"))
    with serving(served, auth=("me", "secret")) as url, httpx.Client(base_url=url, trust_env=False) as client:
        assert client.get("/config").status_code == 401
        assert client.post("/gradio_api/upload", files={"files": ("a.png", b"x")}).status_code == 401
        assert client.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
        assert client.post("/login", data={"username": "me", "password": "secret"}).status_code == 200
        assert client.get("/config").status_code == 200
    with serving(served, behind_proxy="scores.example.org", root_path="/tool") as url:
        ask = {"Host": "scores.example.org"}
        assert httpx.get(url, headers={"Host": "evil.example.org"}, trust_env=False).status_code == 421
        for path in ("/config", "/tool/config"):
            found = httpx.get(url + path, headers=ask, trust_env=False)
            assert found.status_code == 200
            assert found.json()["root"].endswith("/tool")


def test_data_set_is_scanned_and_shown(cat: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / cat.name).write_bytes(cat.read_bytes())
    served = Served.of(load("clipscore", "mini"), data=[str(tmp_path / "photos")])
    assert served.scan is not None
    served.scan.join(60)
    with serving(served) as url:
        visitor = Visitor(url)
        (view,) = [
            c["props"]["value"] for c in visitor.config["components"] if c["props"].get("elem_id") == "data-view"
        ]
        assert "1 rows of photos" in unescape(view)
        assert str(tmp_path) not in unescape(view)
