"""Studies: one file per experiment of the paper and per open question.

`foclip.studies.harness` defines what a study is. `available` finds every module here that defines `study`.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foclip.studies.harness import Study


def names() -> list[str]:
    """Names of all studies, without importing them."""
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg and module.name[0] != "_"]


def available() -> "dict[str, Study]":
    """Every study by name."""
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names()]
    return {module.study.name: module.study for module in modules}
