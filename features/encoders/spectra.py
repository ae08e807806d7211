"""Audio to what its spectrum says: log-mel bands, MFCC, chroma, and statistics of the spectrum. No weights.

Each gives what the librosa function that its docstring names gives with center=False and n_fft the window: a periodic
Hann window, no zero padding of the transform, see features.encoders.frames.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from features.encoders.base import Encoder
from features.encoders.frames import Framing, Measure, frames_encoder
from features.encoders.options import read_options
from features.errors import EncoderError
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor

POWER_FLOOR = 1e-10  # -100 dB, below the step of 16-bit audio: keeps the logarithm of silence finite
ROLL_OFF = 0.85  # the share of the magnitude that lies below the roll-off
SPECTRAL_STATISTICS = ("centroid_hz", "bandwidth_hz", "roll_off_hz", "flatness", "zero_crossing_rate", "rms")
_NUM_CHROMA = 12
_ZERO = 1e-10  # a sample that is closer to 0 has no sign
_TINY = 1e-300  # a window whose spectrum sums up to less is silent


def make_logmel(model: str, view: View) -> Encoder:
    """Encoder of audio: the power in num_mels bands, in dB.

    power_to_db(melspectrogram(n_mels=num_mels), top_db=None): Slaney's mel scale from 0 to half the rate, each band's
    weights divided by its width, 10 log10(power) with a floor of 1e-10 and no other limit, so that a window's vector
    does not depend on how loud another one is.
    """
    options = read_options(view, rate_hz=16_000, window_s=0.025, hop_s=0.010, num_mels=64)
    num_mels = options["num_mels"]
    return frames_encoder(view, options, dim=num_mels, make_measure=partial(_logmel, view.encoder, num_mels))


def make_mfcc(model: str, view: View) -> Encoder:
    """Encoder of audio: the first num_mfcc coefficients of the orthonormal DCT-II of the bands of log-mel.

    mfcc(S=..., n_mfcc=num_mfcc) with the bands of make_logmel as S; no lifter.
    """
    options = read_options(view, rate_hz=16_000, window_s=0.025, hop_s=0.010, num_mels=64, num_mfcc=20)
    num_mels, num_mfcc = options["num_mels"], options["num_mfcc"]
    if num_mfcc > num_mels:
        raise EncoderError(
            f"view {view.name!r}: option 'num_mfcc' of encoder {view.encoder!r} is {num_mfcc}; "
            f"it must be at most num_mels, which is {num_mels}"
        )
    return frames_encoder(view, options, dim=num_mfcc, make_measure=partial(_mfcc, view.encoder, num_mels, num_mfcc))


def make_chroma(model: str, view: View) -> Encoder:
    """Encoder of audio: how strong each of the 12 pitch classes is, C first; the strongest is 1, all are 0 in silence.

    chroma_stft(tuning=0): A is at 440 Hz, whatever the recording is tuned to.
    """
    options = read_options(view, rate_hz=16_000, window_s=0.128, hop_s=0.032)
    return frames_encoder(view, options, dim=_NUM_CHROMA, make_measure=_chroma)


def make_spectral(model: str, view: View) -> Encoder:
    """Encoder of audio: SPECTRAL_STATISTICS, in this order.

    spectral_centroid, spectral_bandwidth(p=2) and spectral_rolloff(0.85) of the magnitudes, spectral_flatness of the
    power, zero_crossing_rate and rms of the window's samples. Silence has flatness 1 and is else 0.
    """
    options = read_options(view, rate_hz=16_000, window_s=0.025, hop_s=0.010)
    return frames_encoder(view, options, dim=len(SPECTRAL_STATISTICS), make_measure=_spectral)


def _power(windows_BTW: Tensor) -> Tensor:
    """float64 [clip, window, bin]: the power spectrum of each window."""
    import torch

    hann_W = torch.hann_window(windows_BTW.shape[-1], dtype=torch.float64, device=windows_BTW.device)
    spectrum_BTF = torch.fft.rfft(windows_BTW * hann_W)
    # A third of the time of its absolute value squared: that minds overflow, which sound is far from.
    return spectrum_BTF.real.square().addcmul_(spectrum_BTF.imag, spectrum_BTF.imag)


def _logmel(encoder: str, num_mels: int, framing: Framing, device: str) -> Measure:
    import torch
    import torchaudio.functional

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero")  # said below
        filters_FM = torchaudio.functional.melscale_fbanks(
            framing.window // 2 + 1, 0.0, framing.rate_hz / 2, num_mels, framing.rate_hz, "slaney", "slaney"
        )
    num_empty = int((filters_FM == 0).all(dim=0).sum())
    if num_empty:
        raise EncoderError(
            f"encoder {encoder!r}: {num_empty} of num_mels {num_mels} bands are narrower than the frequencies that a "
            f"window of {framing.window} samples tells apart: lower num_mels or raise window_s"
        )
    filters_FM = filters_FM.to(device=device, dtype=torch.float64)

    def measure(windows_BTW: Tensor) -> Tensor:
        return 10 * (_power(windows_BTW) @ filters_FM).clamp(min=POWER_FLOOR).log10()

    return measure


def _mfcc(encoder: str, num_mels: int, num_mfcc: int, framing: Framing, device: str) -> Measure:
    import torch

    logmel = _logmel(encoder, num_mels, framing, device)
    cosines_MC = torch.from_numpy(_cosines(num_mels, num_mfcc)).to(device)

    def measure(windows_BTW: Tensor) -> Tensor:
        return logmel(windows_BTW) @ cosines_MC

    return measure


def _cosines(num_mels: int, num_mfcc: int) -> np.ndarray:
    """float64 [band, coefficient]: the orthonormal DCT-II of M bands.

    sqrt(2 / M) cos(pi c (m + 1/2) / M), and for c = 0 sqrt(1 / M).
    """
    band_M1, coefficient_C = np.arange(num_mels)[:, None] + 0.5, np.arange(num_mfcc)
    cosines_MC = np.sqrt(2 / num_mels) * np.cos(np.pi * coefficient_C * band_M1 / num_mels)
    cosines_MC[:, 0] /= np.sqrt(2)
    return cosines_MC


def _chroma(framing: Framing, device: str) -> Measure:
    import torch

    filters_FC = torch.from_numpy(chroma_filters(framing.rate_hz, framing.window)).to(device)

    def measure(windows_BTW: Tensor) -> Tensor:
        chroma_BTC = _power(windows_BTW) @ filters_FC
        strongest_BT1 = chroma_BTC.amax(dim=-1, keepdim=True)
        return chroma_BTC / torch.where(strongest_BT1 < _TINY, 1.0, strongest_BT1)

    return measure


def chroma_filters(rate_hz: int, num_fft: int) -> np.ndarray:
    """float64 [bin, pitch class]: how much of a bin's power goes to each of the 12 pitch classes, C first.

    A bin spreads over the classes as a Gaussian as wide as the bin, of length 1, and weighs less the more octaves it
    is from 440 Hz (a Gaussian of 2 octaves).
    Source: D. Ellis, fft2chromamx, in "Chroma feature analysis and synthesis", 2007; as librosa.filters.chroma.
    """
    bin_hz = np.arange(1, num_fft) * rate_hz / num_fft
    pitch_F = 12 * np.log2(bin_hz / 27.5)  # semitones above A0
    pitch_F = np.concatenate([[pitch_F[0] - 18], pitch_F])  # the bin of 0 Hz: an octave and a half below the next
    width_F = np.append(np.maximum(np.diff(pitch_F), 1.0), 1.0)
    away_FC = (pitch_F[:, None] - np.arange(12) + 6) % 12 - 6
    weights_FC = np.exp(-0.5 * (2 * away_FC / width_F[:, None]) ** 2)
    weights_FC /= np.linalg.norm(weights_FC, axis=1, keepdims=True)
    weights_FC *= np.exp(-0.5 * ((pitch_F / 12 - 5) / 2) ** 2)[:, None]
    return np.ascontiguousarray(np.roll(weights_FC, -3, axis=1)[: num_fft // 2 + 1])  # from A first to C first


def _spectral(framing: Framing, device: str) -> Measure:
    import torch

    bin_hz_F = torch.arange(framing.window // 2 + 1, dtype=torch.float64, device=device)
    bin_hz_F *= framing.rate_hz / framing.window

    def measure(windows_BTW: Tensor) -> Tensor:
        power_BTF = _power(windows_BTW)
        magnitude_BTF = power_BTF.sqrt()
        total_BT1 = magnitude_BTF.sum(dim=-1, keepdim=True)
        share_BTF = magnitude_BTF / torch.where(total_BT1 < _TINY, 1.0, total_BT1)
        centroid_BT = share_BTF @ bin_hz_F
        bandwidth_BT = (share_BTF * (bin_hz_F - centroid_BT[..., None]).square()).sum(dim=-1).sqrt()
        below_BTF = magnitude_BTF.cumsum(dim=-1)
        roll_off_BT = bin_hz_F[(below_BTF < ROLL_OFF * below_BTF[..., -1:]).sum(dim=-1)]
        floored_BTF = power_BTF.clamp(min=POWER_FLOOR)
        flatness_BT = floored_BTF.log().mean(dim=-1).exp() / floored_BTF.mean(dim=-1)
        is_negative_BTW = windows_BTW < -_ZERO
        crossings_BT = (is_negative_BTW[..., 1:] != is_negative_BTW[..., :-1]).double().sum(dim=-1) / framing.window
        rms_BT = windows_BTW.square().mean(dim=-1).sqrt()
        return torch.stack([centroid_BT, bandwidth_BT, roll_off_BT, flatness_BT, crossings_BT, rms_BT], dim=-1)

    return measure
