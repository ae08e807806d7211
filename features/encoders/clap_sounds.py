"""Sounds and texts to vectors of one space, by any CLAP model of transformers that the user has."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.encoders.base import Encoder, Media, Prepared
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.tokens import NO_SPANS_T2, check_vocabulary, prepare_text
from features.encoders.transformers_audio import about_audio, load_model
from features.encoders.waves import pad_to, take_clip, wave_at
from features.encoders.weights import digest_weights, find_folder, loading
from features.errors import EncoderError
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor

POWER_FLOOR = 1e-10  # as in the library


def make_sounds(model: str, view: View) -> Encoder:
    """Encoder of audio clips: a vector of length 1 for each stretch as long as the model hears at once, often 10 s.

    The library cuts such a stretch out of a longer clip at random. Here as few as cover the clip lie evenly over it.
    A shorter clip is repeated, as the model's settings say.
    """
    return _make(model, view, "audio", _sound_network)


def make_texts(model: str, view: View) -> Encoder:
    """Encoder of texts: the text side's vector, of length 1."""
    return _make(model, view, "text", _text_network)


def _make(model: str, view: View, modality: str, network: Callable[[Path, str], Network]) -> Encoder:
    find = partial(find_folder, model, view.encoder)
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({modality}),
        batch_size=read_options(view, batch_size=4)["batch_size"],
        settings={},
        weights_digest=partial(_digest, find, view.encoder),
        modules=("clap_sounds",),
        libraries=("transformers", "tokenizers", "torchaudio"),
        bring=partial(_bring, find, network),
        about=about_audio(model),
    )


def _digest(find: Callable[[], Path], encoder: str) -> str:
    return digest_weights(find(), encoder)


def _bring(find: Callable[[], Path], network: Callable[[Path, str], Network], device: str) -> Network:
    folder = find()
    with loading(folder, "CLAP model"):
        return network(folder, device)


def _load(folder: Path) -> Any:
    model = load_model(folder)
    if model.config.model_type != "clap":
        raise EncoderError(f"{folder} is a {model.config.model_type}, not a clap: write transformers:{folder}")
    return model


def _sound_network(folder: Path, device: str) -> Network:
    import torch
    from transformers import AutoFeatureExtractor

    model = _load(folder)
    del model.text_model, model.text_projection  # the larger half
    settle(model, device)
    extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
    rate_hz, longest = extractor.sampling_rate, extractor.nb_max_samples
    is_fused = extractor.truncation == "fusion"  # of short clips it then says four times the same
    log_mel = _make_log_mel(extractor, device)

    def prepare(media: Media) -> Prepared:
        clip = take_clip(media)
        wave_T = wave_at(clip, rate_hz)
        starts = spread(len(wave_T), longest)
        ends_T = np.minimum((starts + longest) / rate_hz, len(clip.wave_T) / clip.rate_hz)
        times_T2 = clip.start_s + clip.stretch * np.stack([starts / rate_hz, ends_T], axis=1)
        units = (fill(wave_T[start : start + longest], longest, extractor.padding) for start in starts)
        return Prepared(units, times_T2)

    def forward(waves_BT: Tensor) -> Tensor:
        mel_BCFM = log_mel(waves_BT)[:, None].expand(-1, 4 if is_fused else 1, -1, -1)
        is_longer_B1 = torch.full((len(waves_BT), 1), is_fused, device=waves_BT.device)
        vectors_BD: Tensor = model.get_audio_features(mel_BCFM, is_longer=is_longer_B1).pooler_output
        return vectors_BD

    return Network(prepare, forward, model.config.projection_dim, model)


def _make_log_mel(extractor: Any, device: str) -> Callable[[Tensor], Tensor]:
    """What the extractor computes of waves, on the model's device: its own loop over frames takes longer than a GPU's
    model. float32 [clip, sample] to [clip, frame, band], in dB."""
    import torch

    filters = extractor.mel_filters if extractor.truncation == "fusion" else extractor.mel_filters_slaney
    filters_FM = torch.from_numpy(filters).to(device, torch.float64)
    hann_W = torch.hann_window(extractor.fft_window_size, dtype=torch.float64, device=device)

    def log_mel(waves_BT: Tensor) -> Tensor:
        spectrum_BFT = torch.stft(
            waves_BT.double(), len(hann_W), extractor.hop_length, window=hann_W, return_complex=True
        )
        power_BTF = spectrum_BFT.abs().square().transpose(1, 2)
        return (10 * (power_BTF @ filters_FM).clamp(min=POWER_FLOOR).log10()).float()

    return log_mel


def fill(wave_T: np.ndarray, num_samples: int, padding: str) -> np.ndarray:
    """A wave brought to a length: repeated as often as it fits whole ("repeatpad") and filled up with zeros, repeated
    to the end ("repeat"), or only filled up ("pad")."""
    if padding == "repeat":
        return np.resize(wave_T, num_samples)
    if padding == "repeatpad":
        wave_T = np.tile(wave_T, num_samples // len(wave_T))
    return pad_to(wave_T, num_samples)


def spread(num_samples: int, longest: int) -> np.ndarray:
    """int64 [stretch]: where as few stretches of the length as cover the samples begin, at even distances."""
    num_stretches = max(1, -(-num_samples // longest))
    return np.linspace(0, max(0, num_samples - longest), num_stretches).round().astype(np.int64)


def _text_network(folder: Path, device: str) -> Network:
    from transformers import AutoTokenizer

    model = _load(folder)
    del model.audio_model, model.audio_projection
    settle(model, device)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    check_vocabulary(tokenizer, folder)
    config = model.config.text_config
    # Positions are counted from behind the padding's own.
    longest = min(tokenizer.model_max_length, config.max_position_embeddings - config.pad_token_id - 1)
    lock = threading.Lock()  # a tokenizer sets its truncation on itself before each use

    def tokenize(text: str) -> tuple[np.ndarray, np.ndarray]:
        with lock:
            inputs = tokenizer(text, truncation=True, max_length=longest)
        return np.array([inputs["input_ids"], inputs["attention_mask"]], np.int64), NO_SPANS_T2

    def forward(units_BKT: Tensor) -> Tensor:
        output = model.get_text_features(units_BKT[:, 0], attention_mask=units_BKT[:, 1])
        vectors_BD: Tensor = output.pooler_output
        return vectors_BD

    prepare = partial(prepare_text, tokenize, (config.pad_token_id, 0), longest, False)
    return Network(prepare, forward, model.config.projection_dim, model)
