"""From the name of an encoder to its model: embedded, open_clip, or a checkpoint file.

`load` accepts

- `mini`, `mini-vit`, `mini-robust` and other hardened twins: embedded in the package;
- `ARCHITECTURE/TAG`, as `ViT-L-14-336-quickgelu/openai`: open_clip's pretrained weights;
- `ARCHITECTURE/FILE`, as `RN50/weights/rn50.pt`: a checkpoint of that architecture;
- `FILE`: a checkpoint whose architecture is recognised by the shapes of its weights;
- `hf-hub:ORGANISATION/REPOSITORY` and `local-dir:FOLDER`, as open_clip spells them.

Checkpoints are read as weights only: a pickle that would run code is refused.
"""

import difflib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file

from foclip import files
from foclip.errors import EncoderError
from foclip.models import checkpoints, embedded
from foclip.models.encoder import Encoder
from foclip.models.open_clip import OpenClipEncoder


def load(name: str = embedded.DEFAULT, device: str | torch.device = "auto") -> Encoder:
    """Load an encoder by name, frozen and in evaluation mode.

    Args:
        name: See the module's description.
        device: Where the model lives ("cpu", "cuda", "cuda:1", …); "auto" is a GPU if there is one.

    Raises:
        EncoderError: The name is unknown, or the weights are out of reach,
            damaged, of another architecture, or not plain weights.
    """
    device = _checked(device)
    if name in embedded.names():
        folder, tower = embedded.verified_path(name), None
        if name in embedded.ORIGINALS:
            folder, tower = embedded.verified_path(embedded.ORIGINALS[name]), folder / embedded.TOWER
        return _create(name, f"local-dir:{folder}", None, device, tower)
    if name.startswith(("hf-hub:", "local-dir:")):
        return _create(name, name, None, device)
    architecture, weights = _split(name)
    if architecture is None and files.is_file(Path(name)):
        architecture, weights = checkpoints.architecture(Path(name)), name
    if architecture is None:
        raise EncoderError(_unknown(name))
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not weights:
        ways = [f"{architecture}/{tag}" for tag in tags[:4]] + [f"{architecture}/CHECKPOINT"]
        raise EncoderError(f"{name} names no weights: use one of {', '.join(ways)}")
    if not (open_clip.is_pretrained_cfg(architecture, weights) or files.is_file(Path(weights))):
        raise EncoderError(
            f"{name}: {weights!r} is neither a file nor a pretrained tag of {architecture} "
            f"(tags: {', '.join(tags) or 'none'})"
        )
    if files.is_file(Path(weights)):
        checkpoints.check(Path(weights))
    return _create(name, architecture, weights, device)


def _checked(device: str | torch.device) -> torch.device:
    """A device that is there and computes."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        if not float(torch.ones(1, device=found)) == 1:  # "meta" holds no numbers
            raise ValueError
    except Exception as error:  # torch raises many types, and tells of drivers at length
        raise EncoderError(f"device: {str(device)!r} is no device of this machine; use cpu, cuda, cuda:1 …") from error
    return found


def available() -> list[dict[str, Any]]:
    """Every encoder that has a name: embedded ones first, then open_clip's pretrained ones.

    Returns:
        One dict each with `name`, `kind` ("embedded" or "open_clip"), `path`
        (the folder of an embedded one, else None), `image_size` in pixels and
        `parameters` (None for those that would have to be built to count them).
    """
    rows: list[dict[str, Any]] = []
    for name in embedded.names():
        encoder = load(name)
        size = encoder.image_size[0]
        rows.append(_row(name, "embedded", str(embedded.path(name)), size, encoder.parameter_count))
    for architecture, tag in open_clip.list_pretrained():
        size = (open_clip.get_model_config(architecture) or {})["vision_cfg"].get("image_size", 224)
        rows.append(_row(f"{architecture}/{tag}", "open_clip", None, size, None))
    return rows


def _row(name: str, kind: str, path: str | None, image_size: Any, parameters: int | None) -> dict[str, Any]:
    return {"name": name, "kind": kind, "path": path, "image_size": image_size, "parameters": parameters}


def _split(name: str) -> tuple[str | None, str]:
    """`ViT-B-32/openai` → ("ViT-B-32", "openai"); the architecture is None if unknown."""
    known = set(open_clip.list_models())
    parts = name.split("/")
    for count in range(len(parts), 0, -1):
        architecture = "-".join(parts[:count])  # open_clip also takes ViT-B/32 for ViT-B-32
        if architecture in known:
            return architecture, "/".join(parts[count:])
    return None, ""


def _unknown(name: str) -> str:
    if Path(name).suffix in checkpoints.SUFFIXES:
        return f"{name}: no such checkpoint file"
    choices = [*embedded.names(), *open_clip.list_models()]
    near = difflib.get_close_matches(name.split("/")[0], choices, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return (
        f"unknown encoder {name!r}: {hint}Use {' or '.join(embedded.names())}, ARCHITECTURE/TAG "
        "(`foclip models` lists them), hf-hub:…, local-dir:… or a checkpoint file"
    )


def _create(
    name: str, model_name: str, weights: str | None, device: str | torch.device, tower: Path | None = None
) -> Encoder:
    """The model, with another image tower if one is given."""
    options: dict[str, Any] = {}
    if weights is not None:
        tag = open_clip.get_pretrained_cfg(model_name, weights)
        if tag.get("quick_gelu") and not (open_clip.get_model_config(model_name) or {}).get("quick_gelu"):
            # RN50/openai and the like: the weights were trained with QuickGELU; open_clip only
            # warns and would score with another activation than the authors'.
            options["force_quick_gelu"] = True
    try:
        with _quiet():
            model = open_clip.create_model(model_name, weights, require_pretrained=True, **options)
            tokenizer = open_clip.get_tokenizer(model_name)
        if tower:
            model.visual.load_state_dict(load_file(tower))
        if not all(bool(torch.isfinite(value).all()) for value in model.parameters()):
            raise ValueError("its weights are not finite (NaN or infinity among them)")
        return OpenClipEncoder(name, model, tokenizer, device)
    except Exception as error:  # open_clip, torch and the hub raise a dozen types for one cause each
        raise EncoderError(f"{name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """One line on why a model did not load, with the way out."""
    text = " ".join(str(error).split())
    lower = text.lower()
    if "weights_only" in lower or "unpickl" in lower or "torchscript" in lower:
        return (
            "refused, since this file holds more than weights and loading it could run code; "
            "save its state_dict as safetensors"
        )
    if "download" in lower or "connection" in lower or "hf-hub" in lower or "hf hub" in lower:
        return (
            "its weights cannot be downloaded; check the network (or HF_HUB_OFFLINE), or fetch the "
            f"file elsewhere and pass ARCHITECTURE/FILE ({text[:160]})"
        )
    if "deserializ" in lower or "safetensor" in lower:
        return f"its weights file is damaged or cut off ({text[:160]})"
    if "state_dict" in lower or "size mismatch" in lower:
        return f"the weights do not fit the architecture ({text[:160]})"
    return text[:300] or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip logs every step of loading; what matters ends as an EncoderError."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
