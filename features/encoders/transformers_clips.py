"""Videos to one vector a clip, by the video models of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from features.encoders.clips import ONE_AFTER_THE_OTHER, prepare_clips, sample_at
from features.encoders.network import Network

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class _Kind:
    """rate_hz: of frames, as in its training; is_first_token: whether a clip's vector is its first token's, as in
    the model's own classifier, and not the mean over all tokens."""

    rate_hz: float
    is_first_token: bool


# Video at 30 Hz, of which they were trained on every 4th, every 32nd and every 2nd frame.
_KINDS = {"videomae": _Kind(7.5, False), "timesformer": _Kind(30 / 32, True), "vivit": _Kind(15.0, True)}


def is_of_clips(model_type: str) -> bool:
    """Whether models of this type, by their configuration, take clips."""
    return model_type in _KINDS


def clip_network(
    model: nn.Module, processor: Any, *, rate_hz: float | None = None, hop_s: float = ONE_AFTER_THE_OTHER
) -> Network:
    """The model behind its own processor; its configuration says how many frames a clip has."""
    config: Any = model.config
    kind = _KINDS[config.model_type]
    sampling = sample_at(config.num_frames, rate_hz or kind.rate_hz, hop_s)

    def shape(image: Image.Image) -> np.ndarray:
        return np.asarray(processor([image], return_tensors="pt")["pixel_values"][0][0], np.float32)

    def forward(clips_BFCHW: Tensor) -> Tensor:
        tokens_BTD: Tensor = model(pixel_values=clips_BFCHW).last_hidden_state
        return tokens_BTD[:, 0] if kind.is_first_token else tokens_BTD.mean(dim=1)

    return Network(partial(prepare_clips, shape, sampling), forward, config.hidden_size, model)
