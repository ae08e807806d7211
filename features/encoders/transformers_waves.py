"""Audio to a sequence of vectors, by any model of transformers that reads waveforms through convolutions, as
wav2vec 2, HuBERT and WavLM do, and by Whisper's encoder."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.encoders.base import Encoder
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.transformers_audio import LAST, about_audio, check_layer, load_model, output_of_layer
from features.encoders.waves import prepare_windows, receptive_field
from features.encoders.weights import digest_weights, find_folder, loading, local_folder
from features.encoders.whisper import whisper_network
from features.errors import EncoderError
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor


def make_waves(model: str, view: View) -> Encoder:
    """Encoder of audio clips: each frame's output of a layer of the transformer, counted from 1, by default the last
    hidden state, with the stretch that its convolutions see. Raises EncoderError if the model has no such layer."""
    find = partial(find_folder, model, view.encoder)
    layer = read_options(view, layer=LAST)["layer"]
    check_layer(layer, view, local_folder(model))
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"audio"}),
        batch_size=1,  # clips have any length, and a padded one would be another clip to these models
        settings={"layer": layer},
        weights_digest=partial(_digest, find, view.encoder),
        modules=("transformers_waves",),
        libraries=("transformers", "torchaudio"),
        bring=partial(_bring, find, layer, view),
        about=about_audio(model),
    )


def _digest(find: Callable[[], Path], encoder: str) -> str:
    return digest_weights(find(), encoder)


def _bring(find: Callable[[], Path], layer: int, view: View, device: str) -> Network:
    from transformers import AutoFeatureExtractor

    folder = find()
    check_layer(layer, view, folder)  # what the name meant was perhaps not here before
    with loading(folder, "audio model"):
        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        model = load_model(folder)
    kind = model.config.model_type
    if kind == "whisper":
        return whisper_network(model.get_encoder(), extractor, layer, device)
    if kind == "clap":
        raise EncoderError(f"{folder} is a clap: write clap:{folder}")
    if not hasattr(model.config, "conv_stride"):
        raise EncoderError(f"{folder} is a {kind}: only Whisper and models that read waveforms are taken")
    _check_rate(model.config, layer, folder)
    return _wave_network(model, extractor, layer, device)


def _check_rate(config: Any, layer: int, folder: Path) -> None:
    """Raise EncoderError if the layer's vectors are fewer than the stretches that the convolutions see."""
    if layer == LAST and getattr(config, "add_adapter", False):
        last = config.num_hidden_layers
        raise EncoderError(
            f"{folder} ends in an adapter, behind which vectors have no stretch of sound each: write 'layer: {last}' "
            "in the view's options, the layer before it"
        )
    if layer != LAST and getattr(config, "squeeze_factor", 1) > 1:
        raise EncoderError(
            f"{folder} is a {config.model_type}, whose layers see fewer frames than it gives: leave out the option "
            "'layer'"
        )


def _wave_network(model: Any, extractor: Any, layer: int, device: str) -> Network:
    settle(model, device)
    for part in model.modules():
        if hasattr(part, "cached_rotary_positional_embedding"):
            part.forward = partial(_forward_afresh, part)
    rate_hz = extractor.sampling_rate
    window, hop = receptive_field(model.config.conv_kernel, model.config.conv_stride)

    def normalise(wave_T: np.ndarray) -> np.ndarray:
        features = extractor(wave_T, sampling_rate=rate_hz, return_tensors="np")
        return np.asarray(features["input_values"][0], np.float32)

    def forward(waves_BT: Tensor) -> Tensor:
        return output_of_layer(model, layer, input_values=waves_BT)

    prepare = partial(prepare_windows, rate_hz=rate_hz, window=window, hop=hop, adjust=normalise)
    return Network(prepare, forward, model.config.hidden_size, model)


def _forward_afresh(part: Any, *inputs: Any) -> Any:
    """What the part of a model gives that would keep the positions of a clip, which may be another thread's."""
    fresh = copy(part)
    fresh.cached_sequence_length = None
    return type(part).forward(fresh, *inputs)
