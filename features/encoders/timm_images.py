"""Images to one vector each, by any timm model the user has."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.encoders.base import Encoder
from features.encoders.images import prepare_images
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.weights import digest_weights, find_folder, find_weights_file, loading, read_state
from features.errors import EncoderError
from features.view import View

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor, nn

_OWN_SIZE = 0  # of the option size_px: the size that the model was trained with


def make_timm(model: str, view: View) -> Encoder:
    """Encoder by a timm name with the option weights, a timm or hub name, or a folder saved for timm."""
    options = read_options(view, size_px=_OWN_SIZE, batch_size=8, weights="")
    is_folder = "/" in model
    if not is_folder:
        _check_name(model, view.encoder)
    about = {"size_px": options["size_px"]} if options["size_px"] != _OWN_SIZE else {}
    if options["weights"]:
        find = partial(find_weights_file, options["weights"], view.encoder)
    elif is_folder:
        find = partial(find_folder, model, view.encoder)
    else:
        config = _hub_config(model, view.encoder)
        find = partial(find_folder, _hub_name(config), view.encoder)
        about = {"size_px": config.input_size[-1], **about}
    return image_encoder(
        view,
        batch_size=options["batch_size"],
        size_px=options["size_px"],
        bring=partial(_bring, find, model, options["size_px"]),
        weights_digest=partial(_digest, find, view.encoder),
        about=about,
    )


def _check_name(model: str, encoder: str) -> None:
    """Raise EncoderError unless timm has the model. Importing it takes seconds, so its sources are asked first."""
    name = model.partition(".")[0]
    spec = find_spec("timm")
    sources = Path(spec.origin).parent.glob("models/*.py") if spec and spec.origin else iter(())
    if any(f"\n@register_model\ndef {name}(" in path.read_text(encoding="utf-8") for path in sources):
        return
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(model, timm.list_models(), n=1, cutoff=0.0)[0]
        raise EncoderError(f"encoder {encoder!r} is no timm model: did you mean 'timm:{near}'?")


def _hub_config(model: str, encoder: str) -> Any:
    import timm

    config = timm.get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        raise EncoderError(f"encoder {encoder!r}: timm knows no weights for it; name a file with the option weights")
    return config


def _hub_name(config: Any) -> str:
    known = str(config.hf_hub_id)
    return f"{known}{config.architecture}.{config.tag}" if known.endswith("/") else known


def _digest(find: Callable[[], Path], encoder: str) -> str:
    return digest_weights(find(), encoder)


def image_encoder(
    view: View,
    *,
    batch_size: int,
    size_px: int,
    bring: Callable[[str], Network],
    weights_digest: Callable[[], str],
    about: dict[str, Any],
    modules: tuple[str, ...] = (),
) -> Encoder:
    """The encoder of an image or video view by a timm model; modules: those that compute it beside this one."""
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"image", "video"}),
        batch_size=batch_size,
        settings={"size_px": size_px},
        weights_digest=weights_digest,
        modules=("timm_images", "images", *modules),
        libraries=("timm", "torchvision", "pillow"),
        bring=bring,
        about=about,
    )


def _bring(find: Callable[[], Path], name: str, size_px: int, device: str) -> Network:
    import timm

    path = find()
    with loading(path, "timm model"):
        model = timm.create_model(name if path.is_file() else f"local-dir:{path}", pretrained=False, num_classes=0)
    _load_body(model, path if path.is_file() else _weights_in(path))
    if size_px != _OWN_SIZE and model.pretrained_cfg.get("fixed_input_size"):
        model.set_input_size(img_size=size_px)
    return image_network(model, size_px, device)


def _weights_in(folder: Path) -> Path:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise EncoderError(f"{folder} holds neither model.safetensors nor pytorch_model.bin: save a timm model there")


def _load_body(model: nn.Module, path: Path) -> None:
    """Load all weights but the classifier's. Raises EncoderError if any is missing or does not fit."""
    from torch import nn

    # Without classes timm puts an identity where the classifier was.
    heads = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, nn.Identity))
    state = {name: tensor for name, tensor in read_state(path).items() if not name.startswith(heads)}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(f"{path} does not fit: {reason}; give weights saved from this very timm model") from error


def image_network(model: nn.Module, size_px: int, device: str) -> Network:
    """The model behind timm's own evaluation transform at the size; size_px 0 is the model's own size.

    A unit is uint8 [height, width, channel], of which scale_pixels makes the transform's numbers a batch at a time.
    """
    import torch
    from timm.data import create_transform, resolve_model_data_config

    from features.encoders.same_padding import build_in_padding

    config = resolve_model_data_config(model, args={} if size_px == _OWN_SIZE else {"img_size": size_px})
    transform = create_transform(**config, use_prefetcher=True)  # for those who scale pixels themselves
    mean_C, std_C = (torch.tensor(config[name], device=device) for name in ("mean", "std"))
    settle(model, device)
    image_BCHW = torch.zeros(1, *config["input_size"], device=device)
    with torch.no_grad():
        if device == "cpu":
            build_in_padding(model, image_BCHW)
        dim = model(image_BCHW).shape[-1]

    def shape(image: Image) -> np.ndarray:
        pixels_HWC: np.ndarray = transform(image).permute(1, 2, 0).numpy()
        return pixels_HWC

    def forward(pixels_BHWC: Tensor) -> Tensor:
        vectors_BD: Tensor = model(scale_pixels(pixels_BHWC, mean_C, std_C))
        return vectors_BD

    return Network(partial(prepare_images, shape), forward, dim, model, image_CHW=config["input_size"])


def scale_pixels(pixels_BHWC: Tensor, mean_C: Tensor, std_C: Tensor) -> Tensor:
    """uint8 pixels as networks take them: float32 [image, channel, height, width], the channels last in memory.

    It is what torchvision's ToTensor and Normalize give one after the other, to the last bit.
    """
    width = pixels_BHWC.shape[2]
    rows_BHX = pixels_BHWC.float().div_(255).flatten(2)  # by whole rows, as three numbers at a time take thrice as long
    rows_BHX.sub_(mean_C.repeat(width)).div_(std_C.repeat(width))
    return rows_BHX.view(pixels_BHWC.shape).permute(0, 3, 1, 2)
