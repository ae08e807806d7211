"""Audio to a sequence of vectors, by the models of torchaudio's pipelines that read waveforms: wav2vec 2, HuBERT, WavLM
and those fine-tuned from them."""

from __future__ import annotations

import difflib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.encoders.base import Encoder
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.waves import prepare_windows, receptive_field
from features.encoders.weights import digest_weights, find_url, find_weights_file, read_state
from features.errors import EncoderError
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor

_LAST = 0  # of the option layer
_WHERE = "https://download.pytorch.org/torchaudio/models"  # most pipelines say no more than the rest of the address


def make_waves(model: str, view: View) -> Encoder:
    """Encoder of audio clips: each frame's output of a layer of the transformer, counted from 1, by default the last;
    what extract_features of the pipeline's model gives.

    The weights are those of the option weights, a file with the model's state dict, or else those that torchaudio
    keeps in its cache. Raises EncoderError if torchaudio has no such pipeline or layer.
    """
    options = read_options(view, layer=_LAST, weights="")
    bundle = _find_bundle(model, view.encoder)
    num_layers = bundle._params["encoder_num_layers"]
    if options["layer"] > num_layers:
        raise EncoderError(
            f"view {view.name!r}: option 'layer' of encoder {view.encoder!r} is {options['layer']}; "
            f"it must be at most {num_layers}"
        )
    layer = options["layer"] or num_layers
    _, hop = _windows(bundle)
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"audio"}),
        batch_size=1,  # clips have any length, and a padded one would be another clip to these models
        settings={"layer": layer},
        weights_digest=partial(_digest, model, options["weights"], view.encoder),
        modules=("torchaudio_waves",),
        libraries=("torchaudio",),
        bring=partial(_bring, model, options["weights"], view.encoder, layer),
        about={
            "rate_hz": bundle.sample_rate,
            "dim": bundle._params["encoder_embed_dim"],
            "vectors_hz": bundle.sample_rate / hop,
        },
    )


def _find_bundle(name: str, encoder: str) -> Any:
    """torchaudio's description of a pipeline: which model with which sizes; its weights stay where they are."""
    import torchaudio

    pipelines = vars(torchaudio.pipelines)
    known = [key for key, value in pipelines.items() if isinstance(value, torchaudio.pipelines.Wav2Vec2Bundle)]
    if name not in known:
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)[0]
        raise EncoderError(
            f"encoder {encoder!r} is no pipeline of torchaudio that encodes speech: did you mean 'torchaudio:{near}'? "
            f"Known: {', '.join(known)}"
        )
    return pipelines[name]


def _windows(bundle: Any) -> tuple[int, int]:
    convolutions = bundle._params["extractor_conv_layer_config"]
    _, kernels, strides = zip(*convolutions, strict=True)
    return receptive_field(kernels, strides)


def _find_weights(name: str, weights: str, encoder: str) -> Path:
    if weights:
        return find_weights_file(weights, encoder)
    path = _find_bundle(name, encoder)._path
    return find_url(path if path.startswith("https:") else f"{_WHERE}/{path}", encoder)


def _digest(name: str, weights: str, encoder: str) -> str:
    return digest_weights(_find_weights(name, weights, encoder), encoder)


def _bring(name: str, weights: str, encoder: str, layer: int, device: str) -> Network:
    import torch

    bundle = _find_bundle(name, encoder)
    model = settle(_load(bundle, _find_weights(name, weights, encoder)), device)
    window, hop = _windows(bundle)

    def forward(waves_BT: Tensor) -> Tensor:
        if bundle._normalize_waveform:
            waves_BT = torch.nn.functional.layer_norm(waves_BT, waves_BT.shape[-1:])
        layers_BTD: list[Tensor] = model.extract_features(waves_BT, num_layers=layer)[0]
        return layers_BTD[-1]

    prepare = partial(prepare_windows, rate_hz=int(bundle.sample_rate), window=window, hop=hop)
    return Network(prepare, forward, bundle._params["encoder_embed_dim"], model)


def _load(bundle: Any, path: Path) -> Any:
    """The pipeline's model without the layer that names letters, which gives no vectors."""
    import torchaudio

    factory = {"Wav2Vec2": torchaudio.models.wav2vec2_model, "WavLM": torchaudio.models.wavlm_model}[bundle._model_type]
    model = factory(**{**bundle._params, "aux_num_out": None})
    state = {name: tensor for name, tensor in read_state(path).items() if not name.startswith("aux.")}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(f"{path} does not fit: {reason}; give weights saved from this very pipeline") from error
    return model
