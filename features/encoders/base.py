"""What an encoder is, and what it is given: media in memory, never files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Audio:
    """wave_T: float32 [sample], mono, full scale is 1; start_s: its first one, seconds from the sample's start.

    stretch: how many seconds of the sample's clock rate_hz samples last; not 1 where the recorder's clock drifts.
    """

    wave_T: np.ndarray
    rate_hz: int
    start_s: float = 0.0
    stretch: float = 1.0


@dataclass(frozen=True)
class Video:
    """frames: encoded images; times_s: float64 [frame], seconds from the start of the sample; end_s: of the last.

    The first one may have been on screen before the sample began: its time is negative then."""

    frames: Sequence[bytes]
    times_s: np.ndarray
    end_s: float


@dataclass(frozen=True)
class Word:
    """A word of a text, and when it is said, in seconds from the sample's start."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class TimedText:
    """A text with those of its words, in order, whose times are known."""

    text: str
    words: Sequence[Word]


Media = str | bytes | Audio | Video | TimedText
"""A text, an encoded image, an audio clip, a video clip, or a text with the times of words."""


@dataclass(frozen=True)
class Prepared:
    """A sample ready for the model.

    units: what enters a batch one by one (a token row, an image, a frame, a waveform); units of equal shape share a
    batch. They may be decoded only as they are taken, so that a long video never lies in memory as pixels; taking
    one raises MediaError if it cannot be decoded. times_T2: float64 [vector, (start, end)], seconds from the start of
    the sample, one row for each vector that the units will give together; NaN where a sample has no clock (an image,
    a text whose words have no times).
    """

    units: Iterable[np.ndarray]
    times_T2: np.ndarray


@dataclass(frozen=True)
class Encoded:
    """vectors_TD: float32 [vector, dim]; times_T2: float64 [vector, (start, end)], seconds from the sample's start."""

    vectors_TD: np.ndarray
    times_T2: np.ndarray


class Encoder(Protocol):
    """Media to vectors. Batches are formed outside, always of size_of_batch() units of one shape (the last one padded),
    so that the bytes of a row depend on the sample alone. It can be pickled; the model stays behind.

    batch_size: of a batch, or where it depends on the shape a common one."""

    inputs: frozenset[str]
    batch_size: int
    is_on_cpu: bool
    """Whether processors do all of it, whatever the device: with a GPU and without one its rows are the same."""
    about: dict[str, Any]
    """What it takes and gives, for people, as far as that is known without a model in memory: rate_hz of audio,
    size_px of images, max_tokens of texts, frames of clips; dim of its vectors and vectors_hz, how many a second."""

    @property
    def dim(self) -> int:
        """Length of the vectors that encode gives; known once load() has returned."""

    def definition(self) -> dict[str, Any]:
        """All that its output depends on besides the media, as JSON: name, settings (all options among them),
        batch_size, "weights_digest" (sha256 or null), "code" (digests of its modules) and "libraries" (their
        versions); "nondeterministic" with the reason where equal input may give other bytes. Needs no load()."""

    def size_of_batch(self, shape: tuple[int, ...]) -> int:
        """How many units of this shape are in a batch."""

    def load(self, device: str) -> None:
        """Bring the model into memory, once per process; "cpu", or "cuda:0" and so on."""

    def prepare(self, media: Media) -> Prepared:
        """Decode and shape one sample; called from several threads, after load(). Raises MediaError if it cannot."""

    def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
        """float32 [vector, dim] for each of the units of a batch."""

    def encode_each(self, units: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The same for units of any shapes of which a batch holds one: the bytes that encode() gives for each alone."""
