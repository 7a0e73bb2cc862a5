"""open_clip imported without torch's compiler and without transformers, which take longer than all the rest of it.

torchvision imports the compiler to ask one question, timm to exempt functions from it, and open_clip imports
transformers for the text towers of a few models. Here both are imported once one of these is needed.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module, reload
from types import FunctionType, ModuleType
from typing import Any

#: The module of the compiler that torchvision imports.
_COMPILER = "torch._dynamo.utils"


def import_open_clip() -> None:
    """Import open_clip, and with it torchvision and timm; what of all these is loaded already stays as it is.

    Only for a process of our own: other threads would meanwhile import the stand-ins.
    """
    if "open_clip" in sys.modules:
        return
    hidden, collecting = "transformers" not in sys.modules, gc.isenabled()
    gc.disable()  # modules stay: looking for garbage among them takes a tenth of the time
    try:
        with _compiler_later():
            if hidden:
                sys.modules["transformers"] = None  # type: ignore[assignment]  # as if it were not installed
            from open_clip import hf_model, model
    except ImportError:  # another version needs it: whoever imports open_clip next imports all of it anew
        for name in [name for name in sys.modules if name.partition(".")[0] == "open_clip"]:
            del sys.modules[name]
        return
    finally:
        if hidden:
            del sys.modules["transformers"]
        if collecting:
            gc.freeze()
            gc.enable()

    def text_tower(*arguments: Any, **named: Any) -> Any:
        model.HFTextEncoder = reload(hf_model).HFTextEncoder
        return model.HFTextEncoder(*arguments, **named)

    if hidden:
        model.HFTextEncoder = text_tower  # where open_clip looks it up to build a model


@contextmanager
def _compiler_later() -> Iterator[None]:
    """What is taken from the compiler meanwhile imports it when it is first called."""
    import torch.compiler
    from torch._compile import _disable_dynamo  # how torch exempts functions of its own

    if "torch._dynamo" in sys.modules:
        yield
        return
    stand_in = ModuleType(_COMPILER)
    disable: Any = torch.compiler.disable

    def remove() -> None:
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]

    def real(name: str) -> Any:
        if name.startswith("__"):  # the import system asks for such; a module need not have them
            raise AttributeError(name)
        remove()
        return getattr(import_module(_COMPILER), name)

    def disable_later(fn: Callable[..., Any] | None = None, recursive: bool = True, **reason: Any) -> Any:
        if isinstance(fn, FunctionType):
            return _disable_dynamo(fn, recursive)
        return disable(fn, recursive, **reason)

    vars(stand_in)["is_compile_supported"] = lambda *device: real("is_compile_supported")(*device)
    vars(stand_in)["__getattr__"] = real  # another version takes something else: that is imported at once
    sys.modules[_COMPILER], torch.compiler.disable = stand_in, disable_later
    try:
        yield
    finally:
        torch.compiler.disable = disable
        remove()
