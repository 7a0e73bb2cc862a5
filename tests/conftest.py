"""Fixtures: encoders and pictures made here; nothing outside the machine is called."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
# One thread here and in every process that tests start: two workers share two cores, and another number of
# threads rounds otherwise.
os.environ["OMP_NUM_THREADS"] = "1"
# Ray's processes give way to all others, and so would wait for the other half of the tests.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112

import ready  # noqa: F401 (before anything else imports all of open_clip, which takes longer than all the rest)

# isort: split
import hashlib
import json
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import open_clip
import pytest
import torch
from calling import PROGRESS, ROWS
from PIL import Image
from torch import Tensor

from foclip import cli
from foclip.attacks import AttackPlan, AttackResult, AttackTask
from foclip.attacks import run as attack_all
from foclip.data.images import read, to_image
from foclip.data.prompts import Prompts
from foclip.demo import photos
from foclip.errors import CheckpointWarning
from foclip.models import Encoder, embedded, load_encoder
from foclip.models import open_clip as open_clip_models
from foclip.models.batching import raw_scores, read_figures, read_scores
from foclip.models.scorer import Scorer
from foclip.models.scores import CLIPScore

torch.set_num_threads(1)
# A shell starts what runs in its background deaf to Ctrl-C, and so would be these tests and all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: A package that adds scores, with its entry points.
TOYS = Path(__file__).parent / "toys"

#: Calls the command line: exit code, stdout, stderr.
Run = Callable[..., tuple[int, str, str]]


def fooled_by(attack: AttackPlan, score: Scorer, pictures: Sequence[Tensor], prompts: Prompts) -> list[AttackResult]:
    """What an attack makes of pictures, in their order; unless it says otherwise, with no more slots than pictures."""
    if attack.execution.batch_size is None:
        attack = attack.replace(batch_size=min(len(pictures), 4))
    tasks = [AttackTask(picture, prompts, number) for number, picture in enumerate(pictures)]
    return sorted(attack_all(tasks, score, attack), key=lambda fooled: int(fooled.task.tag))


def scores_of(scorer: Scorer, picture: Image.Image, prompts: Prompts) -> list[float]:
    """The score of one RGB picture with each prompt, as `foclip.score` gives it."""
    return read_figures(scorer, [scorer.preprocess.image(picture)], [scorer.encode_prompts(prompts)])[0]


def raw_scores_of(scorer: Scorer, picture: Image.Image, prompts: Prompts) -> Tensor:
    """Raw scores (T,) of one RGB picture, read as a file's."""
    return read_scores(scorer, [scorer.preprocess.image(picture)], [scorer.encode_prompts(prompts)])[0]


def raw_scores_of_pixels(
    scorer: Scorer, pixels: Sequence[Tensor], prompts: Sequence[Prompts], rows: int
) -> list[Tensor]:
    """Raw scores (1, T_i) of float pixels (3, H, W) in one pass, differentiably."""
    inputs = [scorer.preprocess.pixels(picture[None]) for picture in pixels]
    return raw_scores(scorer, inputs, [scorer.encode_prompts(own) for own in prompts], rows)


def file_score(scorer: Scorer, pixels: Tensor, prompts: Prompts) -> float:
    """Mean figure of the file that holds these pixels."""
    return float(np.mean(scores_of(scorer, to_image(pixels), prompts)))


@pytest.fixture(scope="session")
def mini() -> Encoder:
    return load_encoder("mini")


@pytest.fixture(scope="session")
def score(mini: Encoder) -> CLIPScore:
    return CLIPScore(mini)


#: Embedded encoders as they are made once for all modules that are not about making them.
_made_once = cache(open_clip_models.create)


@pytest.fixture(scope="module")
def _embedded_once() -> Iterator[None]:
    """Embedded encoders are made once for all calls of modules that are not about making them.

    Each call still checks the name, the device and the files, as it would before making one.
    """
    make = open_clip_models.create

    def create(name: str, *arguments: Any, **more: Any) -> Encoder:
        return (_made_once if name in embedded.names() else make)(name, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip_models, "create", create)
        yield


class Kept:
    """Tensors that are computed once for all processes of a run: those that xdist starts, and those that tests fork."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, Tensor] = {}

    def __call__(self, key: tuple[object, ...], compute: Callable[[], Tensor]) -> Tensor:
        """A copy of the tensor of this key, whose parts have a `repr` that tells them apart."""
        name = hashlib.sha256(repr(key).encode()).hexdigest()
        if name not in self._seen:
            path = self._folder / name
            if path.exists():
                self._seen[name] = torch.load(path, weights_only=True)
            else:
                self._seen[name] = compute()
                partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
                torch.save(self._seen[name], partial)
                partial.replace(path)
        return self._seen[name].clone()


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """What tests keep of passes; xdist's workers have their folders of temporary files in a common one."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kept"
    folder.mkdir(exist_ok=True)
    return Kept(folder)


def _texts_once(patch: pytest.MonkeyPatch, kept: Kept, wanted: Callable[[list[str]], bool]) -> None:
    """From here on, what one text tower makes of the same list of texts is computed once, if the list is `wanted`."""
    compute = open_clip_models.OpenClipEncoder.texts

    def texts(encoder: open_clip_models.OpenClipEncoder, prompts: list[str]) -> Tensor:
        if not wanted(prompts):
            return compute(encoder, prompts)
        return kept((text_tower(encoder), *prompts), lambda: compute(encoder, prompts))

    patch.setattr(open_clip_models.OpenClipEncoder, "texts", texts)


