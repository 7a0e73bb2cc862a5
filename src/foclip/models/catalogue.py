"""What encoders there are, by name, without importing torch.

open_clip keeps its architectures as JSON files and its pretrained weights in one table of `pretrained.py`. Both are
read here as files, since importing open_clip takes seconds and a gigabyte.
"""

import ast
import difflib
import json
import re
import sys
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from foclip import files
from foclip.data.prompts import open_clip_file
from foclip.errors import EncoderError
from foclip.models import embedded

#: Endings of checkpoint files.
SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".safetensors"})
#: What names of transformers' begin with; none of it is needed where the rest tells (`in_transformers`).
TRANSFORMERS = "transformers:"
#: What the name of an encoder begins with that is given every picture blurred (`foclip.models.blurred`).
BLURRED = "blurred:"
#: ORGANISATION/NAME, as the hub allows them.
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
#: Entries of a state dict that are no parameters.
_BUFFERS = re.compile(r"running_mean$|running_var$|num_batches_tracked$|attn_mask$")


def available() -> list[dict[str, Any]]:
    """Every encoder that has a name: the embedded ones first, then open_clip's pretrained ones.

    Each has a `name`, `kind` ("embedded" or "open_clip"), `path` (the folder that open_clip loads with `local-dir:`;
    None for an image tower alone and for open_clip's own), `image_size` in pixels, and `parameters` (None where the
    weights are not at hand).
    """
    rows = [_embedded(name) for name in embedded.names()]
    known = architectures()
    for architecture, tags in pretrained().items():
        facts = {
            "kind": "open_clip",
            "path": None,
            "image_size": known[architecture]["vision_cfg"].get("image_size", 224),
        }
        rows += [{"name": f"{architecture}/{tag}", **facts, "parameters": None} for tag in tags]
    return rows


class Named(NamedTuple):
    """What the name of an encoder stands for."""

    architecture: str | None  #: None for a checkpoint alone, whose weights tell it.
    tag: str | None  #: Of pretrained weights, or of those whose preprocessing the checkpoint has.
    file: str | None  #: A checkpoint; None where the weights are those of the tag.


def parse(name: str) -> Named:
    """What `ARCHITECTURE/TAG`, `ARCHITECTURE/FILE`, `ARCHITECTURE/TAG/FILE` or the path of a checkpoint stands for.

    open_clip also takes `ViT-B/32` for `ViT-B-32`. An `EncoderError` for any other name tells what is near.
    """
    known = architectures()
    parts = name.split("/")
    starts = ((count, "-".join(parts[:count])) for count in range(len(parts), 0, -1))
    count, architecture = next(((count, start) for count, start in starts if start in known), (0, ""))
    if not architecture:
        if files.is_file(Path(name)):
            return Named(None, None, name)
        raise EncoderError(_unknown(name, list(known)))
    weights = "/".join(parts[count:])
    tags = list(pretrained().get(architecture, ()))
    if not weights:
        ways = ", ".join(f"{architecture}/{tag}" for tag in [*tags[:4], "FILE"])
        raise EncoderError(f"{name} names no weights: write, say, {ways} (`foclip models` lists all)")
    if files.is_file(Path(weights)):
        return Named(architecture, None, weights)
    first, _, file = weights.partition("/")
    tag = first.lower().replace("-", "_")
    if tag in tags and (not file or files.is_file(Path(file))):
        return Named(architecture, tag, file or None)
    raise EncoderError(
        f"{name}: {file if tag in tags else weights!r} is neither a file nor a pretrained tag of {architecture} "
        f"(tags: {', '.join(tags) or 'none'})"
    )


def unblurred(name: str) -> str:
    """The name of the encoder that is given pictures blurred; any other name as it is."""
    while name.startswith(BLURRED):
        name = name.removeprefix(BLURRED)
    return name


def in_transformers(name: str) -> str | None:
    """The folder or the hub's repository that transformers loads for this name; None if the name is another's.

    It is what follows `transformers:`, a folder, or ORGANISATION/NAME, unless that resembles a name of open_clip's.
    """
    if name.startswith(TRANSFORMERS):
        return name.removeprefix(TRANSFORMERS)
    if not name or name in embedded.names() or ":" in name:
        return None
    if files.is_file(Path(name) / "config.json"):
        return name
    known, parts = architectures(), name.split("/")
    if any("-".join(parts[:count]) in known for count in range(1, len(parts) + 1)):
        return None
    repository = len(parts) == 2 and _REPOSITORY.fullmatch(name) and Path(name).suffix not in SUFFIXES
    return name if files.is_folder(Path(name)) or (repository and not _near(name, list(known))) else None


def _near(name: str, architectures: list[str]) -> list[str]:
    return difflib.get_close_matches(name.split("/")[0], [*embedded.names(), *architectures], n=3, cutoff=0.5)


def _unknown(name: str, architectures: list[str]) -> str:
    if Path(name).suffix in SUFFIXES:
        return f"{name}: no such checkpoint file"
    near = _near(name, architectures)
    hint = f"did you mean {' or '.join(near)}? If not, " if near else ""
    return (
        f"unknown encoder {name!r}: {hint}choose {', '.join(embedded.names())}, ARCHITECTURE/TAG "
        "(`foclip models` lists them), hf-hub:…, local-dir:…, transformers:…, blurred:NAME or a checkpoint file"
    )


def _embedded(name: str) -> dict[str, Any]:
    folder = embedded.path(embedded.ORIGINALS.get(name, name))
    with (folder / "open_clip_model.safetensors").open("rb") as stream:  # eight bytes say how long the JSON after it is
        tensors = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    shapes = [entry["shape"] for key, entry in tensors.items() if "shape" in entry and not _BUFFERS.search(key)]
    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
    # An image tower alone has the parameters of its original, and no configuration that open_clip could load.
    return {
        "name": name,
        "kind": "embedded",
        "path": None if name in embedded.ORIGINALS else str(folder),
        "image_size": config["model_cfg"]["vision_cfg"]["image_size"],
        "parameters": sum(map(prod, shapes)),
    }


def architectures() -> dict[str, dict[str, Any]]:
    """open_clip's architectures, and the configuration of each."""
    if "open_clip" in sys.modules:  # a user may have added to them
        import open_clip

        return {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    paths = open_clip_file("model_configs").glob("*.json")
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    needed = {"embed_dim", "vision_cfg", "text_cfg"}
    return {name: config for name, config in found.items() if needed <= config.keys()}


@cache
def pretrained() -> dict[str, Any]:
    """Pretrained weights by architecture and tag: what the code of `pretrained.py` makes without its heavy imports."""
    names: dict[str, Any] = {}
    for file in ("constants.py", "version.py", "pretrained.py"):
        module = ast.parse(open_clip_file(file).read_text(encoding="utf-8"))
        # Only a relative import has a level.
        module.body = [node for node in module.body if not isinstance(node, ast.Try) and not getattr(node, "level", 0)]
        exec(compile(module, file, "exec"), names)  # noqa: S102 (open_clip's own code)
    table: dict[str, Any] = names["_PRETRAINED"]
    return table
