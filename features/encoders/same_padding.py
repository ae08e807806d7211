"""TensorFlow's padding in timm's networks, for images of one size: built into the convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def build_in_padding(model: nn.Module, image_BCHW: Tensor) -> None:
    """Let the convolutions of a timm model pad what they take as they go, for images of the size of this one.

    TensorFlow's "SAME" may pad one row and column more after an image than before it, which a convolution of torch
    cannot do: timm copies all that it takes into a larger image first. With a first row and column of zeros in the
    kernel, and both sides padded like the second, its sums have the same products.
    """
    from timm.layers import Conv2dSame

    sizes: dict[nn.Module, set[tuple[int, int]]] = {}
    layers = [layer for layer in model.modules() if type(layer) is Conv2dSame and layer.dilation == (1, 1)]
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: sizes.setdefault(layer, set()).add(inputs[0].shape[-2:]))
        for layer in layers
    ]
    model(image_BCHW)
    for hook in hooks:
        hook.remove()
    for name, layer in list(model.named_modules()):
        if len(sizes.get(layer, ())) == 1:
            (size_HW,) = sizes[layer]
            model.set_submodule(name, _padded(layer, size_HW))


def _padded(conv: nn.Conv2d, size_HW: tuple[int, int]) -> nn.Conv2d:
    """The convolution for an input of this size, with its padding as its own."""
    from timm.layers.padding import get_same_padding

    both = [get_same_padding(*axis, 1) for axis in zip(size_HW, conv.kernel_size, conv.stride, strict=True)]
    more_H, more_W = (padding % 2 for padding in both)
    padded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (conv.kernel_size[0] + more_H, conv.kernel_size[1] + more_W),
        (conv.stride[0], conv.stride[1]),
        (both[0] - both[0] // 2, both[1] - both[1] // 2),
        groups=conv.groups,
    )
    padded.weight = nn.Parameter(functional.pad(conv.weight, (more_W, 0, more_H, 0)))
    padded.bias = conv.bias
    return padded.eval()
