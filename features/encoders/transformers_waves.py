"""Audio to a sequence of vectors, by any model of transformers that reads waveforms through convolutions, as
wav2vec 2, HuBERT and WavLM do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.encoders.base import Encoder, Media, Prepared
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.waves import pad_to, take_clip, wave_at, window_intervals
from features.encoders.weights import digest_weights, find_folder
from features.errors import EncoderError
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor


def make_waves(model: str, view: View) -> Encoder:
    """Encoder of audio clips: the last hidden state of each frame, with the stretch that its convolutions see."""
    find = partial(find_folder, model, view.encoder)
    read_options(view)
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"audio"}),
        batch_size=1,  # clips have any length, and a padded one would be another clip to these models
        settings={},
        weights_digest=partial(_digest, find, view.encoder),
        modules=("transformers_waves", "waves"),
        libraries=("transformers", "torchaudio"),
        bring=partial(_bring, find),
    )


def _digest(find: Callable[[], Path], encoder: str) -> str:
    return digest_weights(find(), encoder)


def _bring(find: Callable[[], Path], device: str) -> Network:
    from transformers import AutoFeatureExtractor, AutoModel
    from transformers.utils.logging import disable_progress_bar

    folder = find()
    disable_progress_bar()
    try:
        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        model = settle(AutoModel.from_pretrained(folder, local_files_only=True), device)
    except (OSError, ValueError) as error:
        raise EncoderError(f"{folder} holds no audio model that loads: {str(error).splitlines()[0]}") from error
    if not hasattr(model.config, "conv_stride"):
        raise EncoderError(f"{folder} is a {model.config.model_type}: only models that read waveforms are taken")
    kernels, strides = model.config.conv_kernel, model.config.conv_stride
    window, hop = receptive_field(kernels, strides)

    def prepare(media: Media) -> Prepared:
        clip = take_clip(media)
        wave_T = wave_at(clip, extractor.sampling_rate)
        features = extractor(wave_T, sampling_rate=extractor.sampling_rate, return_tensors="np")
        unit_T = pad_to(features["input_values"][0].astype(np.float32), window)
        num_windows = 1 + (len(unit_T) - window) // hop
        times_T2 = window_intervals(clip, num_windows, window=window, hop=hop, rate_hz=extractor.sampling_rate)
        return Prepared([unit_T], times_T2)

    def forward(waves_BT: Tensor) -> Tensor:
        vectors_BTD: Tensor = model(input_values=waves_BT).last_hidden_state
        return vectors_BTD

    return Network(prepare, forward, model.config.hidden_size)


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """How many samples one output of stacked convolutions sees, and how many lie between two outputs."""
    window, hop = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        window += (kernel - 1) * hop
        hop *= stride
    return window, hop
