"""The preprocessing of transformers' image processors: exact by the processor itself, and the same differentiably.

A processor resizes by torchvision or by Pillow (its backend), and the two differ in a few levels. The backend that it
has on this machine is used, and is part of what scores depend on.
"""

from math import isqrt
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foclip.data.images import MAX_PIXELS
from foclip.errors import EncoderError, ImageError
from foclip.models.preprocess import COLUMNS_FIRST, Preprocess, Resampler

#: Pillow's numbers of the filters that have a differentiable version.
FILTERS = {2: "bilinear", 3: "bicubic"}
#: 8-bit levels by which the differentiable version may differ anywhere: either backend rounds weights its own way.
LEVELS = 3


class ProcessorPreprocess(Preprocess):
    """Resize, centre crop and normalisation of an image processor for RGB pictures.

    Args:
        processor: An image processor of transformers 5 with one size for all pictures; an `EncoderError` says what in
            it has no differentiable version.
        device: Where the encoder computes.
    """

    def __init__(self, processor: Any, device: torch.device | str = "cpu") -> None:
        self._processor, self.backend = processor, str(getattr(processor, "backend", "unknown"))
        kind = type(processor).__name__
        found, crop, resample = (getattr(processor, name, None) for name in ("size", "crop_size", "resample"))
        self._short: int | None = getattr(found, "shortest_edge", None)
        self._whole = _sides(found)
        size = _sides(crop) if getattr(processor, "do_center_crop", None) else self._whole
        kernel = FILTERS.get(int(resample or 0)) if getattr(processor, "do_resize", None) else None
        if (
            kernel is None
            or not all(size)
            or not (self._short or all(self._whole))
            or getattr(found, "longest_edge", None)
        ):
            raise EncoderError(
                f"its {kind} makes no picture of one size by a bilinear or bicubic resize and a centre crop; "
                "use a checkpoint with a fixed resolution"
            )
        self.columns_first = COLUMNS_FIRST and self.backend == "pil"  # torchvision resizes row by row first, always
        # What the processor does with levels is affine, per channel, and is found by asking it.
        flat = (self._run(Image.new("RGB", (size[1], size[0]), (level,) * 3)) for level in (0, 255))
        black, white = (seen[:, seen.shape[1] // 2, seen.shape[2] // 2] for seen in flat)  # not of padding
        std = 1 / (white - black)
        means, deviations = (tuple(round(float(value), 6) for value in each) for each in (-black * std, std))
        super().__init__(size, means, deviations, kernel, "shortest" if self._short else "squash", 0, device)
        self.description = f"{kind} by {self.backend} {self.description} {self._short or self._whole}"
        self._require_match(kind)

    def _run(self, picture: Image.Image) -> Tensor:
        """The encoder's input (3, *size), float64."""
        found = self._processor(images=picture, return_tensors="pt", input_data_format="channels_last")
        return torch.as_tensor(found["pixel_values"])[0].double()

    def image(self, picture: Image.Image) -> Tensor:
        """What the encoder sees of one RGB picture, by the processor itself: uint8 (3, *size)."""
        # It rounds to 8 bits before it normalises, so its levels can be told from what it makes of them.
        mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (self._mean, self._std))
        return ((self._run(picture) * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        if not self._short:
            return self._whole
        short, long = self._short, int(self._short * max(height, width) / min(height, width))
        return (short, long) if height <= width else (long, short)

    def start(self, resized: int, target: int) -> int:
        # Not as open_clip cuts, by half a pixel; for padding the backends differ in which side gets the odd cell.
        return (resized - target) // 2 if self.backend == "pil" else int((resized - target) / 2)

    def _require_match(self, kind: str) -> None:
        """An `EncoderError` unless both versions see the same of pictures that tell filters and crops apart."""
        height, width = self.size
        random = np.random.default_rng(0)
        for shape in ((height + 7, 2 * width + 3), (2 * height + 5, width // 2 + 1)):
            picture = Image.fromarray(random.integers(0, 256, (*shape, 3), dtype=np.uint8))
            exact, pixels = self.image(picture), torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
            seen = self.pixels(pixels.to(self.device))[0].cpu()
            inputs = self.normalize(exact[None].to(self.device))[0].cpu()
            normal = bool((inputs - self._run(picture)).abs().max() < 1e-4)
            if not normal or (seen * 255 - exact).abs().max() > LEVELS:
                raise EncoderError(f"what its {kind} does has no differentiable version here; please report the model")


def _sides(size: Any) -> tuple[int, int]:
    """Height and width of a processor's setting; 0 for what it does not tell."""
    return int(getattr(size, "height", None) or 0), int(getattr(size, "width", None) or 0)


class SquarePreprocess(ProcessorPreprocess):
    """LLaVA's: a picture is padded to a square with the mean colour, in whole levels, before its processor resizes it.

    transformers' own processors do so with `do_pad`, which checkpoints leave out.
    """

    def __init__(self, processor: Any, device: torch.device | str = "cpu") -> None:
        self._colour = tuple(int(255 * mean) for mean in processor.image_mean)
        super().__init__(processor, device)
        self.description = f"padded to a square, {self.description}"

    def _run(self, picture: Image.Image) -> Tensor:
        side, (left, top) = max(picture.size), _before(*picture.size)
        if side**2 > MAX_PIXELS:
            raise ImageError(f"picture: {side}×{side}, its square, is more than {MAX_PIXELS // 10**6} megapixels")
        square = Image.new("RGB", (side, side), self._colour)
        square.paste(picture, (left, top))
        return super()._run(square)

    def pixels(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        side, (left, top) = max(height, width), _before(width, height)
        colour = torch.tensor(self._colour, device=pixels.device) / 255
        square = colour.view(1, 3, 1, 1).expand(len(pixels), 3, side, side).clone()
        square[..., top : top + height, left : left + width] = pixels
        return Resampler(self, side, side).apply(square)

    def region(self, height: int, width: int) -> tuple[slice, slice]:
        return slice(0, height), slice(0, width)

    def resampler(self, height: int, width: int) -> None:  # type: ignore[override]  # a `Preprocessor` may have none
        """None: what the padding adds is no linear map."""


def _before(width: int, height: int) -> tuple[int, int]:
    """Columns and rows of padding before a picture in the middle of a square."""
    return (max(width, height) - width) // 2, (max(width, height) - height) // 2


class NaFlexPreprocess(Preprocess):
    """SigLIP 2's for pictures of any shape: resized to at most so many patches, near the picture's own aspect ratio.

    What it makes of a picture is a tuple: patches (P, 3 · side²), of which the last are empty, and their rows and
    columns (2,). A picture is RGB here; the processor itself takes gray, RGBA and HSV for what they are not.

    Args:
        processor: Siglip2's image processor of transformers 5.
        device: Where the encoder computes.
    """

    def __init__(self, processor: Any, device: torch.device | str = "cpu") -> None:
        self._processor, self.backend = processor, str(processor.backend)
        self.side, self.patches = int(processor.patch_size), int(processor.max_num_patches)
        kernel = FILTERS.get(int(processor.resample))
        if kernel is None or not (processor.do_resize and processor.do_rescale and processor.do_normalize):
            raise EncoderError(f"its {type(processor).__name__} has settings that have no differentiable version here")
        self.columns_first = COLUMNS_FIRST and self.backend == "pil"
        square = self.side * isqrt(self.patches)
        look = (tuple(processor.image_mean), tuple(processor.image_std), kernel)
        super().__init__((square, square), *look, "squash", 0, device)
        self.description = f"{type(processor).__name__} by {self.backend} {self.description} {self.patches}"

    def resized(self, height: int, width: int) -> tuple[int, int]:
        from transformers.models.siglip2.image_processing_siglip2 import get_image_size_for_max_num_patches

        found: tuple[int, int] = get_image_size_for_max_num_patches(height, width, self.side, self.patches)
        return found

    def image(self, picture: Image.Image) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        found = self._processor(images=picture, return_tensors="pt", input_data_format="channels_last")
        patches = torch.as_tensor(found["pixel_values"])[0].double().reshape(self.patches, -1, 3)
        shape = torch.as_tensor(found["spatial_shapes"])[0].long()
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (self._mean, self._std))
        levels = ((patches * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).flatten(-2)
        levels[int(shape.prod()) :] = 0
        return levels, shape

    def pixels(self, pixels: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        size = rows, columns = self.resized(*pixels.shape[-2:])
        squashed = Preprocess(size, resize_mode="squash", interpolation=self._interpolation, device=self.device)
        squashed.columns_first = self.columns_first
        seen = squashed.pixels(pixels)
        shape = torch.tensor([[rows // self.side, columns // self.side]], device=pixels.device).expand(len(pixels), -1)
        patches = seen.reshape(len(seen), 3, rows // self.side, self.side, columns // self.side, self.side)
        patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(1, 2).flatten(2)
        return torch.nn.functional.pad(patches, (0, 0, 0, self.patches - patches.shape[1])), shape

    def normalize(self, pixels: Tensor) -> Tensor:
        """Patches (B, P, 3 · side²) of uint8 or of float in [0, 1], normalised."""
        values = (pixels if pixels.is_floating_point() else pixels.float() / 255).reshape(*pixels.shape[:2], -1, 3)
        return torch.addcmul(self._offset.flatten(), values, self._scale.flatten()).flatten(-2)

    def region(self, height: int, width: int) -> tuple[slice, slice]:
        return slice(0, height), slice(0, width)

    def resampler(self, height: int, width: int) -> None:  # type: ignore[override]  # a `Preprocessor` may have none
        """None: patches in a row are no picture."""
