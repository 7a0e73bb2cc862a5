"""Studies: one file per experiment of the paper and per open question.

`foclip.studies.harness` says what a study is. Every module here that defines `study` is found by `available`.
"""

import importlib
import pkgutil

from foclip.studies.harness import Study


def available() -> dict[str, Study]:
    """Every study by name."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return {module.study.name: module.study for module in modules}
