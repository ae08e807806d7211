"""Audio to log-mel bands and MFCC: no weights, one vector for every 10 ms."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar

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
_GROUPED_MELS = 16  # bands that are filtered together, in one product
_WINDOWS_AT_ONCE = 1_024  # 3 MB on their way, at 16 kHz: a processor's cache should hold them
_SHORTEST_OF_OPENCV = 128  # of up to 64 numbers it transforms one row in another way than several
_LINE = 16  # numbers in a line of the processor's cache
POWER_FLOOR = 1e-10  # below the step of 16-bit audio: keeps the logarithm of silence finite

Cut = Callable[..., "tuple[Tensor, list[int]]"]
Measure = Callable[..., "list[Tensor]"]
Scripted = TypeVar("Scripted", Cut, Measure)


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
        libraries=("torchaudio", "opencv-python-headless"),
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
    # Where all filters of a group of bands are 0 takes two thirds of the product's time: it is left out.
    groups = [_used(group_FM) for group_FM in filters_FM.split(_GROUPED_MELS, dim=1)]
    starts, filters = [start for start, _ in groups], [filters_UM.to(device) for _, filters_UM in groups]
    cosines_MC = torchaudio.functional.create_dct(NUM_MFCC, NUM_MELS, norm="ortho").to(device)
    hann_W = torch.hann_window(window, device=device)

    cut, measure = _make_cut(), _make_measure()
    if device == "cpu":
        cut, measure = _script(cut), _script(measure)
    powers = _powers_by_opencv if device == "cpu" and num_fft >= _SHORTEST_OF_OPENCV else _powers_by_torch

    def forward_each(waves: list[Tensor]) -> list[Tensor]:
        measured: list[Tensor] = []
        for some in _in_parts(waves, hop):
            windows_TN, lengths = cut(some, hop, num_fft, hann_W)
            measured += measure(powers(windows_TN), lengths, POWER_FLOOR, starts, filters, cosines_MC)
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


def _powers_by_opencv(windows_TN: Tensor) -> Tensor:
    """float32 [window, N / 2 + 1]: the power spectra of the windows, which are overwritten.

    OpenCV's transform takes half as long as torch's on a processor by AMD; a row gets the same bytes in any company.
    """
    import cv2
    import torch

    from features.encoders.vector_kernels import write_powers

    spectra_TN = windows_TN.numpy()
    num_windows, num_fft = spectra_TN.shape
    num_bins = num_fft // 2 + 1
    # A row begins where a line of the cache does, for where it begins may decide how a product rounds.
    power_TF = torch.empty((num_windows, num_bins + -num_bins % _LINE))
    try:
        cv2.dft(spectra_TN, spectra_TN, cv2.DFT_ROWS)
    except cv2.error as error:  # which is no error of the kinds that are blamed on a clip
        raise RuntimeError(str(error)) from error
    write_powers(spectra_TN, power_TF.numpy())
    return power_TF[:, :num_bins]


def _powers_by_torch(windows_TN: Tensor) -> Tensor:
    """The same, and the windows stay as they are."""
    import torch

    return torch.view_as_real(torch.fft.rfft(windows_TN)).square_().sum(dim=-1)


def _used(filters_FM: Tensor) -> tuple[int, Tensor]:
    """The first row that is not 0, and the rows from it to the last one; a row of zeros if there is none."""
    used = filters_FM.any(dim=1).nonzero().flatten().tolist() or [0]
    return used[0], filters_FM[used[0] : used[-1] + 1].contiguous()


def _make_cut() -> Cut:
    """A function, since a script knows names of its own scope alone: those are the types and torch."""
    import torch

    def cut(waves: list[torch.Tensor], hop: int, num_fft: int, hann_W: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        """float32 [window, num_fft], the windows of all waves, zeros behind each; and how many each wave has.

        waves: float32 [sample]; hann_W: float32, of which a window has the length; hop: in samples.
        """
        window = hann_W.shape[0]
        lengths = [(wave_T.shape[0] - window) // hop + 1 for wave_T in waves]
        windows_TN = torch.zeros((sum(lengths), num_fft), device=hann_W.device)
        start = 0
        for index in range(len(waves)):
            stop = start + lengths[index]
            torch.mul(waves[index].unfold(-1, window, hop), hann_W, out=windows_TN[start:stop, :window])
            start = stop
        return windows_TN, lengths

    return cut


def _make_measure() -> Measure:
    """A function for the same reason."""
    import torch

    def measure(
        powers_TF: torch.Tensor,
        lengths: list[int],
        floor: float,
        starts: list[int],
        filters: list[torch.Tensor],
        cosines_MC: torch.Tensor,
    ) -> list[torch.Tensor]:
        """Of each wave float32 [window, 64 log-mel bands (natural logarithm of power) and 20 MFCC].

        powers_TF: float32 [window, bin]; lengths: how many of the windows each wave has; filters: float32 [bin, band]
        of one group of bands after the other, each for the bins from its entry of starts on; cosines_MC: float32 [band,
        coefficient]. Waves are filtered one by one: a product may round otherwise where it has more rows.
        """
        measured = []
        for power_TF in powers_TF.split_with_sizes(lengths):
            bands = [
                torch.mm(power_TF[:, starts[group] : starts[group] + filters[group].shape[0]], filters[group])
                for group in range(len(filters))
            ]
            logmel_TM = torch.cat(bands, dim=-1).clamp_(min=floor).log_()
            measured.append(torch.cat([logmel_TM, torch.mm(logmel_TM, cosines_MC)], dim=-1))
        return measured

    return measure


def _script(function: Scripted) -> Scripted:
    """The same as one call that lets go of the interpreter's lock once for all waves, and not at each of its steps.

    Threads that wait for the lock in turn would take longer than the work. What torch recommends in place of scripts
    takes a compiler, and minutes for each new length; its releases are pinned here.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        scripted: Scripted = torch.jit.script(function)
    return scripted
