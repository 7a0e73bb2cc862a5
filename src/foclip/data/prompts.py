"""Prompts: the texts that pictures are scored with.

A prompt set is named `artworks`, `imagenet:N`, or by the path of a UTF-8 text file with one prompt per line.
"""

import random
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path

from foclip import files
from foclip.errors import PromptError, UsageError

#: The prompts of one picture.
Prompts = tuple[str, ...]

#: Ten famous paintings, the prompt set of CLIPMasterPrints (arXiv 2307.03798) and FoCLIP.
ARTWORKS = (
    '"Mona Lisa" by Leonardo da Vinci',
    '"The Last Supper" by Leonardo da Vinci',
    '"The Starry Night" by Vincent van Gogh',
    '"The Scream" by Edvard Munch',
    '"Guernica" by Pablo Picasso',
    '"The Kiss" by Gustav Klimt',
    '"Girl with a Pearl Earring" by Johannes Vermeer',
    '"The Birth of Venus" by Sandro Botticelli',
    '"Las Meninas" by Diego Velázquez',
    '"Creation of Adam" by Michelangelo',
)
#: Caption of an ImageNet class (CLIP's zero-shot template, Radford et al. 2021).
CAPTION = "a photo of a {}."
MAX_FILE_BYTES = 10_000_000


def open_clip_file(name: str) -> Path:
    """A file of the package open_clip, found without importing it: that would import torch, which takes seconds."""
    package = find_spec("open_clip")
    assert package is not None, "open_clip is a dependency of this package"
    assert package.origin is not None
    return Path(package.origin).parent / name


def imagenet(count: int) -> list[str]:
    """Captions of the first `count` (1 to 1000) ImageNet classes, in one random order: neighbours are not related."""
    if not 1 <= count <= 1000:
        raise PromptError(f"imagenet:{count}: give a number from 1 to 1000")
    names = sorted(run_path(str(open_clip_file("zero_shot_metadata.py")))["IMAGENET_CLASSNAMES"])
    random.Random(0).shuffle(names)  # noqa: S311 (a choice, not a secret)
    return [CAPTION.format(name) for name in names[:count]]


def as_prompts(prompts: Sequence[str]) -> Prompts:
    """Prompts of one picture as a tuple; a `UsageError` if it is one string, or there is none."""
    if isinstance(prompts, str) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise UsageError("prompts: give a list of strings, at least one")
    return tuple(prompts)


def decoded(content: bytes) -> str:
    """The text of UTF-8 or UTF-16, as Windows' programs write it; a `UnicodeDecodeError` for others.

    UTF-16 without a byte order mark is known by its null bytes, which are one half of plain text.
    """
    if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE):
        return content.decode("utf-16")
    for half, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if content[half::2].count(0) > len(content) / 4:
            return content.decode(encoding)
    return content.decode("utf-8-sig")


def text_of(path: Path, limit: int) -> str:
    """The text of a file (`decoded`) of at most `limit` bytes; a `PromptError` if it is none."""
    try:
        if path.stat().st_size > limit:
            raise PromptError(f"{path}: more than {limit:,} bytes")
        return decoded(path.read_bytes())
    except UnicodeDecodeError as error:
        raise PromptError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise PromptError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def lines(text: str) -> list[str]:
    """The prompts of a text, one per line, without blank lines."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def read(path: Path) -> list[str]:
    """The prompts of a text file, one per line, without blank lines; a `PromptError` if there is none."""
    if not (prompts := lines(text_of(path, MAX_FILE_BYTES))):
        raise PromptError(f"{path}: holds no prompt (one per line)")
    return prompts


def require(given: bool, captions: bool, needed: bool) -> None:
    """Refuse both prompts and captions with a `UsageError`, and neither where some are needed with a `PromptError`."""
    if given and captions:
        raise UsageError("captions: give either prompts or captions, not both")
    if needed and not given and not captions:
        raise PromptError("prompts: no prompts given; name a set such as artworks, give texts (--prompt) or captions")


def resolve(prompt_set: str | None = None, prompts: Sequence[str] = ()) -> list[str]:
    """The prompts of a set, and prompts given one by one; a `PromptError` if one is empty, or there is none at all."""
    result = [] if prompt_set is None else _prompts_of(prompt_set)
    for number, prompt in enumerate(prompts, start=1):
        if not prompt.strip():
            raise PromptError(f"prompt {number} is empty")
        result.append(prompt.strip())
    if not result:
        raise PromptError("prompts: no prompts given")
    return result


def _prompts_of(prompt_set: str) -> list[str]:
    if prompt_set == "artworks":
        return [*ARTWORKS]
    if prompt_set.startswith("imagenet:"):
        count = prompt_set.removeprefix("imagenet:")
        if not (count.isascii() and count.isdigit() and len(count) <= 4):
            raise PromptError(f"{prompt_set}: write imagenet:N with a number from 1 to 1000")
        return imagenet(int(count))
    if files.is_file(Path(prompt_set)):
        return read(Path(prompt_set))
    raise PromptError(
        f"{prompt_set!r} is no prompt set: use artworks, imagenet:N or an existing text file with one prompt per line. "
        f"A prompt of your own goes into a list, [{prompt_set!r}]; on the command line, --prompt"
    )
