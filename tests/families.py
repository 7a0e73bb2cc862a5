"""Tiny models of transformers' families with random weights, as folders that `save_pretrained` writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

#: Side of the pictures of the tiny models, and width of their towers.
SIDE, WIDTH = 32, 16
WORDS = ["a", "an", "the", "photo", "picture", "of", "cat", "dog", "red", "square", "sea", "good", "bad", "in", "dark"]
VISION = {
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}
TEXT = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


#: A small network of HPSv2's kind, as open_clip configures it.
HPS_VISION = {"image_size": 64, "patch_size": 16, "layers": 2, "width": 64, "head_width": 32}
HPS_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}


def _clip_tokenizer() -> Any:
    """CLIP's own class over letters, each alone or at the end of a word."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list(".,!?0123456789")
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    ids = {token: place for place, token in enumerate(vocabulary)}
    return transformers.CLIPTokenizer(vocab=ids, merges=[], model_max_length=12)


def _bert_tokenizer() -> Any:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{each}" for each in letters)]
    ids = {token: place for place, token in enumerate(dict.fromkeys(vocabulary))}
    return transformers.BertTokenizer(vocab=ids, model_max_length=20)


def _last_token_tokenizer(lower: bool, mask: bool = False) -> Any:
    """As SigLIP's: an end after each text, then padding, and no mask; with lower case or, as Gemma's, without."""
    ids = {token: place for place, token in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"] if mask else ["input_ids"],
        model_max_length=64,
    )


def _roberta_tokenizer() -> Any:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in WORDS), *"abcdefghijklmnopqrstuvwxyz"]
    scores = [(piece, -float(place)) for place, piece in enumerate([*dict.fromkeys(pieces), "<mask>"])]
    return transformers.XLMRobertaTokenizer(vocab=scores, model_max_length=20)


def _llama_tokenizer() -> Any:
    """As LLaMA's: a space before each word, one that is left over a token of its own, and a beginning of all."""
    words = ["▁ASSISTANT:", "▁USER:", "▁Yes", *(f"▁{word}" for word in WORDS)]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?:'\"\n"
    pieces = ["<unk>", "<s>", "</s>", "▁", *words, *letters, *(f"▁{letter}" for letter in letters)]
    scores = [(piece, -float(len(piece) < 3) - 1) for piece in dict.fromkeys(pieces)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "additional_special_tokens": ["<image>"]}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def _llava() -> tuple[Any, Any, Any]:
    tokenizer = _llama_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 600}
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**text),
        vision_config=transformers.CLIPVisionConfig(**VISION),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // 8) ** 2,
    )
    return transformers.LlavaForConditionalGeneration(config), _processor("CLIPImageProcessor"), tokenizer


def _clip() -> tuple[Any, Any, Any]:
    tokenizer = _clip_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 12}
    text |= {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=WIDTH)
    return transformers.CLIPModel(config), _processor("CLIPImageProcessor"), tokenizer


def _clip_argmax() -> tuple[Any, Any, Any]:
    """The first checkpoints of CLIP have the wrong id for the end of a text, and pool at the highest id."""
    model, processor, tokenizer = _clip()
    model.config.text_config.eos_token_id = 2
    return transformers.CLIPModel(model.config), processor, tokenizer


def _siglip(lower: bool = True, **processing: Any) -> tuple[Any, Any, Any]:
    tokenizer = _last_token_tokenizer(lower)
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "projection_size": WIDTH}
    config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
    return transformers.SiglipModel(config), _processor("SiglipImageProcessor", crop=False, **processing), tokenizer


def _naflex() -> tuple[Any, Any, Any]:
    tokenizer = _last_token_tokenizer(True)
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "projection_size": WIDTH}
    vision = {key: value for key, value in VISION.items() if key != "image_size"} | {"num_patches": 16}
    config = transformers.Siglip2Config(text_config=text, vision_config=vision)
    processor = transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=24)
    return transformers.Siglip2Model(config), processor, tokenizer


