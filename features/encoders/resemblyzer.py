"""Resemblyzer's voice encoder, which was trained to tell speakers apart (GE2E), with the weights of the package: 256
numbers of length 1, none below 0; the cosine of two says how alike two voices are."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.encoders.base import Encoder, Media, Prepared
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.waves import pad_to, take_clip, wave_at, window_intervals
from features.encoders.weights import check_pinned
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor, nn

RESEMBLYZER_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
RATE_HZ = 16_000
NUM_MELS = 40
DIM = 256
_MEL_WINDOW, _MEL_HOP = 400, 160  # samples
_PART_FRAMES, _PART_HOP_FRAMES = 160, 77  # mel frames; 77 since the package wants 1.3 parts a second
PART, PART_HOP = _PART_FRAMES * _MEL_HOP, _PART_HOP_FRAMES * _MEL_HOP  # samples
_ENOUGH = PART * 3 // 4  # samples that a part has at least, unless it is the only one
_BLOCK_FRAMES, _BLOCK_PARTS = 4096, 64  # worked on at a time, so that memory does not grow with a clip by much


def make_resemblyzer(model: str, view: View) -> Encoder:
    """Encoder of audio clips: with pooling mean what the package's embed_utterance gives, the mean over parts of the
    clip brought to length 1; with any other, a vector for each part.

    Parts of 1.6 s begin every 0.77 s as long as 1.2 s are left, and the last is filled up with zeros. So is a clip
    that is shorter.
    """
    read_options(view)
    is_each = view.pooling != "mean"
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"audio"}),
        batch_size=1,  # clips have any length
        settings={"parts": "each" if is_each else "mean"},
        weights_digest=_digest,
        modules=("resemblyzer",),
        libraries=("torchaudio",),
        bring=partial(_bring, is_each),
        about={"rate_hz": RATE_HZ, "dim": DIM, "vectors_hz": round(RATE_HZ / PART_HOP, 3)},
    )


def _digest() -> str:
    _find()
    return RESEMBLYZER_SHA256


def _prepare(is_each: bool, media: Media) -> Prepared:
    clip = take_clip(media)
    wave_T = wave_at(clip, RATE_HZ)
    num_parts = 1 + max(0, len(wave_T) - _ENOUGH) // PART_HOP
    times_T2 = window_intervals(clip, num_parts, window=PART, hop=PART_HOP, rate_hz=RATE_HZ)
    if not is_each:
        times_T2 = np.array([[times_T2[0, 0], times_T2[-1, 1]]])
    return Prepared([pad_to(wave_T, (num_parts - 1) * PART_HOP + PART)], times_T2)


def _bring(is_each: bool, device: str) -> Network:
    import torch
    import torchaudio.functional

    layers = settle(_load(), device)
    filters_FM = torchaudio.functional.melscale_fbanks(
        _MEL_WINDOW // 2 + 1, 0.0, RATE_HZ / 2, NUM_MELS, RATE_HZ, "slaney", "slaney"
    ).to(device, torch.float64)

    def forward(waves_BT: Tensor) -> Tensor:
        parts_BPFM = _mel(waves_BT, filters_FM).unfold(1, _PART_FRAMES, _PART_HOP_FRAMES).transpose(2, 3)
        blocks = torch.split(parts_BPFM.flatten(0, 1), _BLOCK_PARTS)
        vectors_BPD = torch.cat([_voice(layers, block) for block in blocks]).reshape(*parts_BPFM.shape[:2], DIM)
        return vectors_BPD if is_each else _unit(vectors_BPD.mean(dim=1))

    return Network(partial(_prepare, is_each), forward, DIM, layers)


def _find() -> Path:
    spec = find_spec("resemblyzer")  # not imported: that fails with current releases of what it imports
    path = Path(spec.origin if spec and spec.origin else "resemblyzer").parent / "pretrained.pt"
    check_pinned(path, RESEMBLYZER_SHA256, "pip install --no-deps resemblyzer==0.1.4")
    return path


def _load() -> nn.ModuleDict:
    """The layers of the package's model. Its training's own state is in the file too, and left there."""
    import torch
    from torch import nn

    layers = nn.ModuleDict(
        {"lstm": nn.LSTM(NUM_MELS, DIM, num_layers=3, batch_first=True), "linear": nn.Linear(DIM, DIM)}
    )
    state = torch.load(_find(), map_location="cpu", weights_only=True)["model_state"]
    layers.load_state_dict({name: state[name] for name in layers.state_dict()})
    return layers


def _mel(waves_BT: Tensor, filters_FM: Tensor) -> Tensor:
    """float32 [clip, frame, band]: the power, not its logarithm, around every 160th sample from the first one on.

    librosa's melspectrogram(n_fft=400, hop_length=160, n_mels=40), but in float64 until the end.
    """
    import torch

    hann_W = torch.hann_window(_MEL_WINDOW, dtype=torch.float64, device=waves_BT.device)
    centred_BT = torch.nn.functional.pad(waves_BT, (_MEL_WINDOW // 2, _MEL_WINDOW // 2))
    blocks = torch.split(centred_BT.unfold(-1, _MEL_WINDOW, _MEL_HOP), _BLOCK_FRAMES, dim=1)
    power = (torch.fft.rfft(block.double() * hann_W).abs().square() for block in blocks)
    return torch.cat([(block_BFK @ filters_FM).float() for block_BFK in power], dim=1)


def _voice(layers: nn.ModuleDict, parts_NFM: Tensor) -> Tensor:
    """float32 [part, frame, band] to [part, 256].

    Source: L. Wan et al., "Generalized end-to-end loss for speaker verification", 2018; differs as the package does:
    negative numbers are cut off before the length is made 1.
    """
    _, (hidden_LND, _) = layers["lstm"](parts_NFM)
    return _unit(layers["linear"](hidden_LND[-1]).relu())


def _unit(vectors_ND: Tensor) -> Tensor:
    """The vectors at length 1; NaN, which makes a reject, where a vector is all zeros."""
    return vectors_ND / vectors_ND.norm(dim=-1, keepdim=True)
