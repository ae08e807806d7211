"""Audio to log-mel bands and MFCC: no weights, one vector for every 10 ms."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

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
POWER_FLOOR = 1e-10  # below the step of 16-bit audio: keeps the logarithm of silence finite

Measure = Callable[..., "list[Tensor]"]


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
    # Each row twice, for the squares of the real and the imaginary part: their sum is the power, and to take it by the
    # product costs a fifth of torch's absolute value, which minds overflow.
    filters_GM = filters_FM.repeat_interleave(2, dim=0)
    # Where all filters of a group of bands are 0 takes two thirds of the product's time: it is left out.
    groups = [_used(group_GM) for group_GM in filters_GM.split(_GROUPED_MELS, dim=1)]
    cosines_MC = torchaudio.functional.create_dct(NUM_MFCC, NUM_MELS, norm="ortho").to(device)
    hann_W = torch.hann_window(window, device=device)

    measure = _make_measure()
    scripted = _script(measure) if device == "cpu" else measure
    starts, filters = [start for start, _ in groups], [filters_UM for _, filters_UM in groups]
    settings = (hop, num_fft, POWER_FLOOR, hann_W, starts, filters, cosines_MC)

    def forward(waves_BT: Tensor) -> Tensor:
        return torch.stack(measure(list(waves_BT), *settings))

    def forward_each(waves: list[Tensor]) -> list[Tensor]:
        return scripted(waves, *settings)

    prepare = partial(prepare_windows, rate_hz=rate_hz, window=window, hop=hop)
    return Network(prepare, forward, NUM_MELS + NUM_MFCC, forward_each=forward_each)


def _used(filters_GM: Tensor) -> tuple[int, Tensor]:
    """The first row that is not 0, and the rows from it to the last one; a row of zeros if there is none."""
    used = filters_GM.any(dim=1).nonzero().flatten().tolist() or [0]
    return used[0], filters_GM[used[0] : used[-1] + 1].contiguous()


def _make_measure() -> Measure:
    """A function, since a script knows names of its own scope alone: those are the types and torch."""
    import torch

    def measure(
        waves: list[torch.Tensor],
        hop: int,
        num_fft: int,
        floor: float,
        hann_W: torch.Tensor,
        starts: list[int],
        filters: list[torch.Tensor],
        cosines_MC: torch.Tensor,
    ) -> list[torch.Tensor]:
        """Of each wave float32 [window, 64 log-mel bands (natural logarithm of power) and 20 MFCC].

        filters: of one group of bands after the other, for the numbers of a spectrum from its start on.
        """
        window = hann_W.shape[0]
        most = max([(wave_T.shape[0] - window) // hop + 1 for wave_T in waves])
        padded_TN = torch.zeros((most, num_fft), device=hann_W.device)  # once: after each window there are zeros
        measured = []
        for wave_T in waves:
            windows_TW = wave_T.unfold(-1, window, hop)
            windows_TN = padded_TN[: windows_TW.shape[0]]
            torch.mul(windows_TW, hann_W, out=windows_TN[:, :window])
            squares_TG = torch.view_as_real(torch.fft.rfft(windows_TN)).flatten(-2).square_()
            bands = [
                torch.mm(squares_TG[:, starts[group] : starts[group] + filters[group].shape[0]], filters[group])
                for group in range(len(filters))
            ]
            logmel_TM = torch.cat(bands, dim=-1).clamp_(min=floor).log_()
            measured.append(torch.cat([logmel_TM, torch.mm(logmel_TM, cosines_MC)], dim=-1))
        return measured

    return measure


def _script(measure: Measure) -> Measure:
    """The same as one call that lets go of the interpreter's lock once for all waves, and not at each of its products.

    Threads that wait for the lock in turn would take longer than the work. What torch recommends in place of scripts
    takes a compiler, and minutes for each new length; its releases are pinned here.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        scripted: Measure = torch.jit.script(measure)
    return scripted
