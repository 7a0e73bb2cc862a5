"""VQAScore (Lin et al. 2024, arXiv 2404.01291): how sure a vision-language model is that a picture shows a prompt."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from foclip.errors import EncoderError, UsageError
from foclip.models import catalogue, hugging_face
from foclip.models.encoder import Encoder, digest
from foclip.models.processor import SquarePreprocess
from foclip.models.scorer import Inputs, ScoreInfo, Targets
from foclip.models.surroundings import quiet, undisturbed

#: What LLaVA-1.5 reads before a picture and after it: its conversation, and the authors' question.
BEFORE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: "
)
AFTER = '\nDoes this figure show "{}"? Please answer yes or no. ASSISTANT: '
#: The answer whose likelihood is the score, and how many tokens it has: the word, with the space before it, and an end.
ANSWER, ANSWER_TOKENS = "Yes", 2
#: Fills up the shorter of several prompts.
NOTHING = -1


class VQAScore:
    r"""The likelihood of "Yes" as LLaVA-1.5's answer to whether a picture shows a prompt, in [0, 1].

    .. math:: s(x, p) = \sqrt{P(\text{Yes} \mid x, q(p)) \, P(\text{end} \mid x, q(p), \text{Yes})}

    The question q is the authors': Does this figure show "p"? Please answer yes or no. Their paper names the first
    factor alone; their code (t2v_metrics) takes the mean over the answer's tokens, and its end is one of them. Pictures
    are padded to a square with the mean colour, then resized; prompts are read as they are. Needs: --model
    llava-hf/llava-1.5-7b-hf (14 GB; Llama 2 Community License) or another LLaVA-1.5.
    """

    name = "vqascore"
    info = ScoreInfo(name, floor=0.01)

    def __init__(self, name: str, network: Any, processor: Any, tokenizer: Any, device: torch.device) -> None:
        """A frozen `LlavaForConditionalGeneration` with its image processor and tokenizer, and where it is."""
        self.model, self.device, self._tokenizer = name, device, tokenizer
        self.preprocess = SquarePreprocess(processor, device)
        self._network = network.to(device).eval().requires_grad_(False)
        self.parameter_count = sum(p.numel() for p in network.parameters())
        self._before = torch.tensor(self._ids(BEFORE), device=device)
        told = tokenizer.decode(self._after("a cat")[-ANSWER_TOKENS:]).strip()
        if told != ANSWER + tokenizer.eos_token:
            raise EncoderError(f"its tokenizer makes other tokens of the answer than LLaMA's (the last are {told!r})")

    @classmethod
    def load(cls, model: str | Encoder, device: torch.device) -> "VQAScore":
        """The score by the LLaVA-1.5 of this name."""
        if isinstance(model, Encoder) or catalogue.in_transformers(model) is None:
            name = model.name if isinstance(model, Encoder) else model
            raise UsageError(f"{cls.name}: {name} answers no questions; pass --model llava-hf/llava-1.5-7b-hf")
        with hugging_face.explained(model):
            return cls(model, *hugging_face.parts(model, _kind), device)

    def __deepcopy__(self, memo: dict[int, Any]) -> "VQAScore":
        """Itself, since it is frozen: copies of a metric share its weights."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: configuration and weights, since transformers hangs hooks on a network in use."""
        return vars(self) | {"_network": (self._network.config, self._network.state_dict())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        from transformers import LlavaForConditionalGeneration

        config, weights = state["_network"]
        with torch.random.fork_rng():  # which it would be filled from first
            network: Any = LlavaForConditionalGeneration(config)
        network.load_state_dict(weights, assign=True)
        vars(self).update(state | {"_network": network.to(state["device"]).eval().requires_grad_(False)})

    @cached_property
    def fingerprint(self) -> str:
        return digest(
            f"{self.name} {self.preprocess.description} {self.encode_prompts(['a cat']).tolist()}", self._network
        )

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Ids of what is read after the picture, the answer included, (T, length)."""
        if isinstance(prompts, str) or not prompts:
            raise UsageError("texts: give a list of prompts, at least one")
        asked = [self._after(prompt) for prompt in prompts]
        config = self._network.config
        most = config.text_config.max_position_embeddings - len(self._before) - config.image_seq_length
        if (longest := max(map(len, asked))) > most:
            raise UsageError(f"{self.name}: a prompt of {longest} tokens, and {self.model} reads at most {most}")
        length = max(map(len, asked))
        return torch.tensor([ids + [NOTHING] * (length - len(ids)) for ids in asked])

    @undisturbed()
    def __call__(self, pixels: Inputs, targets: Targets) -> Tensor:
        assert isinstance(pixels, Tensor)
        assert isinstance(targets, Tensor)
        seen = self.preprocess.pixels(pixels) if pixels.is_floating_point() else pixels
        inputs = self.preprocess.normalize(seen.to(self.device))
        patches = torch.stack([*self._network.get_image_features(pixel_values=inputs).pooler_output])
        return torch.stack([self._likelihood(patches, ids[ids != NOTHING]) for ids in targets.to(self.device)], dim=1)

    def _likelihood(self, patches: Tensor, ids: Tensor) -> Tensor:
        """Geometric mean (B,) of the probabilities of the answer's tokens, the last of `ids` after the picture."""
        words = self._network.get_input_embeddings()
        before, after = (words(each).expand(len(patches), -1, -1) for each in (self._before, ids))
        read = torch.cat([before, patches, after], dim=1)
        logits = self._network(inputs_embeds=read, use_cache=False, logits_to_keep=ANSWER_TOKENS + 1).logits[:, :-1]
        found = logits.float().log_softmax(dim=-1).gather(-1, ids[-ANSWER_TOKENS:].expand(len(read), -1)[..., None])
        return torch.as_tensor(found.squeeze(-1).mean(dim=1).exp())

    def _after(self, prompt: str) -> list[int]:
        """Ids of what is read after the picture, the answer included; the beginning of a text stands before it."""
        ids = self._ids(AFTER.format(prompt) + ANSWER + self._tokenizer.eos_token)
        return ids[1:] if ids[0] == self._tokenizer.bos_token_id else ids

    def _ids(self, text: str) -> list[int]:
        with quiet():  # which would warn of a long one
            ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids


def _kind(config: dict[str, Any]) -> str:
    """The class of a LLaVA-1.5; an `EncoderError` for any other configuration, to which the question is not put so."""
    kind, words = config.get("model_type"), (config.get("text_config") or {}).get("model_type", "llama")
    if (kind, words) != ("llava", "llama"):
        raise EncoderError(f"no LLaVA-1.5 ({kind or 'no model_type'} over {words}), whose conversation VQAScore is for")
    return "LlavaForConditionalGeneration"
