"""Prompts: the texts that pictures are scored with.

A prompt set is named `artworks`, `imagenet:N`, or by the path of a UTF-8 text file with one prompt per line. `resolve`
turns such a name, and prompts given one by one, into a list of strings.
"""

import random
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


def imagenet(count: int) -> list[str]:
    """Captions of `count` of the 1,000 ImageNet classes.

    The classes come in one fixed random order, so `imagenet(25)` is the beginning of `imagenet(100)`, and neighbours
    are no related species.

    Raises:
        PromptError: `count` is not in 1..1000.
    """
    if not 1 <= count <= 1000:
        raise PromptError(f"imagenet:{count}: give a number from 1 to 1000")
    package = find_spec("open_clip")
    assert package is not None, "open_clip is a dependency of this package"
    assert package.origin is not None
    # The file alone: importing the package would import torch, which takes seconds.
    names = sorted(run_path(str(Path(package.origin).parent / "zero_shot_metadata.py"))["IMAGENET_CLASSNAMES"])
    random.Random(0).shuffle(names)  # noqa: S311 (a choice, not a secret)
    return [CAPTION.format(name) for name in names[:count]]


def as_prompts(prompts: Sequence[str]) -> Prompts:
    """Prompts of one picture as a tuple.

    Raises:
        UsageError: It is one string, or there is none.
    """
    if isinstance(prompts, str) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise UsageError("prompts: give a list of strings, at least one")
    return tuple(prompts)


def text_of(path: Path, limit: int) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        PromptError: The file cannot be read, is not UTF-8 or holds more than `limit` bytes.
    """
    try:
        if path.stat().st_size > limit:
            raise PromptError(f"{path}: more than {limit:,} bytes")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"{path}: not UTF-8 text ({error.reason})") from error
    except (OSError, ValueError) as error:
        raise PromptError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def read(path: Path) -> list[str]:
    """The prompts of a UTF-8 text file, one per line; blank lines are left out.

    Raises:
        PromptError: The file cannot be read, is not UTF-8, is too large or holds no prompt.
    """
    lines = text_of(path, MAX_FILE_BYTES).splitlines()
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise PromptError(f"{path}: holds no prompt (one per line)")
    return prompts


def resolve(prompt_set: str | None = None, prompts: Sequence[str] = ()) -> list[str]:
    """The prompts of a set's name and of prompts given one by one, in this order.

    Args:
        prompt_set: `artworks`, `imagenet:N` or the path of a text file.
        prompts: Prompts to add; surrounding white space is dropped.

    Raises:
        PromptError: The set is unknown, a prompt is empty, or there is none at all.
    """
    result: list[str] = []
    if prompt_set == "artworks":
        result.extend(ARTWORKS)
    elif prompt_set is not None and prompt_set.startswith("imagenet:"):
        count = prompt_set.removeprefix("imagenet:")
        if not (count.isascii() and count.isdigit() and len(count) <= 4):
            raise PromptError(f"{prompt_set}: write imagenet:N with a number from 1 to 1000")
        result.extend(imagenet(int(count)))
    elif prompt_set is not None:
        path = Path(prompt_set)
        if not files.is_file(path):
            raise PromptError(
                f"{prompt_set!r} is no prompt set: use artworks, imagenet:N "
                "or an existing text file with one prompt per line. "
                f"A prompt of your own goes into a list, [{prompt_set!r}]; on the command line, --prompt"
            )
        result.extend(read(path))
    for number, prompt in enumerate(prompts, start=1):
        if not prompt.strip():
            raise PromptError(f"prompt {number} is empty")
        result.append(prompt.strip())
    if not result:
        raise PromptError("prompts: no prompts given")
    return result
