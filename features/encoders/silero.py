"""Silero VAD with the weights of the package silero-vad: how likely each 32 ms of a clip are speech, from 0 to 1."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from features.encoders.base import Encoder, Media, Prepared
from features.encoders.network import Network, NetworkEncoder, settle
from features.encoders.options import read_options
from features.encoders.waves import pad_to, take_clip, wave_at, window_intervals
from features.encoders.weights import check_pinned
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor, nn

SILERO_SHA256 = "e1122837f4154c511485fe0b9c64455f7b929c96fbb8d79fbdb336383ebd3720"
RATE_HZ = 16_000
CHUNK = 512  # samples, of which each probability tells
_CONTEXT = 64  # samples before a chunk that are heard with it
_MIRRORED = 64  # samples by which a chunk is prolonged
_NUM_BINS = 129
_BLOCK_CHUNKS = 1024  # that are convolved at a time, so that memory does not grow with a clip by much


def make_silero(model: str, view: View) -> Encoder:
    """Encoder of audio clips: one number for every 32 ms; what the package's audio_forward gives at 16 kHz."""
    read_options(view)
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"audio"}),
        batch_size=1,  # clips have any length
        settings={},
        weights_digest=_digest,
        modules=("silero",),
        libraries=("torchaudio",),
        bring=_bring,
        about={"rate_hz": RATE_HZ, "dim": 1, "vectors_hz": RATE_HZ / CHUNK},
    )


def _digest() -> str:
    _find()
    return SILERO_SHA256


def _prepare(media: Media) -> Prepared:
    clip = take_clip(media)
    wave_T = wave_at(clip, RATE_HZ)
    num_chunks = -(-len(wave_T) // CHUNK)
    times_T2 = window_intervals(clip, num_chunks, window=CHUNK, hop=CHUNK, rate_hz=RATE_HZ)
    return Prepared([pad_to(wave_T, num_chunks * CHUNK)], times_T2)


def _bring(device: str) -> Network:
    layers = settle(_load(), device)
    return Network(_prepare, partial(_speech, layers), 1, layers)


def _find() -> Path:
    spec = find_spec("silero_vad")  # to import it would set torch's number of threads
    path = Path(spec.origin if spec and spec.origin else "silero_vad").parent / "data" / "silero_vad.jit"
    check_pinned(path, SILERO_SHA256, "pip install -e '.[weights]'")
    return path


def _load() -> nn.ModuleDict:
    """The layers of the package's model for 16 kHz."""
    from torch import nn

    layers = nn.ModuleDict(
        {
            "stft": nn.Conv1d(1, 2 * _NUM_BINS, kernel_size=256, stride=128, bias=False),
            "conv1": nn.Conv1d(_NUM_BINS, 128, kernel_size=3, padding=1),
            "conv2": nn.Conv1d(128, 64, kernel_size=3, stride=2, padding=1),
            "conv3": nn.Conv1d(64, 64, kernel_size=3, stride=2, padding=1),
            "conv4": nn.Conv1d(64, 128, kernel_size=3, padding=1),
            "memory": nn.LSTM(128, 128, batch_first=True),
            "last": nn.Conv1d(128, 1, kernel_size=1),
        }
    )
    layers.load_state_dict(_read_archive(_find(), layers.state_dict()))
    return layers


def _read_archive(path: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in the archive of a compiled program, which is not run, nor is its pickle read.

    The archive holds each weight's numbers as a file of their own, numbered in the order of the layers; those of the
    model for 16 kHz come before those of the one for 8 kHz. like: names and shapes in that order. The package's
    safetensors are no choice: they are those of another training.
    """
    import torch

    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        # The first two are empty; bytearray since torch wants numbers that it may write to.
        raw = [bytearray(archive.read(names[f"data/{number}"])) for number in range(2, 2 + len(like))]
    numbers = [torch.frombuffer(part, dtype=torch.float32) for part in raw]
    return {name: part.reshape(like[name].shape) for name, part in zip(like, numbers, strict=True)}


def _speech(layers: nn.ModuleDict, waves_BT: Tensor) -> Tensor:
    """float32 [clip, sample], whole chunks, to [clip, chunk, 1].

    Source: the package's tinygrad_model.py, which says what the compiled program computes.
    """
    import torch

    chunks_BNT = torch.nn.functional.pad(waves_BT, (_CONTEXT, 0)).unfold(-1, _CONTEXT + CHUNK, CHUNK)
    blocks = torch.split(chunks_BNT.flatten(0, 1), _BLOCK_CHUNKS)
    heard_BNC = torch.cat([_hear(layers, block) for block in blocks]).reshape(*chunks_BNT.shape[:2], -1)
    remembered_BNC, _ = layers["memory"](heard_BNC)
    speech_BCN: Tensor = layers["last"](remembered_BNC.relu().transpose(1, 2))
    return speech_BCN.sigmoid().transpose(1, 2)


def _hear(layers: nn.ModuleDict, chunks_NT: Tensor) -> Tensor:
    """float32 [chunk, sample] to [chunk, 128]: what is heard in each chunk by itself."""
    import torch

    prolonged_N1T = torch.nn.functional.pad(chunks_NT, (0, _MIRRORED), mode="reflect")[:, None]
    real_NFT, imaginary_NFT = layers["stft"](prolonged_N1T).split(_NUM_BINS, dim=1)
    heard_NCT = (real_NFT.square() + imaginary_NFT.square()).sqrt()
    for name in ("conv1", "conv2", "conv3", "conv4"):
        heard_NCT = layers[name](heard_NCT).relu()
    return heard_NCT.squeeze(-1)
