"""Layers that take less time on a CPU: convolutions that do what follows them, by oneDNN, and linear ones whose weights
are laid out for MKL.

As it was trained, a network of images writes what a convolution gives, then reads and writes it once more for the
batch norm and again for the activation; and the weights of a linear layer are brought into the order in which the
processor multiplies them at each call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import nn

from features.encoders.mkl import ROWS

if TYPE_CHECKING:
    from torch import Tensor

_MOST_CHANGE = 1e-4  # of the output's length; rounding changes it by some millionths
_POINTWISE: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
}
"""What oneDNN may do to each number that a convolution gives, and how it calls that."""
_NOTHING = ("none", list[float]())


def fuse_convolutions(model: nn.Module, shape_CHW: tuple[int, ...]) -> None:
    """Let each convolution of a model do the batch norm and the activation that follow it.

    model: in float32 and on a CPU, for inference; shape_CHW: of the images that it takes. What follows a convolution is
    found by running it on noise. It stays as it is where oneDNN is not, or if it then gives something else: it may use
    what lies between these layers.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return
    noise_BCHW = torch.randn(1, *shape_CHW, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, followers = _run_watched(model, noise_BCHW)
        replace_alike(model, _fused(followers), expected, lambda: model(noise_BCHW))


def pack_linears(model: nn.Module, run: Callable[[], Tensor]) -> None:
    """Let the linear layers of a model multiply by weights that are laid out for it.

    model: in float32 and on a CPU, for inference; run: something that it gives. Those are packed that this calls, and
    that share their weights with no other layer. All stay as they are where MKL is not, or if it then gives something
    else: it may look at the layers themselves.
    """
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return
    num_layers: Counter[Tensor] = Counter(
        weight for layer in model.modules() for weight in layer.parameters(recurse=False)
    )
    called: set[nn.Module] = set()
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear and num_layers[layer.weight] == 1]
    hooks = [layer.register_forward_pre_hook(lambda layer, _: called.add(layer)) for layer in layers]
    with torch.no_grad():
        expected = run()
        for hook in hooks:
            hook.remove()
        packed: dict[nn.Module, nn.Module] = {layer: _PackedLinear(layer) for layer in layers if layer in called}
        replace_alike(model, packed, expected, run)


def replace_alike(
    model: nn.Module, replaced: Mapping[nn.Module, nn.Module], expected: Tensor, run: Callable[[], Tensor]
) -> None:
    """Replace layers, if the model then gives what is expected."""
    _replace(model, replaced)
    try:
        is_alike = torch.linalg.norm(run() - expected) <= _MOST_CHANGE * torch.linalg.norm(expected)
    except (AttributeError, KeyError):  # it asks layers for more than those give that replace them
        is_alike = False
    if not is_alike:
        _replace(model, {new: old for old, new in replaced.items()})


def _run_watched(model: nn.Module, image_BCHW: Tensor) -> tuple[Tensor, dict[nn.Module, nn.Module]]:
    """The model's output, and of its layers that take what another gave right before them, each by that one; layers
    that are called more than once are left out."""
    followers: dict[nn.Module, nn.Module] = {}
    num_calls: Counter[nn.Module] = Counter()
    last: list[Any] = [None, None, 0]  # layer, its output, and how often that was written into

    def enter(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        num_calls[layer] += 1
        if inputs[0] is last[1] and inputs[0]._version == last[2]:
            followers[last[0]] = layer

    def leave(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        last[:] = layer, output, output._version

    kinds = (nn.Conv2d, nn.BatchNorm2d, *_POINTWISE)
    layers = [layer for layer in model.modules() if isinstance(layer, kinds)]
    hooks = [layer.register_forward_pre_hook(enter) for layer in layers]
    hooks += [layer.register_forward_hook(leave) for layer in layers]
    output: Tensor = model(image_BCHW)
    for hook in hooks:
        hook.remove()
    once = {layer for layer, count in num_calls.items() if count == 1}
    return output, {layer: after for layer, after in followers.items() if {layer, after} <= once}


def _fused(followers: dict[nn.Module, nn.Module]) -> dict[nn.Module, nn.Module]:
    """What is to stand in each layer's place."""
    fused: dict[nn.Module, nn.Module] = {}
    for conv, norm in followers.items():
        if not (_is_plain(conv) and isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None):
            continue
        rest = getattr(norm, "act", nn.Identity())  # timm has norms that activate as well
        after = followers.get(norm)
        if type(rest) is nn.Identity and after is not None and type(after) in _POINTWISE:
            rest, fused[after] = after, nn.Identity()
        activation, left = (rest, nn.Identity()) if type(rest) in _POINTWISE else (nn.Identity(), rest)
        fused[conv], fused[norm] = _FusedConv(conv, norm, activation), left
    return fused


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    return type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _replace(model: nn.Module, replaced: Mapping[nn.Module, nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if child in replaced:
                setattr(parent, name, replaced[child])


class _FusedConv(nn.Module):
    """A convolution, its batch norm and its activation."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, activation: nn.Module) -> None:
        super().__init__()
        whole = nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
        for name, parameter in whole.named_parameters():
            self.register_buffer(name, parameter.detach())
        name, numbers = _POINTWISE.get(type(activation), _NOTHING)
        self.settings = (whole.padding, whole.stride, whole.dilation, whole.groups, name, numbers, None)

    def forward(self, units_BCHW: Tensor) -> Tensor:
        # What torch.compile calls. No other function of torch has the activation in it, and its own convolutions of
        # one by one are not by oneDNN where a single thread works on few images.
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(units_BCHW, self.weight, self.bias, *self.settings)
        return result


class _PackedLinear(nn.Module):
    """A linear layer."""

    weight: Tensor
    packed: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("weight", linear.weight.detach())
        self.register_buffer("packed", torch.ops.mkl._mkl_reorder_linear_weight(self.weight, ROWS))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, units: Tensor) -> Tensor:
        # What torch.compile calls. oneDNN has the like, which takes longer and rounds otherwise than torch's own.
        num_rows = units.numel() // self.in_features
        result: Tensor = torch.ops.mkl._mkl_linear(units, self.packed, self.weight, self.bias, num_rows)
        return result
