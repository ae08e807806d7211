"""Audio to log-mel bands and MFCC: no weights, one vector for every 10 ms."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from features.encoders.base import Encoder
from features.encoders.network import Network, NetworkEncoder
from features.encoders.options import read_options
from features.encoders.waves import prepare_windows
from features.view import View

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NUM_MELS = 64
NUM_MFCC = 20
WINDOW_S = 0.025
HOP_S = 0.010
_WINDOWS_AT_ONCE = 2_048  # 4 MB on their way, at 16 kHz: a processor's cache should hold them
_SHORTEST_OF_OPENCV = 128  # of up to 64 numbers it transforms one row in another way than several
POWER_FLOOR = 1e-10  # below the step of 16-bit audio: keeps the logarithm of silence finite

Cut = Callable[..., "tuple[Tensor, list[int]]"]
Measure = Callable[["Tensor", "list[int]"], "list[Tensor]"]
"""Of each wave float32 [window, 64 log-mel bands (natural logarithm of power) and 20 MFCC], from the windows of all
waves, float32 [window, num_fft], which may be overwritten, and how many each wave has."""


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
        libraries=("torchaudio", "opencv-python-headless", "numba"),
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
    )
    cosines_MC = torchaudio.functional.create_dct(NUM_MFCC, NUM_MELS, norm="ortho")
    hann_W = torch.hann_window(window, device=device)
    is_by_opencv = device == "cpu" and num_fft >= _SHORTEST_OF_OPENCV
    make_measure = _make_measure_by_opencv if is_by_opencv else _make_measure_by_torch
    cut, measure = _make_cut(device), make_measure(filters_FM.to(device), cosines_MC.to(device))

    def forward_each(waves: list[Tensor]) -> list[Tensor]:
        measured: list[Tensor] = []
        for some in _in_parts(waves, hop):
            measured += measure(*cut(some, hop, num_fft, hann_W))
        return measured

    def forward(waves_BT: Tensor) -> Tensor:
        return torch.stack(forward_each(list(waves_BT)))

    prepare = partial(prepare_windows, rate_hz=rate_hz, window=window, hop=hop)
    return Network(prepare, forward, NUM_MELS + NUM_MFCC, forward_each=forward_each)


def _in_parts(waves: list[Tensor], hop: int) -> Iterator[list[Tensor]]:
    """The waves, whole, a few at a time; one with _WINDOWS_AT_ONCE windows or more comes alone."""
    part: list[Tensor] = []
    num_windows = 0
    for wave_T in waves:
        num_more = len(wave_T) // hop
        if part and num_windows + num_more >= _WINDOWS_AT_ONCE:
            yield part
            part, num_windows = [], 0
        part.append(wave_T)
        num_windows += num_more
    if part:
        yield part


def _make_measure_by_opencv(filters_FM: Tensor, cosines_MC: Tensor) -> Measure:
    """OpenCV's transform takes half as long as torch's on a processor by AMD; a row gets the same bytes in any company,
    and so do the loops behind it, which leave out where a filter is 0."""
    import cv2
    import torch

    from features.encoders.logmel_loops import measure

    bins = [np.flatnonzero(filter_F) for filter_F in filters_FM.numpy().T]
    starts_M = np.array([used[0] if len(used) else 0 for used in bins])
    stops_M = np.array([used[-1] + 1 if len(used) else 0 for used in bins])
    stretches = zip(filters_FM.numpy().T, starts_M, stops_M, strict=True)
    weights = np.concatenate([filter_F[start:stop] for filter_F, start, stop in stretches])
    cosines_CM = np.ascontiguousarray(cosines_MC.numpy().T)

    def measure_each(windows_TN: Tensor, lengths: list[int]) -> list[Tensor]:
        spectra_TN = windows_TN.numpy()
        try:
            cv2.dft(spectra_TN, spectra_TN, cv2.DFT_ROWS)
        except cv2.error as error:  # which is no error of the kinds that are blamed on a clip
            raise RuntimeError(str(error)) from error
        measured_TD = np.empty((len(spectra_TN), NUM_MELS + NUM_MFCC), np.float32)
        measure(spectra_TN, starts_M, stops_M, weights, cosines_CM, POWER_FLOOR, measured_TD)
        spans = pairwise(accumulate(lengths, initial=0))
        return [torch.from_numpy(measured_TD[start:stop]) for start, stop in spans]

    return measure_each


def _make_measure_by_torch(filters_FM: Tensor, cosines_MC: Tensor) -> Measure:
    import torch

    def measure_each(windows_TN: Tensor, lengths: list[int]) -> list[Tensor]:
        powers_TF = torch.view_as_real(torch.fft.rfft(windows_TN)).square_().sum(dim=-1)
        measured = []
        for power_TF in powers_TF.split_with_sizes(lengths):  # a product may round otherwise where it has more rows
            logmel_TM = (power_TF @ filters_FM).clamp_(min=POWER_FLOOR).log_()
            measured.append(torch.cat([logmel_TM, logmel_TM @ cosines_MC], dim=-1))
        return measured

    return measure_each


def _make_cut(device: str) -> Cut:
    """On a CPU cut() is one call that lets go of the interpreter's lock once for all waves, and not at each of its
    steps: threads that wait for the lock in turn would take longer than the work.

    What torch recommends in place of scripts takes a compiler, and minutes for each new length; its releases are pinned
    here.
    """
    import torch

    # In here since a script knows names of its own scope alone: those are the types and torch.
    def cut(waves: list[torch.Tensor], hop: int, num_fft: int, hann_W: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        """float32 [window, num_fft], the windows of all waves, zeros behind each; and how many each wave has.

        waves: float32 [sample]; hann_W: float32, of which a window has the length; hop: in samples.
        """
        window = hann_W.shape[0]
        lengths = [(wave_T.shape[0] - window) // hop + 1 for wave_T in waves]
        windows_TN = torch.empty((sum(lengths), num_fft), device=hann_W.device)
        windows_TN[:, window:].zero_()
        start = 0
        for index in range(len(waves)):
            stop = start + lengths[index]
            torch.mul(waves[index].unfold(-1, window, hop), hann_W, out=windows_TN[start:stop, :window])
            start = stop
        return windows_TN, lengths

    if device != "cpu":
        return cut
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        scripted: Cut = torch.jit.script(cut)
    return scripted
