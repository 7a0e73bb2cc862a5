"""An encoder's preprocessing: exact, as its authors ship it, on PIL pictures; and on pixels, differentiably.

open_clip prepares PIL pictures with torchvision: Pillow's antialiased resize, a centre crop, normalisation.
`Preprocess.image` is that; `Preprocess.pixels` does the same on tensors (`foclip.models.resize`).
"""

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, ToTensor
from torchvision.transforms.functional import normalize

from foclip.data.images import to_tensor
from foclip.models.resampler import Resampler
from foclip.models.resize import Resize

#: Means and standard deviations of OpenAI's CLIP, per channel.
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Preprocess(Resize):
    """An encoder's resize, crop and normalisation, as open_clip does them: exact on PIL pictures, and on pixels.

    Args:
        size: (height, width) of the encoder's input.
        mean: Mean per channel, in [0, 1].
        std: Standard deviation per channel.
        interpolation: "bicubic" or "bilinear".
        resize_mode: "shortest" (short side to size, cut the rest), "longest"
            (long side to size, pad the rest) or "squash" (ignore the aspect ratio).
        fill_color: Value of padding, 0..255.
        device: Where the encoder computes.

    Attributes:
        size: (height, width) of the encoder's input.
        description: All of this as text.
    """

    def __init__(
        self,
        size: tuple[int, int],
        mean: tuple[float, ...] = CLIP_MEAN,
        std: tuple[float, ...] = CLIP_STD,
        interpolation: str = "bicubic",
        resize_mode: str = "shortest",
        fill_color: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(size, interpolation, resize_mode, fill_color, device)
        self.description = repr((size, tuple(mean), tuple(std), interpolation, resize_mode, fill_color))
        mean_, std_ = (torch.tensor(values, device=self.device).view(1, 3, 1, 1) for values in (mean, std))
        self._scale, self._offset = 1 / std_, -mean_ / std_

        # Here, since `import foclip.metrics` must stay light: open_clip loads transformers and jinja2.
        from open_clip.transform import PreprocessCfg, image_transform_v2

        config = PreprocessCfg(size, "RGB", mean, std, interpolation, resize_mode, fill_color)
        steps = image_transform_v2(config, is_train=False).transforms
        to_tensor_step = next(i for i, step in enumerate(steps) if isinstance(step, ToTensor))
        self._resize, self._normalize = Compose(steps[:to_tensor_step]), steps[-1]  # a `Normalize`

    def image(self, picture: Image.Image) -> Tensor:
        """What the encoder sees of one RGB picture, by open_clip's own resize and crop: uint8 (3, *size)."""
        if picture.size == (self.size[1], self.size[0]):
            return to_tensor(picture)
        return to_tensor(self._resize(picture))

    def normalize(self, pixels: Tensor) -> Tensor:
        """The encoder's input (B, 3, *size), float32.

        Args:
            pixels: uint8 as `image` gives it, normalised by torchvision's own operations; or float in [0, 1] as
                `pixels` gives it, in one operation, whose rounding may differ in the last bit.
        """
        if pixels.is_floating_point():
            return torch.addcmul(self._offset, pixels, self._scale)
        inputs = pixels.float().div_(255)  # fresh, so the rest is done in place: a copy costs a large part of it
        return torch.as_tensor(normalize(inputs, self._normalize.mean, self._normalize.std, inplace=True))

    def resampler(self, height: int, width: int) -> Resampler:
        """Resize and crop of pictures of height × width as a linear map."""
        return Resampler(self, height, width)
