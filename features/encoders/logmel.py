"""Audio to log-mel bands and MFCC: no weights, one vector for every 10 ms."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from features.encoders.base import Encoder
from features.encoders.network import Network, NetworkEncoder
from features.encoders.options import read_options
from features.encoders.waves import prepare_windows
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor

NUM_MELS = 64
NUM_MFCC = 20
WINDOW_S = 0.025
HOP_S = 0.010
POWER_FLOOR = 1e-10  # below the step of 16-bit audio: keeps the logarithm of silence finite


def make_logmel(model: str, view: View) -> Encoder:
    """Encoder of audio clips at rate_hz; a clip of another rate is resampled, so that all bands mean the same."""
    rate_hz = read_options(view, rate_hz=16_000)["rate_hz"]
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"audio"}),
        batch_size=1,  # clips have any length
        settings={"rate_hz": rate_hz},
        weights_digest=_no_weights,
        modules=("logmel", "waves"),
        libraries=("torchaudio",),
        bring=partial(_bring, rate_hz),
        about={"rate_hz": rate_hz, "dim": NUM_MELS + NUM_MFCC, "vectors_hz": 1 / HOP_S},
    )


def _no_weights() -> None:
    return None


def _bring(rate_hz: int, device: str) -> Network:
    import torch
    import torchaudio.functional

    window, hop = round(WINDOW_S * rate_hz), round(HOP_S * rate_hz)
    num_fft = 1 << (window - 1).bit_length()
    filters_FM = torchaudio.functional.melscale_fbanks(
        num_fft // 2 + 1, 0.0, rate_hz / 2, NUM_MELS, rate_hz, norm="slaney", mel_scale="slaney"
    ).to(device)
    cosines_MC = torchaudio.functional.create_dct(NUM_MFCC, NUM_MELS, norm="ortho").to(device)
    hann_W = torch.hann_window(window, device=device)

    def forward(waves_BT: Tensor) -> Tensor:
        """float32 [clip, window, 64 log-mel bands (natural logarithm of power) and 20 MFCC]."""
        windows_BTW = waves_BT.unfold(-1, window, hop) * hann_W
        power_BTF = torch.fft.rfft(windows_BTW, n=num_fft).abs().square()
        logmel_BTM = (power_BTF @ filters_FM).clamp(min=POWER_FLOOR).log()
        return torch.cat([logmel_BTM, logmel_BTM @ cosines_MC], dim=-1)

    prepare = partial(prepare_windows, rate_hz=rate_hz, window=window, hop=hop)
    return Network(prepare, forward, NUM_MELS + NUM_MFCC)
