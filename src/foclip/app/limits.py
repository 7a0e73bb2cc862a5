"""What a visitor may ask of the page, and the pictures that they send, as bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foclip.data import images, prompts
from foclip.errors import ImageError, PromptError, UsageError


@dataclass(frozen=True)
class Limits:
    """Bounds on what one visitor, and all of them together, may use."""

    file_bytes: int = 20 * 2**20  # of a picture that is sent
    pixels: int = 4_000_000  # of a picture that is sent
    pictures: int = 32  # that are checked at once
    request_bytes: int = 2 * 2**20  # of a request that sends no picture
    stored_bytes: int = 2 * 2**30  # of all pictures that were sent and are kept
    kept_seconds: int = 900  # after which they are deleted
    steps: int = 300  # of a climb
    seconds: float = 120.0  # after which a climb is stopped; the best picture so far is kept
    prompts: int = 32
    prompt_characters: int = 1000  # of one prompt
    climbs: int = 2  # at a time
    waiting: int = 40  # visitors in a line; others are asked to come back
    sessions: int = 24  # whose last answers Gradio keeps, several MB each; the longest unused are forgotten first

    def admit(self, width: int, height: int) -> None:
        """Refuse a picture that has too many pixels, once its header is read."""
        if width * height > self.pixels:
            raise ImageError(
                f"{width}×{height} is more than {self.pixels / 1e6:g} megapixels, the most that this page takes"
            )


@dataclass(frozen=True)
class Upload:
    """A picture as it was sent: its name, without folders, and its bytes."""

    name: str
    content: bytes

    def check(self, limits: Limits) -> None:
        """Refuse what is no picture, or too large; an `ImageError` names it."""
        if len(self.content) > limits.file_bytes:
            raise ImageError(f"{self.name}: more than {limits.file_bytes // 2**20} MB")

        def admit(width: int, height: int) -> None:
            try:
                limits.admit(width, height)
            except ImageError as error:
                raise ImageError(f"{self.name}: {error}") from None

        images.decode(self.content, self.name, admit)


def uploads(paths: Sequence[str], limits: Limits) -> list[Upload]:
    """The pictures that a visitor sent, from files that Gradio keeps; names that repeat get their place.

    Raises:
        UsageError: There is none, or there are too many.
        ImageError: A file was deleted since.
    """
    if not paths:
        raise UsageError("pictures: choose a picture first")
    if len(paths) > limits.pictures:
        raise UsageError(
            f"pictures: {len(paths)} are more than {limits.pictures}, the most that this page takes at once"
        )
    found: dict[str, Upload] = {}
    for number, path in enumerate(map(Path, paths), start=1):
        name = f"{number} {path.name}" if path.name in found else path.name
        try:
            found[name] = Upload(name, path.read_bytes())
        except OSError:
            raise ImageError(
                f"{path.name}: was deleted, since this page keeps nothing for long; choose it again"
            ) from None
    return list(found.values())


def prompts_of(text: str, limits: Limits) -> list[str]:
    """The prompts of a text, one per line; a `PromptError` if there is none, or they are too many or too long."""
    found = prompts.lines(text)
    if not found:
        raise PromptError("prompts: write one per line")
    if len(found) > limits.prompts:
        raise PromptError(f"prompts: {len(found)} are more than {limits.prompts}, the most that this page takes")
    if max(map(len, found)) > limits.prompt_characters:
        raise PromptError(f"prompts: one is longer than {limits.prompt_characters} characters")
    return found
