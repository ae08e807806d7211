"""Words found by pocketsphinx with the US English model that its package brings: no network, no GPU."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.encoders.base import Audio
from features.encoders.waves import pad_to, wave_at
from features.errors import ConfigError
from features.reasons import MediaError, Reason
from features.rev import digest_file, digest_json
from pipelines.media.audio import to_pcm16
from pipelines.media.forced.aligning import Place
from pipelines.media.forced.english import Pronunciations, pronounce

if TYPE_CHECKING:
    from pocketsphinx import Decoder, Segment

_RATE_HZ = 16_000  # of the model
_FRAMES_HZ = 100  # its own frames
_SHORTEST = 800  # samples: the library takes no empty sound
_WINDOW_S = 30  # searched at once: time and memory grow with its square
_EDGE_S = 5  # of a window at its end, where a word may be cut in two: it is searched again with the next
_MOST_WORDS_S = 7  # words a second, more than anybody says for as long as a window
_FLOOR_DBFS = -70  # of noise that is added: the model knows no digital silence, and errors halve
_NATS = 1024  # in the natural logarithm of a score, which the library keeps in steps of 1024 of its base 1.0001
_NO_BEAM = 0.0  # nothing is pruned: a way that looks bad for a while is often the right one

_Segments = list["Segment"]


def find_words(
    wave_T: np.ndarray, rate_hz: int, words: Sequence[str], *, known: Pronunciations | None = None
) -> list[Place | None]:
    """Places of the words by Viterbi search through their pronunciations, with or without silence between them; see
    pipelines.media.forced.aligning.Aligner.

    known: how words are said, by default as the dictionary has it. A wave longer than a window is searched window by
    window: each takes as many of the words that are left as fit it best, and those that end before the window's edge
    are kept. The confidence of a word is the likelihood of its sound a frame, divided by that of the likeliest sequence
    of any phones there.
    """
    known = dictionary() if known is None else known
    ways = [pronounce(word, known) for word in words]
    sayable = [index for index, way in enumerate(ways) if way]
    clip_T = pad_to(wave_at(Audio(wave_T, rate_hz), _RATE_HZ), _SHORTEST)
    found = _find_all(_with_floor(clip_T), [ways[index] for index in sayable])
    places: list[Place | None] = [None] * len(words)
    for index, place in zip(sayable, found, strict=True):
        places[index] = place
    return places


def _with_floor(wave_T: np.ndarray) -> np.ndarray:
    noise_T = np.random.default_rng(0).standard_normal(len(wave_T), np.float32)
    return wave_T + np.float32(10 ** (_FLOOR_DBFS / 20)) * noise_T


def _find_all(wave_T: np.ndarray, ways: Sequence[Sequence[str]]) -> list[Place]:
    """A place for each of the words, window by window."""
    places: list[Place] = []
    start = 0
    while len(places) < len(ways):
        window_T = wave_T[start : start + _WINDOW_S * _RATE_HZ]
        is_last = start + len(window_T) == len(wave_T)
        left = ways[len(places) :] if is_last else ways[len(places) : len(places) + _WINDOW_S * _MOST_WORDS_S]
        found = _find(window_T, left, must_end=is_last)
        if not is_last:
            found = [place for place in found if place.end_s <= _WINDOW_S - _EDGE_S]
        start_s = start / _RATE_HZ
        places += [Place(start_s + place.start_s, start_s + place.end_s, place.confidence) for place in found]
        start += round((found[-1].end_s if found else _WINDOW_S - _EDGE_S) * _RATE_HZ)
    return places


def _find(wave_T: np.ndarray, ways: Sequence[Sequence[str]], *, must_end: bool) -> list[Place]:
    """The places of the words in a window: of all, or unless must_end of as many of the first ones as fit it best.

    Raises MediaError NOT_ALIGNED if they do not fit into it.
    """
    decoder = _decoder()
    for word, spoken in enumerate(ways):
        for turn, phones in enumerate(spoken):
            decoder.add_word(str(word) if turn == 0 else f"{word}({turn + 1})", phones, update=False)
    num_words = len(ways)
    steps: list[tuple[int, int, float] | tuple[int, int, float, str]]
    steps = [(word, word + 1, 1.0, str(word)) for word in range(num_words)]
    if not must_end:
        steps += [(word, num_words, 1.0) for word in range(num_words)]
    decoder.add_fsg("words", decoder.create_fsg("words", 0, num_words, steps))
    decoder.add_allphone_file("phones", None)
    pcm = to_pcm16(wave_T)
    segments = [segment for segment in _search(decoder, "words", pcm) if segment.word[0].isdigit()]
    if must_end and len(segments) < num_words:
        raise MediaError(
            Reason.NOT_ALIGNED, f"{num_words} words do not fit into {len(wave_T) / _RATE_HZ:.1f} s of sound"
        )
    fits_T = _log_likelihood(segments, len(pcm)) - _log_likelihood(_search(decoder, "phones", pcm), len(pcm))
    return [_place(segment, fits_T) for segment in segments]


def _place(segment: "Segment", fits_T: np.ndarray) -> Place:
    start, stop = segment.start_frame, segment.end_frame + 1
    confidence = math.exp(min(0.0, float(fits_T[start:stop].mean())))
    return Place(start / _FRAMES_HZ, stop / _FRAMES_HZ, confidence)


def _decoder() -> "Decoder":
    """A fresh one: it carries a mean over the sound from one utterance to the next, and is made in 15 ms."""
    from pocketsphinx import Decoder

    return Decoder(
        hmm=str(_model_folder() / "en-us"),
        dict=None,
        lm=None,
        loglevel="FATAL",
        bestpath=False,
        beam=_NO_BEAM,
        wbeam=_NO_BEAM,
        pbeam=_NO_BEAM,
        maxhmmpf=-1,
        compallsen=True,  # else scores are relative to the states that are searched, and cannot be compared
        silprob=1.0,  # else pauses go to the words around them
    )


def _search(decoder: "Decoder", name: str, pcm: bytes) -> _Segments:
    """The segments of the best way through a search of the decoder; none if there is no way."""
    decoder.reinit_feat()
    decoder.activate_search(name)
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    return list(decoder.seg()) if decoder.hyp() is not None else []


def _log_likelihood(segments: Iterable["Segment"], num_bytes: int) -> np.ndarray:
    """float64 [frame]: natural logarithm a frame, the same over each segment, NaN where there is none.

    It is relative to the likeliest state of the model in each frame.
    """
    frames_T = np.full(num_bytes // 2 * _FRAMES_HZ // _RATE_HZ + 2, np.nan)
    for segment in segments:
        start, stop = segment.start_frame, segment.end_frame + 1
        frames_T[start:stop] = math.log(max(segment.ascore, 1e-300)) * _NATS / max(stop - start, 1)
    return frames_T


@lru_cache(maxsize=1)
def dictionary() -> Pronunciations:
    """The pronouncing dictionary of the package: some 126,000 words."""
    known: dict[str, list[str]] = {}
    with open(_model_folder() / "cmudict-en-us.dict", encoding="utf-8") as lines:
        for line in lines:
            word, _, phones = line.partition(" ")
            known.setdefault(word.partition("(")[0], []).append(phones.strip())
    return known


def sphinx_settings() -> dict[str, str]:
    """What decides the places besides the code: the model and the dictionary by their bytes, the library's version."""
    from importlib.metadata import version

    folder = _model_folder()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "lm" not in path.name)
    digests = {path.relative_to(folder).as_posix(): digest_file(path) for path in files}
    return {"model": digest_json(digests), "pocketsphinx": version("pocketsphinx")}


def _model_folder() -> Path:
    try:
        from pocketsphinx import get_model_path
    except ModuleNotFoundError as error:
        raise ConfigError(
            "align.forced.aligner is 'pocketsphinx', which needs the package of that name, and that is not installed: "
            "run pip install -e '.[weights]'"
        ) from error
    return Path(get_model_path()) / "en-us"
