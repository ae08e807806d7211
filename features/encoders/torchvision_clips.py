"""Videos to one vector a clip, by any classifier of videos in torchvision, up to its last layer."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from features.encoders.base import Encoder
from features.encoders.clips import ONE_AFTER_THE_OTHER, Sampling, prepare_clips, sample_at
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.torchvision_weights import Listed, look_up
from features.errors import EncoderError
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor

# Frames of a clip and their rate, where torchvision measured the accuracy of its weights.
_EVALUATED_WITH = {"mvit": (16, 7.5), "s3d": (128, 15.0), "swin3d": (32, 15.0)}
_OTHERS_WITH = (16, 15.0)
_OF_FIXED_LENGTH = "mvit"  # it has an embedding for each place in a clip


def make_clips(model: str, view: View) -> Encoder:
    """Encoder of clips, shaped by the transform that torchvision lists with the weights."""
    frames, rate_hz = _EVALUATED_WITH.get(model.partition("_")[0], _OTHERS_WITH)
    options = read_options(view, batch_size=1, weights="", frames=frames, rate_hz=rate_hz, hop_s=ONE_AFTER_THE_OTHER)
    listed = look_up(model, view.encoder, file=options["weights"], of_videos=True)
    sampling = sample_at(options["frames"], options["rate_hz"], options["hop_s"])
    _check_frames(listed, sampling.frames)
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"video"}),
        batch_size=options["batch_size"],
        settings={"entry": listed.entry, **asdict(sampling)},
        weights_digest=listed.digest,
        modules=("torchvision_clips",),
        libraries=("torchvision", "pillow"),
        bring=partial(_bring, listed, sampling),
        about={"size_px": listed.weights.transforms().crop_size[0], "frames": sampling.frames},
    )


def _check_frames(listed: Listed, frames: int) -> None:
    least = listed.weights.meta.get("min_temporal_size", 1)
    is_fixed = listed.model.startswith(_OF_FIXED_LENGTH)
    if frames < least or (is_fixed and frames != least):
        rule = f"exactly {least}" if is_fixed else f"at least {least}"
        raise EncoderError(f"encoder {listed.encoder!r}: option 'frames' is {frames}; it takes clips of {rule}")


def _bring(listed: Listed, sampling: Sampling, device: str) -> Network:
    from torchvision.transforms.functional import pil_to_tensor

    body, dim = listed.bring_body()
    transform = listed.weights.transforms()
    settle(body, device)

    def shape(image: Image.Image) -> np.ndarray:
        # The transform takes clips [frame, channel, height, width] and gives [channel, frame, height, width].
        pixels_CHW: np.ndarray = transform(pil_to_tensor(image)[None])[:, 0].numpy()
        return pixels_CHW

    def forward(clips_BFCHW: Tensor) -> Tensor:
        vectors_BD: Tensor = body(clips_BFCHW.transpose(1, 2))
        return vectors_BD

    return Network(partial(prepare_clips, shape, sampling), forward, dim, body)
