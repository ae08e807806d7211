"""Images to one vector each, by any vision model of transformers that the user has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from features.encoders.base import Encoder
from features.encoders.images import prepare_images
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.weights import digest_weights, find_folder
from features.errors import EncoderError
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor


def make_images(model: str, view: View) -> Encoder:
    """Encoder of images and frames: the model's pooled output, or where it has none the mean over its patches."""
    find = partial(find_folder, model, view.encoder)
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"image", "video"}),
        batch_size=read_options(view, batch_size=8)["batch_size"],
        settings={},
        weights_digest=partial(_digest, find, view.encoder),
        modules=("transformers_images", "images"),
        libraries=("transformers", "torchvision", "pillow"),
        bring=partial(_bring, find),
    )


def _digest(find: Callable[[], Path], encoder: str) -> str:
    return digest_weights(find(), encoder)


def _bring(find: Callable[[], Path], device: str) -> Network:
    import torch
    from transformers import AutoImageProcessor, AutoModel
    from transformers.utils.logging import disable_progress_bar

    folder = find()
    disable_progress_bar()
    try:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        model = settle(AutoModel.from_pretrained(folder, local_files_only=True), device)
    except (OSError, ValueError) as error:
        raise EncoderError(f"{folder} holds no vision model that loads: {str(error).splitlines()[0]}") from error

    def shape(image: Image.Image) -> np.ndarray:
        return np.asarray(processor(image, return_tensors="pt")["pixel_values"][0], np.float32)

    def forward(pixels_BCHW: Tensor) -> Tensor:
        output = model(pixel_values=pixels_BCHW)
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        return output.last_hidden_state.mean(dim=1) if pooled is None else pooled.flatten(1)

    probe = torch.from_numpy(shape(Image.new("RGB", (8, 8))))[None].to(device)
    with torch.inference_mode():
        dim = forward(probe).shape[-1]
    return Network(partial(prepare_images, shape), forward, dim)
