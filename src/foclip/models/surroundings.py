"""What callers set for computations of their own must not reach a figure, and what libraries log no user."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from threading import Lock

import numpy as np
import torch

#: How many threads compute in float32 whatever the defaults are, and these: dtype, and precision of products, which
#: Lightning advises to lower. All threads of a process share them.
_lock, _inside, _default = Lock(), 0, (torch.float32, "highest")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Without the caller's autocast, inference mode, NumPy errors, default device, dtype and precision.

    It is a context and a decorator.

    A generator cannot be decorated. A thread that lowers the precision of products while another computes lowers it for
    both: torch has one for all. Gradients are as the caller says, and none where inference mode forbids them.
    """
    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="warn", under="ignore"))  # NumPy's default
        if torch.is_inference_mode_enabled():  # what is made in it can never take part in an attack
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        for kind in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device() != torch.device("cpu"):
            stack.enter_context(torch.device("cpu"))
        if _inside or _defaults() != (torch.float32, "highest"):
            stack.enter_context(_in_float32())
        yield


def _defaults() -> tuple[torch.dtype, str]:
    return torch.get_default_dtype(), torch.get_float32_matmul_precision()


def _set(dtype: torch.dtype, precision: str) -> None:
    torch.set_default_dtype(dtype)
    torch.set_float32_matmul_precision(precision)


@contextmanager
def _in_float32() -> Iterator[None]:
    """The first thread that comes in changes the defaults, and the last that leaves changes them back."""
    global _inside, _default
    with _lock:
        if not _inside:
            _default = _defaults()
        _inside += 1
        _set(torch.float32, "highest")
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _set(*_default)


#: Whether a model is being loaded in this context. Libraries log every step; what matters ends as an `EncoderError`.
_loading: ContextVar[bool] = ContextVar("loading", default=False)


def _no_model_is_loading(record: logging.LogRecord) -> bool:
    return not _loading.get()


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is logged by this thread meanwhile; what other threads log is left alone."""
    for name in (None, *logging.root.manager.loggerDict):  # a filter does not hold for what is below its logger
        if name is None or name.partition(".")[0] in ("timm", "huggingface_hub", "open_clip", "transformers"):
            logging.getLogger(name).addFilter(_no_model_is_loading)  # adding it twice adds it once
    token = _loading.set(True)
    try:
        yield
    finally:
        _loading.reset(token)