#: Digests of text towers by their encoder: hardened encoders share that of the original.
_TEXT_TOWERS: WeakKeyDictionary[Encoder, str] = WeakKeyDictionary()


def text_tower(encoder: open_clip_models.OpenClipEncoder) -> str:
    """SHA-256 over the weights of an encoder's text tower."""
    if encoder not in _TEXT_TOWERS:
        digest = hashlib.sha256()
        for name, value in encoder.model.state_dict().items():
            if not name.startswith("visual."):
                digest.update(name.encode() + value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        _TEXT_TOWERS[encoder] = digest.hexdigest()
    return _TEXT_TOWERS[encoder]


@pytest.fixture(scope="session", autouse=True)
def _thousand_captions_once(kept: Kept) -> Iterator[None]:
    """A thousand captions take seconds, and every search for the best of them starts with their embeddings."""
    with pytest.MonkeyPatch.context() as patch:
        _texts_once(patch, kept, lambda prompts: len(prompts) >= 200)
        yield


@pytest.fixture(scope="module")
def _passes_once(kept: Kept) -> Iterator[None]:
    """What an encoder reads in equal pictures and texts is computed once for all calls of modules about other things.

    Detectors read few pictures in a pass (`calling.ROWS`). Passes with a gradient, those of attacks, are made each
    time, and long texts are read each time, since the warning about them is part of reading.
    """
    compute = open_clip_models.OpenClipEncoder.features

    def features(encoder: open_clip_models.OpenClipEncoder, inputs: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return compute(encoder, inputs)
        digest = hashlib.sha256(inputs.contiguous().numpy().tobytes()).hexdigest()
        key = (encoder.fingerprint, encoder.dtype, *inputs.shape, digest)
        return kept(key, lambda: compute(encoder, inputs))

    with pytest.MonkeyPatch.context() as patch:
        for home, name in ROWS:
            patch.setattr(home, name, 8)
        patch.setattr(open_clip_models.OpenClipEncoder, "features", features)
        _texts_once(patch, kept, lambda prompts: max(map(len, prompts)) < 100)
        yield


@pytest.fixture(scope="module")
def toys() -> Iterator[None]:
    """Another package with two scores, `toy` and `toy-taste`, found by its entry points alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOYS))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TOYS), os.environ.get("PYTHONPATH", "")]))
        yield


#: Architectures of open_clip's two kinds of image towers, small: what is done with them is that of the large ones.
SMALL = {
    "small-ViT": {"image_size": 64, "patch_size": 32, "layers": 2, "width": 64, "head_width": 32},
    "small-RN": {"image_size": 64, "layers": [2, 1, 1, 1], "width": 16},
}


class Checkpoints(dict[str, Path]):
    """Checkpoint files of open_clip's architectures with random weights, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __missing__(self, architecture: str) -> Path:
        torch.manual_seed(0)
        self[architecture] = self.folder / f"{architecture}.pt"
        torch.save({"state_dict": open_clip.create_model(architecture).state_dict()}, self[architecture])
        return self[architecture]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """Checkpoint files by architecture; `SMALL` ones are known from here on."""
    configs = tmp_path_factory.mktemp("architectures")
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    for name, vision in SMALL.items():
        config = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}
        (configs / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(configs)
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


#: Loads the tiny model of one of transformers' families, with the processor of a backend.
Made = Callable[..., Any]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of the tiny model of one of transformers' families (`families.MAKERS`)."""
    import families  # which imports transformers

    base = tmp_path_factory.mktemp("families")
    return cache(lambda family: families.write(family, base / family))


@pytest.fixture(scope="session")
def made(folder: Callable[[str], Path]) -> Made:
    """The encoder of a family, by its name alone or with a processor of another backend."""
    from transformers import AutoImageProcessor

    from foclip.models.hugging_face import HuggingFaceEncoder

    @cache
    def load(family: str, backend: str = "torchvision") -> HuggingFaceEncoder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CheckpointWarning)
            encoder = load_encoder(str(folder(family)))
        assert isinstance(encoder, HuggingFaceEncoder)
        if backend != "torchvision":
            processor = AutoImageProcessor.from_pretrained(folder(family), backend=backend)
            encoder = type(encoder)(family, encoder.model, processor, encoder.tokenizer)
        return encoder

    return load


@pytest.fixture(scope="session")
def photo_files() -> list[Path]:
    return photos()


@pytest.fixture(scope="session")
def photo_parts() -> list[Image.Image]:
    """Crops of real photos in three sizes."""
    boxes = ((100, 20, 260, 180), (60, 40, 250, 200), (200, 100, 360, 330), (150, 80, 310, 240))
    return [read(path).crop(box) for path, box in zip(photos(), boxes, strict=True)]


@pytest.fixture(scope="session")
def small_photos(photo_parts: list[Image.Image]) -> list[Image.Image]:
    """The same, only a little larger than what `mini` sees: most work grows with pixels."""
    return [part.resize((part.width * 7 // 10, part.height * 7 // 10)) for part in photo_parts]


@pytest.fixture
def gradient_picture() -> Image.Image:
    """An upright 40 × 30 picture whose corners tell its orientation."""
    y, x = np.mgrid[0:30, 0:40]
    pixels = np.stack([x * 6, y * 8, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the command line in this process: exit code, stdout, stderr without progress."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["foclip", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(caught.value.code or 0), captured.out, PROGRESS.sub("", captured.err)

    return call
