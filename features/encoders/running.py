"""How a network is run: options that every encoder with a network has, and that change its vectors a little."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from features.encoders.memory import is_out_of_memory
from features.errors import EncoderError
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor, memory_format, nn

PRECISIONS = ("float32", "bfloat16", "float16", "int8")
_SHOWN_CHARS = 200  # of what a library says went wrong
_OPTIONS = ("precision", "compile", "channels_last")
_DEVICES = {"float16": "cuda", "int8": "cpu"}  # where a precision is for one kind of device alone


@dataclass(frozen=True)
class Running:
    """precision: of the network's products. bfloat16 and float16 by torch's autocast, which keeps what needs it in
    float32; int8 by its dynamic quantisation of linear layers. compile: whether torch.compile makes kernels of it
    first, which takes up to a minute and a C++ compiler: for all shapes of batches or, of images, for the one.
    channels_last: whether a network of images has the channels last in memory, the layout that convolutions are
    fastest in; others have no such layout."""

    precision: str = "float32"
    compile: bool = False
    channels_last: bool = True

    @property
    def is_plain(self) -> bool:
        return self == Running()

    def definition(self) -> dict[str, Any]:
        """What of it decides the vectors, and why bytes may differ; nothing where it is as ever."""
        if self.is_plain:
            return {}
        reasons = []
        if self.precision == "int8":
            reasons.append("8-bit activations are scaled a batch at a time, so a row depends a little on its company")
        if self.compile:
            reasons.append("torch.compile makes kernels for the machine that it runs on")
        return {"running": asdict(self), **({"nondeterministic": "; ".join(reasons)} if reasons else {})}

    def apply(
        self,
        forward: Callable[[Tensor], Tensor],
        model: nn.Module | None,
        device: str,
        *,
        image_CHW: tuple[int, ...] | None = None,
        probe: Tensor | None = None,
    ) -> Callable[..., Tensor]:
        """The forward function of a model, run this way on the device. image_CHW, probe: see Network."""
        import torch

        if not (self.channels_last or image_CHW):
            raise EncoderError("option 'channels_last' is for networks of images by timm and torchvision: remove it")
        if self.precision == "int8":
            _quantise(model)
        # torch.compile lays out and fuses layers by itself.
        is_plain_on_cpu = device == "cpu" and self.precision == "float32" and not self.compile
        if probe is not None and model is not None and is_plain_on_cpu:
            from features.encoders.bert import shorten_layers
            from features.encoders.fusing import pack_linears

            shorten_layers(model, lambda: forward(probe))
            pack_linears(model, lambda: forward(probe))
        if image_CHW and model is not None:
            if is_plain_on_cpu:
                from features.encoders.fusing import fuse_convolutions

                fuse_convolutions(model, image_CHW)
            _lay_out(model, torch.channels_last if self.channels_last else torch.contiguous_format)
        if self.compile:
            forward = _compiled(forward, is_of_images=image_CHW is not None)
        if self.precision not in ("bfloat16", "float16"):
            return forward
        dtype = getattr(torch, self.precision)
        kind = device.partition(":")[0]

        def cast(units: Tensor) -> Tensor:
            with torch.autocast(kind, dtype=dtype):  # which in inference mode keeps no weights that it cast
                return forward(units)

        return cast


def _compiled(forward: Callable[[Tensor], Tensor], *, is_of_images: bool) -> Callable[[Tensor], Tensor]:
    """The function by kernels that torch makes when it is first called.

    Images have one shape. Of other inputs it would make some for each shape, and after eight no more without a word:
    so they are for all shapes. Nor are copies on several GPUs counted together.
    """
    import torch

    compiled: Callable[[Tensor], Tensor] = torch.compile(  # type: ignore[call-overload]  # torch declares no isolate_recompiles
        forward, dynamic=not is_of_images, isolate_recompiles=True
    )

    def run(units: Tensor) -> Tensor:
        try:
            return compiled(units)
        except torch._dynamo.exc.TorchDynamoException as error:
            if is_out_of_memory(error):
                raise
            said = " ".join(str(error).split())[:_SHOWN_CHARS]
            raise EncoderError(
                f"torch.compile makes no kernels for this network: {said}: take the option compile away, or give it "
                "the compiler that it needs"
            ) from error

    return run


def _lay_out(model: nn.Module, layout: memory_format) -> None:
    """Let a network of images have its weights, and get its images, in this layout."""
    model.to(memory_format=layout)
    model.register_forward_pre_hook(lambda _, images: (images[0].contiguous(memory_format=layout),))


def _quantise(model: nn.Module | None) -> None:
    """Replace the model's linear layers by ones of 8-bit weights; activations are scaled batch by batch."""
    import torch

    if model is None or not any(isinstance(layer, torch.nn.Linear) for layer in model.modules()):
        raise EncoderError(
            "precision 'int8' needs a network with linear layers, and this one has none: choose 'bfloat16' or 'float32'"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would have users of torchao instead; its releases are pinned here
        quantisation = torch.ao.quantization
        # A scale for each row of the weights: with one for all of them a small BERT ends at a cosine of 0.9.
        layers = {torch.nn.Linear: quantisation.per_channel_dynamic_qconfig}
        quantisation.quantize_dynamic(model, layers, inplace=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped


def take_running(view: View) -> tuple[View, Running]:
    """The view without the options of this module, and these. Raises EncoderError for a wrong value."""
    given = {name: value for name, value in view.options.items() if name in _OPTIONS}
    running = Running(**given)
    where = f"view {view.name!r}: option"
    if running.precision not in PRECISIONS:
        raise EncoderError(f"{where} 'precision' is {running.precision!r}; it must be one of {', '.join(PRECISIONS)}")
    for name in ("compile", "channels_last"):
        if not isinstance(getattr(running, name), bool):
            raise EncoderError(f"{where} {name!r} is {getattr(running, name)!r}; it must be true or false")
    rest = {name: value for name, value in view.options.items() if name not in given}
    return replace(view, options=rest), running


def check_device(view: View, device: str) -> None:
    """Raise EncoderError if the view's precision is unknown or not for the device."""
    precision = take_running(view)[1].precision
    wanted = _DEVICES.get(precision, device)
    if wanted != device:
        raise EncoderError(
            f"view {view.name!r}: precision {precision!r} is for {wanted!r}, and embed.device is {device!r} here: "
            "choose 'bfloat16' or 'float32'"
        )
