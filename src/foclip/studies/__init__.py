"""Studies: one file per experiment of the paper and per open question.

They are the modules here, and those that other packages name in the entry point group `foclip.studies`.
"""

import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from foclip.errors import UsageError

if TYPE_CHECKING:
    from foclip.studies.harness import Study

GROUP = "foclip.studies"


def names() -> list[str]:
    """Names of all studies, without importing them."""
    return list(dict.fromkeys([*_own(), *(point.name for point in entry_points(group=GROUP))]))


def available() -> "dict[str, Study]":
    """Every study by name; a `UsageError` if the package of one cannot be loaded."""
    modules = [importlib.import_module(f"{__name__}.{name}") for name in _own()]
    for point in entry_points(group=GROUP):
        try:
            modules.append(point.load())
        except Exception as error:  # of another package, which may fail in any way
            raise UsageError(f"{point.name}: its package cannot be loaded ({type(error).__name__}: {error})") from error
    return {module.study.name: module.study for module in modules}


def _own() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg]
