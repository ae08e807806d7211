"""Images to one vector each, or videos to one a clip, by any vision model of transformers that the user has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from features.encoders.base import Encoder
from features.encoders.images import prepare_images
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.transformers_clips import clip_network, is_of_clips
from features.encoders.weights import digest_weights, find_folder, loading, local_folder, read_settings
from features.errors import EncoderError
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor, nn

_OWN = 0.0  # of the options rate_hz and hop_s: that of the model
_ABOUT = {"dim": "hidden_size", "size_px": "image_size", "frames": "num_frames"}


def make_images(model: str, view: View) -> Encoder:
    """Encoder of images and frames, or if the model is one of videos, of clips: which one it is, its folder says.

    An image's vector is the model's pooled output; that of a model without one is the mean over its patches. A model
    of images and texts gives that of its image side, in the space of both.
    """
    find = partial(find_folder, model, view.encoder)
    sampling = {"rate_hz": _OWN, "hop_s": _OWN} if view.input == "video" else {}
    options = read_options(view, batch_size=8, **sampling)
    asked = {name: float(options[name]) for name in sampling if options[name] != _OWN}
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"image", "video"}),
        batch_size=options["batch_size"],
        settings=asked,
        weights_digest=partial(_digest, find, view.encoder),
        modules=("transformers_images",),
        libraries=("transformers", "torchvision", "pillow"),
        bring=partial(_bring, find, view.input, asked),
        about=_about(model),
    )


def _digest(find: Callable[[], Path], encoder: str) -> str:
    return digest_weights(find(), encoder)


def _about(name: str) -> dict[str, Any]:
    folder = local_folder(name)
    config = {} if folder is None else read_settings(folder / "config.json")
    return {what: config[key] for what, key in _ABOUT.items() if isinstance(config.get(key), int)}


def _bring(find: Callable[[], Path], modality: str, sampling: dict[str, float], device: str) -> Network:
    from transformers import AutoImageProcessor
    from transformers.utils.logging import disable_progress_bar

    folder = find()
    disable_progress_bar()
    with loading(folder, "vision model"):
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        model, has_pooler = _load(folder)
    settle(model, device)
    config: Any = model.config
    kind = str(config.model_type)
    if is_of_clips(kind) and modality != "video":
        raise EncoderError(f"{folder} is a {kind}, which takes videos, not {modality}: change the view's input")
    if is_of_clips(kind):
        return clip_network(model, processor, **sampling)
    if sampling:
        raise EncoderError(f"{folder} is a {kind}, which takes single frames: leave out {' and '.join(sampling)}")
    return _frame_network(model, processor, has_pooler, device)


def _load(folder: Path) -> tuple[nn.Module, bool]:
    """The model, and whether its pooler came with weights: those of many classifiers have none, and a random one
    would be made up. Raises EncoderError if weights of anything else are missing."""
    from transformers import AutoModel

    model, report = AutoModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    missing = sorted(report["missing_keys"])
    if lost := [name for name in missing if not name.startswith("pooler.")]:
        raise EncoderError(f"{folder} lacks weights of {lost[0]} ({len(lost)} in all): save the whole model there")
    return model, not missing


def _frame_network(model: nn.Module, processor: Any, has_pooler: bool, device: str) -> Network:
    import torch

    def shape(image: Image.Image) -> np.ndarray:
        return np.asarray(processor(image, return_tensors="pt")["pixel_values"][0], np.float32)

    see = _whole_sight(model)

    def forward(pixels_BCHW: Tensor) -> Tensor:
        output = see(pixel_values=pixels_BCHW)
        if not has_pooler:  # what classifiers without one look at
            first: Tensor = output.last_hidden_state[:, 0]
            return first
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        hidden: Tensor = output.last_hidden_state  # [image, patch, dim] or [image, dim, row, column]
        return hidden.mean(dim=1) if hidden.ndim == 3 else hidden.flatten(2).mean(dim=2)

    probe = torch.from_numpy(shape(Image.new("RGB", (8, 8))))[None].to(device)
    with torch.inference_mode():
        dim = forward(probe).shape[-1]
    return Network(partial(prepare_images, shape), forward, dim, model)


def _whole_sight(model: Any) -> Callable[..., Any]:
    """What gives the model's output for pixel_values alone, and for all of them."""
    import torch

    if hasattr(model, "get_image_features") and hasattr(model, "get_text_features"):
        return cast(Callable[..., Any], model.get_image_features)
    if model.config.model_type != "vit_mae":
        return cast(Callable[..., Any], model)
    model.config.mask_ratio = 0.0  # else it hides three quarters of an image, others each time
    num_patches = model.embeddings.patch_embeddings.num_patches

    def see_all(pixel_values: Tensor) -> Any:
        order_BT = torch.arange(num_patches, device=pixel_values.device).expand(len(pixel_values), -1)
        return model(pixel_values=pixel_values, noise=order_BT)  # by which it would sort them

    return see_all