def _metaclip_2() -> tuple[Any, Any, Any]:
    tokenizer = _roberta_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 20, "eos_token_id": 2}
    config = transformers.MetaClip2Config(text_config=text, vision_config=VISION, projection_dim=WIDTH)
    return transformers.MetaClip2Model(config), _processor("CLIPImageProcessor"), tokenizer


def _align() -> tuple[Any, Any, Any]:
    tokenizer = _bert_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 64}
    vision = {
        "image_size": SIDE,
        "width_coefficient": 0.1,
        "depth_coefficient": 0.1,
        "hidden_dim": WIDTH,
        "depth_divisor": 2,
    }
    config = transformers.AlignConfig(text_config=text, vision_config=vision, projection_dim=32)  # as many channels
    # As the hub's: squashed to more than it reads, then cut, levels from -1 to 1.
    processor = transformers.EfficientNetImageProcessor(
        size={"height": SIDE + 7, "width": SIDE + 7},
        crop_size={"height": SIDE, "width": SIDE},
        do_center_crop=True,
        resample=2,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        do_normalize=False,
        include_top=False,
    )
    return transformers.AlignModel(config), processor, tokenizer


def _altclip() -> tuple[Any, Any, Any]:
    tokenizer = _roberta_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "project_dim": WIDTH}
    config = transformers.AltCLIPConfig(text_config=text, vision_config=VISION, projection_dim=WIDTH)
    return transformers.AltCLIPModel(config), _processor("CLIPImageProcessor"), tokenizer


def _chinese_clip() -> tuple[Any, Any, Any]:
    tokenizer = _bert_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 32}
    config = transformers.ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=WIDTH)
    return transformers.ChineseCLIPModel(config), _processor("ChineseCLIPImageProcessor"), tokenizer


def _aimv2() -> tuple[Any, Any, Any]:
    tokenizer = _clip_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 12, "eos_token_id": tokenizer.eos_token_id}
    config = transformers.Aimv2Config(text_config=text, vision_config=VISION, projection_dim=WIDTH)
    return transformers.Aimv2Model(config), _processor("CLIPImageProcessor"), tokenizer


def _tipsv2() -> tuple[Any, Any, Any]:
    tokenizer = _last_token_tokenizer(True, mask=True)
    text = TEXT | {"vocab_size": len(tokenizer)}
    vision = {key: value for key, value in VISION.items() if key != "intermediate_size"}
    config = transformers.Tipsv2Config(text_config=text, vision_config=vision)
    return transformers.Tipsv2Model(config), _processor("Tipsv2ImageProcessor", crop=False), tokenizer


def _blip() -> tuple[Any, Any, Any]:
    tokenizer = _bert_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 40, "encoder_hidden_size": WIDTH}
    config = transformers.BlipConfig(text_config=text, vision_config=VISION, image_text_hidden_size=WIDTH)
    return transformers.BlipForImageTextRetrieval(config), _processor("BlipImageProcessor", crop=False), tokenizer


def _processor(kind: str, crop: bool = True, **more: Any) -> Any:
    size: dict[str, Any] = {"size": {"height": SIDE, "width": SIDE}}
    if crop:
        size = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    return getattr(transformers, kind)(**size | more)


#: What makes a model, an image processor and a tokenizer, by family.
MAKERS: dict[str, Callable[[], tuple[Any, Any, Any]]] = {
    "clip": _clip,
    "clip-argmax": _clip_argmax,
    "siglip": _siglip,
    "siglip2": lambda: _siglip(resample=2),  # as the hub's fixed resolutions: bilinear
    "siglip2-capitals": lambda: _siglip(lower=False, resample=2),
    "siglip2-naflex": _naflex,
    "metaclip_2": _metaclip_2,
    "align": _align,
    "altclip": _altclip,
    "chinese_clip": _chinese_clip,
    "aimv2": _aimv2,
    "tipsv2": _tipsv2,
    "blip": _blip,
}


