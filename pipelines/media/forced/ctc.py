"""Words found by CTC: the likeliest way through the letters that the user's own acoustic model hears."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from features.encoders.base import Audio
from features.encoders.waves import pad_to, wave_at
from features.reasons import MediaError, Reason
from pipelines.media.forced.aligning import CURLED_APOSTROPHE, Place

if TYPE_CHECKING:
    from torch import Tensor

_PIECE_S = 30.0  # of the wave that the model is given at once: its attention grows with the square
_CONTEXT_S = 1.0  # around a piece, whose output is not used
_MOST_CELLS = 10**9  # of the search's table: bytes


@dataclass(frozen=True)
class AcousticModel:
    """A network that hears letters.

    emit: float32 [sample] at rate_hz to log probabilities [frame, label]; labels: a label's number by its text; blank:
    the number of CTC's blank; between: that of the label between words, if there is one; window and hop: the samples
    that a frame sees, and between two frames.
    """

    emit: Callable[[np.ndarray], Tensor]
    labels: Mapping[str, int]
    blank: int
    between: int | None
    rate_hz: int
    window: int
    hop: int

    def __call__(self, wave_T: np.ndarray, rate_hz: int, words: Sequence[str]) -> list[Place | None]:
        """See pipelines.media.forced.aligning.Aligner. A word that has no letter of the model's cannot be said.

        Raises MediaError TOO_LONG where wave and words together are too long for one search.
        """
        clip_T = pad_to(wave_at(Audio(wave_T, rate_hz), self.rate_hz), self.window)
        spelt = [spell(word, self.labels, {self.blank, self.between}) for word in words]
        sayable = [index for index, letters in enumerate(spelt) if letters]
        places: list[Place | None] = [None] * len(words)
        if not sayable:
            return places
        log_probs_TC = self._emit_all(clip_T)
        found = place_words(log_probs_TC, [spelt[index] for index in sayable], self.blank, self.between)
        for index, (start, stop, confidence) in zip(sayable, found, strict=True):
            places[index] = Place(self._time_s(start), self._time_s(stop), confidence)
        return places

    def _time_s(self, frame: int) -> float:
        """When a frame begins: frames are as long as the hop, each in the middle of the window that it sees."""
        return (frame * self.hop + (self.window - self.hop) / 2) / self.rate_hz

    def _emit_all(self, wave_T: np.ndarray) -> Tensor:
        """Log probabilities of all frames, piece by piece."""
        import torch

        num_frames = 1 + (len(wave_T) - self.window) // self.hop
        piece, context = (int(length_s * self.rate_hz) // self.hop for length_s in (_PIECE_S, _CONTEXT_S))
        parts = []
        with torch.inference_mode():
            for start in range(0, num_frames, piece):
                first, stop = max(0, start - context), min(num_frames, start + piece + context)
                heard_TC = self.emit(wave_T[first * self.hop : (stop - 1) * self.hop + self.window])
                parts.append(heard_TC[start - first : start - first + piece])
        return torch.cat(parts)


def spell(word: str, labels: Mapping[str, int], reserved: set[int | None]) -> list[int]:
    """The labels of a word's letters, in whichever case the model has them; characters that it lacks are left out."""
    choices = ((char, char.lower(), char.upper()) for char in word.replace(CURLED_APOSTROPHE, "'"))
    found = (next((labels[way] for way in ways if way in labels), None) for ways in choices)
    return [label for label in found if label is not None and label not in reserved]


def place_words(
    log_probs_TC: Tensor, words: Sequence[Sequence[int]], blank: int, between: int | None
) -> list[tuple[int, int, float]]:
    """First frame, the one after the last, and confidence of each word, by the likeliest CTC path through all labels.

    log_probs_TC: [frame, label]. A word lasts from its first label's first frame to its last label's last one; its
    confidence is the geometric mean of the path's probabilities there. Raises MediaError NOT_ALIGNED if there are more
    labels than frames, TOO_LONG if the search would take too much memory.
    Source: torchaudio.functional.forced_align.
    """
    import torch
    from torchaudio.functional import forced_align

    targets: list[int] = []
    word_of: list[int] = []
    for index, labels in enumerate(words):
        if targets and between is not None:
            targets.append(between)
            word_of.append(-1)
        targets += labels
        word_of += [index] * len(labels)
    num_frames = len(log_probs_TC)
    needed = len(targets) + sum(one == other for one, other in pairwise(targets))
    if needed > num_frames:
        raise MediaError(Reason.NOT_ALIGNED, f"{len(words)} words of {needed} letters do not fit into its sound")
    if num_frames * (2 * len(targets) + 1) > _MOST_CELLS:
        raise MediaError(
            Reason.TOO_LONG,
            f"{len(words)} words over {num_frames} frames are too many for one search: give the transcript as cues",
        )
    path, scores = forced_align(
        log_probs_TC[None].float().cpu(), torch.tensor([targets], dtype=torch.int64), blank=blank
    )
    frames_L2 = _label_frames(path[0].tolist(), blank)
    scores_T = scores[0].double().numpy()
    found = []
    for index in range(len(words)):
        own = [frames for frames, word in zip(frames_L2, word_of, strict=True) if word == index]
        start, stop = own[0][0], own[-1][1]
        found.append((start, stop, math.exp(min(0.0, float(scores_T[start:stop].mean())))))
    return found


def _label_frames(path: Sequence[int], blank: int) -> list[tuple[int, int]]:
    """First frame and the one after the last of each run of a label in a path that is not blank."""
    runs: list[tuple[int, int]] = []
    before = blank
    for frame, label in enumerate(path):
        if label != blank and label == before:
            runs[-1] = (runs[-1][0], frame + 1)
        elif label != blank:
            runs.append((frame, frame + 1))
        before = label
    return runs
