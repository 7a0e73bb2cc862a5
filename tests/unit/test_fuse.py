"""Batch norms folded into convolutions: the same model, fewer operations."""

import copy

import pytest
import torch
from conftest import Checkpoints
from torch import Tensor, nn

from foclip.models import OpenClipEncoder, load_encoder
from foclip.models.fuse import fuse_batchnorm


class Tower(nn.Module):
    """A dual encoder's half; what its convolution gives is looked at before the norm, too, if asked."""

    def __init__(self, looks_before: bool) -> None:
        super().__init__()
        self.visual = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4)})
        self.looks_before = looks_before

    def encode_image(self, inputs: Tensor) -> Tensor:
        seen = self.visual["conv"](inputs)
        normed: Tensor = self.visual["norm"](seen).relu()
        return (normed + seen if self.looks_before else normed).mean(dim=(2, 3))


def tower(looks_before: bool) -> Tower:
    torch.manual_seed(0)
    found = Tower(looks_before).eval()
    norm = found.visual["norm"]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean, norm.running_var = torch.randn(4), torch.rand(4) + 0.5
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return found.requires_grad_(False)


def test_a_folded_norm_changes_nothing_but_the_work() -> None:
    model, inputs = tower(looks_before=False), torch.rand(2, 3, 9, 9)
    before = copy.deepcopy(model.state_dict())
    quick = fuse_batchnorm(model, inputs[:1])
    assert quick is not model
    calls: list[nn.Module] = []
    for module in quick.modules():
        module.register_forward_hook(lambda module, *_: calls.append(module))
    assert torch.allclose(quick.encode_image(inputs), model.encode_image(inputs), atol=1e-6)  # type: ignore[operator]
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    norm = next(call for call in calls if isinstance(call, nn.BatchNorm2d))
    assert norm(inputs) is inputs  # it passes on what it is given


def test_a_norm_whose_input_is_read_elsewhere_stays() -> None:
    model = tower(looks_before=True)
    assert fuse_batchnorm(model, torch.rand(1, 3, 9, 9)) is model


@pytest.mark.slow
def test_encoders_with_norms_are_folded_and_share_all_other_weights(checkpoints: Checkpoints) -> None:
    for name in ("mini", f"small-RN/{checkpoints['small-RN']}"):
        encoder = load_encoder(name)
        assert isinstance(encoder, OpenClipEncoder)
        torch.manual_seed(0)
        inputs = torch.randn(2, 3, *encoder.image_size, requires_grad=True)
        plain = nn.functional.normalize(encoder.model.encode_image(inputs), dim=-1)
        quick = encoder.tower(inputs)
        assert (plain - quick).abs().max() < 1e-5
        gradients = [torch.autograd.grad(vectors[:, 0].sum(), inputs)[0] for vectors in (plain, quick)]
        assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[0].norm()
        assert any(isinstance(module, nn.BatchNorm2d) for module in encoder.model.visual.modules())
        assert encoder.fingerprint == load_encoder(name).fingerprint
