"""What scoring and detecting cost: against bare forward passes, torchmetrics' CLIPScore and a plain open_clip loop.

From decoded pictures: the same ViT-B/32 (random weights), once as open_clip has it, once as transformers has it, since
that is what `torchmetrics.multimodal.CLIPScore` takes; one prompt for all pictures. From JPEG files: against decoding
alone and against encoding alone, that is the model's own preprocessing of decoded pictures and the tower, each on one
thread; and, to see what preprocessing takes, against passes of ready inputs.
"""

import tempfile
import time
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from open_clip import get_model_preprocess_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

import foclip
from benchmarks.detect import chosen, crops
from benchmarks.steps import encoder_of
from benchmarks.timing import Section, paired, seconds
from foclip.data import images
from foclip.detection import measure
from foclip.models import OpenClipEncoder
from foclip.models.batching import pass_rows
from foclip.models.scores import CLIPScore

#: What goes on beside the tower, on other threads, counts too.
wall = partial(seconds, clock=time.perf_counter)
PROMPT = "a photo of a cup of coffee"


def bare(encoder: OpenClipEncoder, rows: int, count: int) -> float:
    """Seconds of forward passes of ready inputs."""
    inputs = torch.zeros(rows, 3, *encoder.image_size)

    def passes() -> None:
        with torch.inference_mode():
            for _ in range(-(-count // rows)):
                encoder.tower(inputs)

    return wall(passes)


def plain(encoder: OpenClipEncoder, pictures: list[Image.Image]) -> None:
    """The loop of open_clip's README, in batches of 32."""
    with torch.no_grad():
        texts = encoder.encode_texts([PROMPT])
        transform = image_transform_v2(PreprocessCfg(**get_model_preprocess_cfg(encoder.model)), is_train=False)
        for first in range(0, len(pictures), 32):
            batch = torch.stack([torch.as_tensor(transform(p)) for p in pictures[first : first + 32]])
            features = encoder.model.encode_image(batch, normalize=True)
            (2.5 * features @ texts.T).clamp(min=0).flatten().tolist()


def torchmetrics_score(encoder: OpenClipEncoder) -> Any:
    """Torchmetrics' metric over transformers' ViT-B/32 with random weights, its own image processor and our tokens."""
    from torchmetrics.multimodal import CLIPScore as TheirScore
    from transformers import CLIPConfig, CLIPImageProcessorFast, CLIPModel

    own: Any = CLIPImageProcessorFast()

    def processor(text: list[str] | None = None, images: list[Tensor] | None = None, **_: object) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        if text is not None:
            found["input_ids"] = encoder.tokenize(text)[0]
            found["attention_mask"] = torch.ones_like(found["input_ids"])
        if images is not None:
            found["pixel_values"] = own(images, return_tensors="pt")["pixel_values"]
        return found

    class Model(CLIPModel):  # type: ignore[misc]
        """With the features themselves, as before transformers 5, which torchmetrics 1 was written for."""

        def get_image_features(self, *given: Any, **named: Any) -> Any:
            return getattr(found := super().get_image_features(*given, **named), "pooler_output", found)

        def get_text_features(self, *given: Any, **named: Any) -> Any:
            return getattr(found := super().get_text_features(*given, **named), "pooler_output", found)

    model = Model(CLIPConfig()).eval()
    return TheirScore(model_name_or_path=lambda: (model, processor))


def table(models: list[str], repeats: int) -> Section:
    """Pictures per second, and ratios to bare passes."""
    section = Section("Scoring and detecting")
    for name in [model for model in models if model in ("mini", "mini-vit", "ViT-B-32")]:
        encoder = encoder_of(name)
        # Enough that what is done once for all of them does not count.
        score, count = CLIPScore(encoder), 256 if name.startswith("mini") else 32
        decoded = list(islice(cycle(crops(chosen(None), 256)), count))
        tensors = [images.to_tensor(picture) for picture in decoded]
        calls = {
            "bare passes of 32": lambda: bare(encoder, min(32, count), count),  # noqa: B023
            "score": lambda: wall(lambda: foclip.score(decoded, [PROMPT], model=score)),  # noqa: B023
            "plain open_clip loop": lambda: wall(lambda: plain(encoder, decoded)),  # noqa: B023
            "detect's probes": lambda: wall(lambda: measure(score, decoded, [(PROMPT,)] * len(decoded))),  # noqa: B023
        }
        if name == "ViT-B-32":
            metric = torchmetrics_score(encoder)
            calls["torchmetrics"] = lambda: wall(lambda: metric(tensors, [PROMPT] * len(tensors)))  # noqa: B023
        spent, ratios = paired(calls, repeats)
        for call in calls:
            rate = count / spent[call].median
            section.add(model=name, **{"from": "pictures", "what": call, "per second": rate, "/ bare": ratios[call]})
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{number}.jpg" for number in range(count)]
            for path, picture in zip(files, cycle(crops(chosen(None), 512)), strict=False):
                picture.save(path, quality=92)
            opened = [images.read(path) for path in files]
            calls = {
                "decoding alone": lambda: wall(lambda: [images.read(path) for path in files]),  # noqa: B023
                "encoding alone": lambda: wall(lambda: encoder.encode_pictures(opened, pass_rows(score, 8, 1))),  # noqa: B023
                "passes alone": lambda: bare(encoder, pass_rows(score, 8, 1), count),  # noqa: B023
                "score": lambda: wall(lambda: foclip.score(files, [PROMPT], model=score)),  # noqa: B023
            }
            spent, _ = paired(calls, repeats)
            slower = max(spent["decoding alone"].median, spent["encoding alone"].median)
            for call in calls:
                section.add(
                    model=name,
                    **{"from": "JPEG files", "what": call, "per second": count / spent[call].median},
                    **{"share of the slower one's rate": slower / spent[call].median},
                )
    return section