def write(family: str, folder: Path) -> Path:
    """A folder with a tiny model of a family, or of LLaVA's."""
    torch.manual_seed(0)
    model, processor, tokenizer = (_llava if family == "llava" else MAKERS[family])()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:  # fresh weights are so small that all pictures look alike
                weight.copy_(torch.randn(weight.shape) / weight[0].numel() ** 0.5)
            elif "bias" in name:
                weight.normal_(0, 0.1)
        if family == "align":  # its batch norms would let no signal through
            model.train()
            for _ in range(3):
                model.get_image_features(torch.randn(16, 3, SIDE, SIDE))
            model.eval()
    for part in (model, processor, tokenizer):
        part.save_pretrained(folder)
    return folder


def drawn(model: torch.nn.Module) -> torch.nn.Module:
    """The model with weights that no version of a library chooses: drawn by their names' order."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            scale = 1 / weight[0].numel() ** 0.5 if weight.ndim > 1 else 0.1
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    return model.eval()


def pickscore() -> tuple[Any, Any, Any]:
    """A tiny network of PickScore's kind with weights that no version chooses, its image processor and tokenizer."""
    model, processor, tokenizer = _clip()
    return drawn(model), processor, tokenizer


def blip_matching() -> tuple[Any, Any, Any]:
    """A tiny BLIP that has, as its authors' has, two tokens more than BERT's: one each to decode and to encode."""
    model, processor, tokenizer = _blip()
    model.config.text_config.vocab_size += 2
    return drawn(transformers.BlipForImageTextRetrieval(model.config)), processor, tokenizer


def image_reward(folder: Path) -> Path:
    """A folder with a tiny ImageReward, in its authors' names, with random weights and a tokenizer."""
    tokenizer, wide = _bert_tokenizer(), 64
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    tokenizer.save_pretrained(folder)
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def linear(name: str, inside: int, outside: int) -> None:
        state[f"{name}.weight"] = torch.randn(outside, inside, generator=generator) / inside**0.5
        state[f"{name}.bias"] = torch.randn(outside, generator=generator) / 10

    def norm(name: str) -> None:
        state[f"{name}.weight"] = 1 + torch.randn(wide, generator=generator) / 10
        state[f"{name}.bias"] = torch.randn(wide, generator=generator) / 10

    image, text = "blip.visual_encoder", "blip.text_encoder"
    state[f"{image}.cls_token"] = torch.randn(1, 1, wide, generator=generator)
    state[f"{image}.pos_embed"] = torch.randn(1, 17, wide, generator=generator)
    state[f"{image}.patch_embed.proj.weight"] = torch.randn(wide, 3, 8, 8, generator=generator) / 14
    state[f"{image}.patch_embed.proj.bias"] = torch.randn(wide, generator=generator)
    norm(f"{image}.norm")
    for place in range(2):
        block = f"{image}.blocks.{place}"
        for name, inside, outside in (
            ("attn.qkv", 64, 192),
            ("attn.proj", 64, 64),
            ("mlp.fc1", 64, 96),
            ("mlp.fc2", 96, 64),
        ):
            linear(f"{block}.{name}", inside, outside)
        for name in ("norm1", "norm2"):
            norm(f"{block}.{name}")
    state[f"{text}.embeddings.word_embeddings.weight"] = torch.randn(len(tokenizer), wide, generator=generator)
    state[f"{text}.embeddings.position_embeddings.weight"] = torch.randn(40, wide, generator=generator)
    state[f"{text}.embeddings.position_ids"] = torch.arange(40)[None]
    norm(f"{text}.embeddings.LayerNorm")
    for place in range(2):
        layer = f"{text}.encoder.layer.{place}"
        for attention in ("attention", "crossattention"):
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                linear(f"{layer}.{attention}.{name}", wide, wide)
            norm(f"{layer}.{attention}.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", wide, 96)
        linear(f"{layer}.output.dense", 96, wide)
        norm(f"{layer}.output.LayerNorm")
    linear("blip.vision_proj", wide, 8)
    for name, inside, outside in (("0", wide, 1024), ("2", 1024, 128), ("4", 128, 64), ("6", 64, 16), ("7", 16, 1)):
        linear(f"mlp.layers.{name}", inside, outside)
    torch.save(state, folder / "ImageReward.pt")
    return folder
