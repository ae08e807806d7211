"""What encoders without weights share: a wave is cut into windows, and each window is measured by itself.

The first window begins with the wave and none reaches beyond it (librosa: center=False), so an interval is exactly
what its vector was made from. All is computed in float64: in float32 the noise of a loud band hides a quiet one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from features.encoders.base import Encoder
from features.encoders.network import Network, NetworkEncoder
from features.encoders.waves import prepare_windows
from features.errors import EncoderError
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK_WINDOWS = 1024  # measured at a time: what an hour of sound needs stays in a cache, not in gigabytes

Measure = Callable[["Tensor"], "Tensor"]
"""Windows, float64 [clip, window, sample], to vectors, float64 [clip, window, dim]."""


@dataclass(frozen=True)
class Framing:
    """How a wave is cut: at this rate, into windows of so many samples, one every hop samples."""

    rate_hz: int
    window: int
    hop: int


def frames_encoder(
    view: View, options: dict[str, Any], *, dim: int, make_measure: Callable[[Framing, str], Measure]
) -> Encoder:
    """Encoder of audio clips by what make_measure gives for a framing and a device.

    options: of the view, with rate_hz, window_s and hop_s. Raises EncoderError where these leave no window.
    """
    rate_hz = options["rate_hz"]
    framing = Framing(rate_hz, window=round(options["window_s"] * rate_hz), hop=round(options["hop_s"] * rate_hz))
    where = f"view {view.name!r}: encoder {view.encoder!r}"
    if framing.window < 2 or framing.hop < 1:
        raise EncoderError(
            f"{where}: at {rate_hz} Hz window_s {options['window_s']} and hop_s {options['hop_s']} are "
            f"{framing.window} and {framing.hop} samples; they must be at least 2 and 1"
        )
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset({"audio"}),
        batch_size=1,  # clips have any length
        settings=options,
        weights_digest=_no_weights,
        modules=("spectra",),
        libraries=("torchaudio",),
        bring=partial(_bring, framing, dim, make_measure),
        about={"rate_hz": rate_hz, "dim": dim, "vectors_hz": rate_hz / framing.hop},
    )


def _no_weights() -> None:
    return None


def _bring(framing: Framing, dim: int, make_measure: Callable[[Framing, str], Measure], device: str) -> Network:
    import torch

    measure = make_measure(framing, device)

    def forward(waves_BT: Tensor) -> Tensor:
        windows_BTW = waves_BT.unfold(-1, framing.window, framing.hop)
        blocks = torch.split(windows_BTW, _BLOCK_WINDOWS, dim=1)
        return torch.cat([measure(block.double()) for block in blocks], dim=1)

    return Network(partial(prepare_windows, **asdict(framing)), forward, dim)
