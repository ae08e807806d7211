"""Acoustic models of the user's: a folder of transformers, or a pipeline of torchaudio."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.encoders.network import settle
from features.encoders.waves import receptive_field
from features.encoders.weights import digest_weights, find_folder, find_url, read_state
from features.errors import EncoderError
from features.rev import library_versions
from pipelines.media.forced.ctc import AcousticModel

if TYPE_CHECKING:
    from torch import Tensor

_TORCHAUDIO = "torchaudio:"
_WHERE = "https://download.pytorch.org/torchaudio/models"


def model_settings(model: str) -> dict[str, Any]:
    """What decides the places besides the code: the bytes of the weights, the versions of the libraries."""
    path = _pipeline_file(model) if model.startswith(_TORCHAUDIO) else find_folder(model, model)
    return {"model": digest_weights(path, model), **library_versions(["torch", "torchaudio", "transformers"])}


@lru_cache(maxsize=1)
def load_acoustic_model(model: str) -> AcousticModel:
    """The model in memory, once per process, on the CPU: "torchaudio:<pipeline>" or a folder of transformers.

    Raises EncoderError if it is not on this machine, or is no model that gives letters by CTC.
    """
    return _load_pipeline(model) if model.startswith(_TORCHAUDIO) else _load_folder(find_folder(model, model))


def _find_bundle(name: str) -> Any:
    import torchaudio

    pipelines = vars(torchaudio.pipelines)
    known = [key for key, value in pipelines.items() if isinstance(value, torchaudio.pipelines.Wav2Vec2ASRBundle)]
    if name.removeprefix(_TORCHAUDIO) not in known:
        raise EncoderError(f"{name!r} is no pipeline of torchaudio that gives letters; known: {', '.join(known)}")
    return pipelines[name.removeprefix(_TORCHAUDIO)]


def _pipeline_file(name: str) -> Path:
    path = _find_bundle(name)._path
    return find_url(path if path.startswith("https:") else f"{_WHERE}/{path}", name)


def _load_folder(folder: Path) -> AcousticModel:
    from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

    local = {"local_files_only": True}
    try:
        extractor = AutoFeatureExtractor.from_pretrained(folder, **local)
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        model, report = AutoModelForCTC.from_pretrained(folder, output_loading_info=True, **local)
    except (OSError, ValueError) as error:
        raise EncoderError(f"{folder} holds no CTC model that loads: {str(error).splitlines()[0]}") from error
    missing = sorted(name for name in report["missing_keys"] if not name.endswith("masked_spec_embed"))
    if missing or not hasattr(model.config, "conv_stride"):
        what = f"lacks weights of {missing[0]}" if missing else f"is a {model.config.model_type}, which reads no waves"
        raise EncoderError(f"{folder} {what}: give a wav2vec 2, HuBERT or WavLM with a CTC head")
    settle(model, "cpu")
    window, hop = receptive_field(model.config.conv_kernel, model.config.conv_stride)
    rate_hz = extractor.sampling_rate

    def emit(wave_T: np.ndarray) -> Tensor:
        inputs = extractor(wave_T, sampling_rate=rate_hz, return_tensors="pt")["input_values"]
        log_probs_TC: Tensor = model(input_values=inputs).logits[0].log_softmax(-1)
        return log_probs_TC

    vocabulary = tokenizer.get_vocab()
    between = vocabulary.get(getattr(tokenizer, "word_delimiter_token", None))
    return AcousticModel(emit, vocabulary, tokenizer.pad_token_id, between, rate_hz, window, hop)


def _load_pipeline(name: str) -> AcousticModel:
    import torch
    import torchaudio

    bundle = _find_bundle(name)
    factories = {"Wav2Vec2": torchaudio.models.wav2vec2_model, "WavLM": torchaudio.models.wavlm_model}
    model = factories[bundle._model_type](**bundle._params)
    path = _pipeline_file(name)
    state = read_state(path)
    if bundle._remove_aux_axis:  # labels that the model learnt to give but never gives
        kept = [axis for axis in range(len(state["aux.weight"])) if axis not in bundle._remove_aux_axis]
        state = {key: value[kept] if key.startswith("aux.") else value for key, value in state.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise EncoderError(f"{path} is not of {name}: {' '.join(str(error).split())[:300]}") from error
    settle(model, "cpu")
    _, kernels, strides = zip(*bundle._params["extractor_conv_layer_config"], strict=True)
    window, hop = receptive_field(kernels, strides)

    def emit(wave_T: np.ndarray) -> Tensor:
        waves_BT = torch.from_numpy(wave_T)[None]
        if bundle._normalize_waveform:
            waves_BT = torch.nn.functional.layer_norm(waves_BT, waves_BT.shape[-1:])
        log_probs_TC: Tensor = model(waves_BT)[0][0].log_softmax(-1)
        return log_probs_TC

    labels = {label: index for index, label in enumerate(bundle.get_labels())}
    return AcousticModel(emit, labels, 0, labels.get("|"), int(bundle.sample_rate), window, hop)
