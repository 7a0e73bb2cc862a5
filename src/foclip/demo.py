"""The photos of `foclip demo`: real ones, from the files of a dependency (scikit-image)."""

from importlib.util import find_spec
from pathlib import Path

#: Colour photos in scikit-image's wheel (its data/README.txt names sources; all free to use).
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def photos() -> list[Path]:
    """Paths of the demo's photos."""
    return [installed("skimage") / "data" / name for name in PHOTOS]


def installed(package: str) -> Path:
    """The folder of a dependency, without importing it."""
    spec = find_spec(package)
    assert spec is not None, f"{package} is a dependency of this package"
    assert spec.origin is not None
    return Path(spec.origin).parent
