"""ImageReward (Xu et al. 2023, arXiv 2304.05977): how well people like a picture that was made for a prompt."""

import math
import re
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foclip.errors import UsageError
from foclip.models.encoder import Encoder
from foclip.models.preprocess import Preprocess
from foclip.models.scorer import ScoreInfo
from foclip.models.scores.aesthetic import linear_head
from foclip.models.scores.blip import TOKENS, CrossAttentionScore
from foclip.models.surroundings import quiet

#: Mean and standard deviation of rewards, by which its authors make them comparable.
MEAN, STD = 0.16717362830052426, 1.0333394966054072
#: File of its weights, and its authors' tokenizer.
WEIGHTS, TOKENIZER = "ImageReward.pt", "bert-base-uncased"
#: Names in its file, and what transformers calls the same.
NAMES = {
    r"^blip\.visual_encoder\.cls_token$": "vision_model.embeddings.class_embedding",
    r"^blip\.visual_encoder\.pos_embed$": "vision_model.embeddings.position_embedding",
    r"^blip\.visual_encoder\.patch_embed\.proj\.": "vision_model.embeddings.patch_embedding.",
    r"^blip\.visual_encoder\.norm\.": "vision_model.post_layernorm.",
    r"^blip\.visual_encoder\.blocks\.(\d+)\.norm": r"vision_model.encoder.layers.\1.layer_norm",
    r"^blip\.visual_encoder\.blocks\.(\d+)\.attn\.proj\.": r"vision_model.encoder.layers.\1.self_attn.projection.",
    r"^blip\.visual_encoder\.blocks\.(\d+)\.attn\.": r"vision_model.encoder.layers.\1.self_attn.",
    r"^blip\.visual_encoder\.blocks\.": "vision_model.encoder.layers.",
    r"^blip\.text_encoder\.": "text_encoder.",
}
#: Width of an attention head in BLIP's towers.
HEAD = 64


class ImageReward(CrossAttentionScore):
    r"""A reward, about -2.3 to 2.3, mean 0, by an MLP on the text features of a BLIP that looks at the picture.

    .. math:: s(x, p) = (\operatorname{MLP}(h(x, p)) - 0.167) / 1.033

    The short side goes to 224 pixels (bicubic), the middle is cut out; prompts are read as they are, up to 35 tokens.
    Needs: --model FOLDER with ImageReward.pt of zai-org/ImageReward (Apache-2.0, 1.8 GB), and the tokenizer of
    bert-base-uncased there or from the hub.
    """

    name = "imagereward"
    info = ScoreInfo(name, floor=0.1, temperature=0.1, lowest=-math.inf, highest=math.inf)
    reward: nn.Module

    @classmethod
    def load(cls, model: str | Encoder, device: torch.device) -> "ImageReward":
        """The score by the weights in a file, or in a folder that may hold the tokenizer, too."""
        place = Path(model) if isinstance(model, str) else Path()
        path = place / WEIGHTS if place.is_dir() else place
        if isinstance(model, Encoder) or not path.is_file():
            raise UsageError(f"{cls.name}: pass --model FOLDER with {WEIGHTS} of zai-org/ImageReward")
        from foclip.models.checkpoints import tensors  # open_clip takes seconds to import

        state = tensors(path)
        network, own = _network(path, state), place if (place / "tokenizer_config.json").is_file() else TOKENIZER
        found = cls(str(model), network.to(device), _tokenizer(own, cls.name), _preprocess(state, device), device)
        found.reward = network.reward
        return found

    def head(self, features: Tensor) -> Tensor:
        return torch.as_tensor((self.reward(features.float())[:, 0] - MEAN) / STD)


def _network(path: Path, state: dict[str, Tensor]) -> Any:
    """BLIP's two towers in transformers with the weights of the file, and its MLP; sizes are those of the weights."""
    import transformers

    renamed = {}
    for name, value in state.items():
        to = next((re.sub(old, new, name) for old, new in NAMES.items() if re.match(old, name)), name)
        renamed[to] = value.float() if value.is_floating_point() else value
    try:
        vision = renamed["vision_model.embeddings.position_embedding"].shape[2]
        words = renamed["text_encoder.embeddings.word_embeddings.weight"]
        shared = {"hidden_size": words.shape[1], "num_attention_heads": words.shape[1] // HEAD}
        config = transformers.BlipConfig(
            vision_config={
                "hidden_size": vision,
                "intermediate_size": renamed["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
                "num_attention_heads": vision // HEAD,
                "num_hidden_layers": _layers(renamed, "vision_model.encoder.layers."),
                "patch_size": renamed["vision_model.embeddings.patch_embedding.weight"].shape[-1],
                "image_size": _side(state),
                "layer_norm_eps": 1e-6,
            },
            text_config=shared
            | {
                "vocab_size": words.shape[0],
                "intermediate_size": renamed["text_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0],
                "num_hidden_layers": _layers(renamed, "text_encoder.encoder.layer."),
                "max_position_embeddings": renamed["text_encoder.embeddings.position_embeddings.weight"].shape[0],
                "encoder_hidden_size": vision,
                "bos_token_id": None,
                "sep_token_id": None,
            },
        )
    except KeyError as error:
        raise UsageError(f"{path}: no weights of ImageReward ({error} is missing)") from error
    with quiet():
        network = transformers.BlipForImageTextRetrieval(config)
    missing, _ = network.load_state_dict(renamed, strict=False)
    if missing := [name for name in missing if name.startswith(("vision_model.", "text_encoder."))]:
        raise UsageError(f"{path}: no weights of ImageReward ({missing[0]} is missing)")
    network.reward = linear_head(path, {name: value for name, value in renamed.items() if name.startswith("mlp.")})
    return network.eval().requires_grad_(False)


def _layers(state: dict[str, Tensor], prefix: str) -> int:
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix))


def _side(state: dict[str, Tensor]) -> int:
    """Side of the pictures, in pixels, that the weights are for."""
    patches = isqrt(state["blip.visual_encoder.pos_embed"].shape[1] - 1)
    return patches * int(state["blip.visual_encoder.patch_embed.proj.weight"].shape[-1])


def _preprocess(state: dict[str, Tensor], device: torch.device) -> Preprocess:
    side = _side(state)
    return Preprocess((side, side), device=device)


def _tokenizer(place: str | Path, name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet():
            found = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # transformers and the hub raise many types
        raise UsageError(
            f"{name}: the tokenizer of {place} cannot be loaded; put its files (tokenizer_config.json, vocab.txt) "
            f"beside {WEIGHTS}"
        ) from error
    found.model_max_length = max(found.model_max_length, TOKENS)
    return found
