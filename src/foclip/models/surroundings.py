"""What callers set for computations of their own: it must not reach a figure."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import torch

#: How many threads compute in float32 whatever the default is, and that default. All threads of a process share it.
_lock, _inside, _default = Lock(), 0, torch.float32


@contextmanager
def undisturbed() -> Iterator[None]:
    """Without the caller's autocast, inference mode, and default device and dtype: a context, or a decorator.

    A generator cannot be decorated. Gradients are as the caller says, and none where inference mode forbids them.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():  # what is made in it can never take part in an attack
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        for kind in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device() != torch.device("cpu"):
            stack.enter_context(torch.device("cpu"))
        if _inside or torch.get_default_dtype() != torch.float32:
            stack.enter_context(_in_float32())
        yield


@contextmanager
def _in_float32() -> Iterator[None]:
    """The first thread that comes in changes the default, and the last that leaves changes it back."""
    global _inside, _default
    with _lock:
        if not _inside:
            _default = torch.get_default_dtype()
        _inside += 1
        torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                torch.set_default_dtype(_default)
