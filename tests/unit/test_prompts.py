from pathlib import Path

import pytest

from foclip.data import prompts
from foclip.errors import PromptError


def test_sets() -> None:
    assert len(prompts.resolve("artworks")) == 10
    assert prompts.resolve("imagenet:25") == prompts.resolve("imagenet:100")[:25]
    assert len(set(prompts.resolve("imagenet:1000"))) > 990
    assert prompts.resolve("artworks", [" a cat "])[-1] == "a cat"


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("a dog\n\n  <script>alert(1)</script> \n", encoding="utf-8")
    assert prompts.resolve(str(path)) == ["a dog", "<script>alert(1)</script>"]


@pytest.mark.parametrize(
    ("name", "texts", "message"),
    [
        (None, [], "prompts: no prompts given"),
        (None, ["  "], "prompt 1 is empty"),
        (None, ["a", ""], "prompt 2 is empty"),
        ("imagenet:0", [], "1 to 1000"),
        ("imagenet:1001", [], "1 to 1000"),
        ("imagenet:x", [], "imagenet:N"),
        ("no-such-set", [], "no-such-set"),
    ],
)
def test_refused(name: str | None, texts: list[str], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        prompts.resolve(name, texts)


def test_refused_files(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("Velázquez".encode("latin-1"))
    (tmp_path / "blank.txt").write_text("\n \n")
    for name in ("latin.txt", "blank.txt"):
        with pytest.raises(PromptError, match=name):
            prompts.resolve(str(tmp_path / name))


def test_the_mark_that_editors_begin_a_file_with_is_no_prompt(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("a dog\n", encoding="utf-8-sig")
    assert prompts.resolve(str(path)) == ["a dog"]


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.txt").write_text("a dog\n" * 10)
    monkeypatch.setattr(prompts, "MAX_FILE_BYTES", 50)
    with pytest.raises(PromptError, match="more than 50 bytes"):
        prompts.resolve(str(tmp_path / "p.txt"))
