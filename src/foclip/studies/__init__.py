"""Studies: one file per experiment of the paper and per question it leaves open; `foclip.lab` says what a study is.

A module of this package that holds a `study` is found by it; nothing registers it.
"""

import importlib
import pkgutil

from foclip.lab import Study


def available() -> dict[str, Study]:
    """Every study by name."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return {module.study.name: module.study for module in modules}
