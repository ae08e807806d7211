"""Whisper's encoder: one vector for every 20 ms, each of which has heard the 30 s around it that it lies in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from features.encoders.base import Media, Prepared
from features.encoders.network import Network, settle
from features.encoders.transformers_audio import output_of_layer
from features.encoders.waves import take_clip, wave_at, window_intervals

if TYPE_CHECKING:
    from torch import Tensor


def whisper_network(encoder: Any, extractor: Any, layer: int, device: str) -> Network:
    """The encoder behind its own feature extractor; layer: as output_of_layer() counts.

    A clip is read in windows of 30 s that follow each other, and the last is filled up with silence, as Whisper reads
    one. Silence gives no vectors: a unit is what there is of a window, and its length says how many to keep.
    """
    import torch

    settle(encoder, device)
    extractor.dither = 0.0  # else it is random
    rate_hz, longest = extractor.sampling_rate, extractor.n_samples
    hop = longest // encoder.config.max_source_positions

    def prepare(media: Media) -> Prepared:
        clip = take_clip(media)
        wave_T = wave_at(clip, rate_hz)
        num_vectors = -(-len(wave_T) // hop)
        times_T2 = window_intervals(clip, num_vectors, window=hop, hop=hop, rate_hz=rate_hz)
        return Prepared([wave_T[start : start + longest] for start in range(0, len(wave_T), longest)], times_T2)

    def forward(waves_BT: Tensor) -> Tensor:
        # On the model's device: it is the larger part of the preparation. In half precision quiet bands would be lost.
        with torch.autocast(waves_BT.device.type, enabled=False):
            features = extractor(waves_BT.cpu().numpy(), sampling_rate=rate_hz, return_tensors="pt", device=device)
        vectors_BTD = output_of_layer(encoder, layer, input_features=features["input_features"].to(device))
        return vectors_BTD[:, : -(-waves_BT.shape[-1] // hop)]

    return Network(prepare, forward, encoder.config.d_model, encoder)
