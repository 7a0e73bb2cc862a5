"""Whether what an encoder is made of is on this machine or can be fetched; found out in seconds, without torch.

The hub's own client tries for most of a minute, and what it says at last does not name the way out.
"""

from pathlib import Path
from ssl import SSLError
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from foclip.errors import EncoderError
from foclip.models import catalogue

#: Seconds that a host has to answer.
PATIENCE = 8.0
#: What is downloaded, and the files of a repository that it is in.
WEIGHTS = ("weights", tuple(f"*{suffix}" for suffix in sorted(catalogue.SUFFIXES)))
TOKENIZER = ("tokenizer's files", ("tokenizer*", "vocab*", "*.model"))
_HUB = "hf-hub:"


def require(name: str) -> None:
    """An `EncoderError` if the encoder of this name needs a download and the hub is out of reach.

    Tokenizers of some architectures are downloaded too, whatever the weights are.
    """
    if (place := catalogue.in_transformers(name)) is not None:
        if not Path(place).is_dir():
            _reach(name, place, WEIGHTS, "fetch the repository elsewhere and pass its folder")
        return
    if name.startswith(_HUB):
        _reach(name, name.removeprefix(_HUB), WEIGHTS, "fetch the repository elsewhere and pass local-dir:FOLDER")
    if name.partition(":")[0] in ("hf-hub", "local-dir"):
        return
    architecture, tag, file = catalogue.parse(name)
    if architecture is None:
        return
    if tag and not file and (place := catalogue.pretrained()[architecture][tag].get("hf_hub")):
        _reach(name, place, WEIGHTS, f"fetch them elsewhere and pass {architecture}/{tag}/FILE")
    text = catalogue.architectures()[architecture]["text_cfg"]
    if place := text.get("hf_tokenizer_name") or text.get("hf_model_name"):
        way = "put them, the weights and an open_clip_config.json into a folder, and pass local-dir:FOLDER"
        _reach(name, place, TOKENIZER, way)


def _reach(name: str, place: str, needed: tuple[str, tuple[str, ...]], way: str) -> None:
    """Refuse a repository of the hub of which what is needed is not kept here, if the hub does not answer."""
    from huggingface_hub import constants

    repository = "/".join(place.partition("@")[0].split("/")[:2])
    kept = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    what, patterns = needed
    found = (path for pattern in patterns for path in kept.glob(f"snapshots/*/{pattern}"))
    if any(path.exists() for path in found) or Path(repository).is_dir():
        return
    if problem := "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _problem(constants.ENDPOINT):
        here = f"its {what} ({constants.ENDPOINT}/{repository}) are not on this machine"
        here += ", but for a part" if any(kept.glob("blobs/*.incomplete")) else ""
        raise EncoderError(f"{name}: {here} and cannot be downloaded ({problem}); {way}")


def _problem(url: str) -> str | None:
    """Why a host cannot be reached; None if it answers, whatever it says. Proxies are those of the environment."""
    try:
        urlopen(Request(url, method="HEAD"), timeout=PATIENCE).close()  # noqa: S310 (the hub's own URL)
    except HTTPError:
        return None
    except OSError as error:
        reason = error.reason if isinstance(error, URLError) else error
        # Certificates are for the client that downloads.
        return None if isinstance(reason, SSLError) else getattr(reason, "strerror", None) or str(reason)
    return None
