"""A voice that says words, by espeak-ng."""

import ctypes
import threading
from _ctypes import dlclose
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np

from features.errors import ConfigError

VOICE_RATE_HZ = 22_050

# An unknown accent is an error; of an unknown speaker espeak-ng says nothing and speaks with the accent's own voice.
ACCENTS = ("en-us", "gmw/en", "gmw/en-GB-x-rp", "gmw/en-GB-scotland", "en-us-nyc", "en-029")
SPEAKERS = ("f1", "f2", "f3", "f4", "m1", "m2", "m3", "m4", "m6", "m7", "Annie", "Alex", "steph")

_SYNCHRONOUS = 2
_PHONEME_EVENTS = 1
_NO_EVENT, _WORD, _PHONEME = 0, 1, 7  # kinds of events
_PAUSE = b"_"  # what a phoneme that is silence begins with
_RATE, _PITCH = 1, 3
_UTF8 = 1
_DONT_EXIT = 1 << 15
_RANDOM_SEED = 1
_SILENCE = 0.01  # of the peak
_LOCK = threading.Lock()  # espeak-ng keeps its state in global variables
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """One speaker: words a minute, pitch from 0 to 100."""

    accent: str
    speaker: str
    words_per_min: int
    pitch: int


@dataclass(frozen=True)
class SpokenWord:
    """A word of a text, by its first character, and when it is said in the wave, to the sample."""

    place: int
    start_s: float
    end_s: float


class _Event(ctypes.Structure):
    """What espeak-ng says of its wave; sample: where, phoneme: its name, of a phoneme."""

    _fields_ = (
        ("kind", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("place", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("phoneme", ctypes.c_char * 8),
    )


def choose_voice(rng: np.random.Generator) -> Voice:
    """A speaker at random."""
    accent, speaker = str(rng.choice(ACCENTS)), str(rng.choice(SPEAKERS))
    return Voice(accent, speaker, int(rng.integers(130, 200)), int(rng.integers(30, 70)))


def check_voice() -> None:
    """Raise ConfigError if the voice library is not installed."""
    _import_loader()


def say_words(words: Sequence[str], voice: Voice) -> list[np.ndarray]:
    """Say each word on its own: float32 waves at VOICE_RATE_HZ, peak 1, without the silence around them.

    The same call gives the same waves: espeak-ng carries the phases of its generators and its random numbers from
    one utterance to the next, and only a fresh copy of the library starts from none.
    Raises ConfigError if the voice library is not installed or lacks the voice.
    """
    with _loaded() as espeak:
        return espeak.say(words, voice)


def say_text(text: str, voice: Voice) -> tuple[np.ndarray, list[SpokenWord]]:
    """Say a text fluently: float32 wave at VOICE_RATE_HZ, peak 1, and its words. Of words that are said in one, as
    "in the" often is, the first alone is listed.

    A word lasts from its first phoneme to the next word or pause. Raises ConfigError as say_words() does.
    """
    with _loaded() as espeak:
        return espeak.say_text(text, voice)


@contextmanager
def _loaded() -> Iterator["_Espeak"]:
    loader = _import_loader()
    with _LOCK, TemporaryDirectory() as folder:
        voices = Path(folder) / "voices"
        voices.symlink_to(loader.get_data_path())  # espeak-ng cuts off paths of 160 characters
        library = ctypes.CDLL(loader.get_library_path())
        try:
            yield _Espeak(library, voices)
        finally:
            library.espeak_Terminate()
            dlclose(library._handle)  # the last reference: the next copy starts from none


def _import_loader() -> ModuleType:
    try:
        import espeakng_loader
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the demo's voice needs the package 'espeakng_loader', which is not installed: run pip install -e '.[demo]'"
        ) from error
    module: ModuleType = espeakng_loader
    return module


class _Espeak:
    """A freshly loaded espeak-ng."""

    def __init__(self, library: ctypes.CDLL, voices: Path) -> None:
        self._library = library
        self._chunks: list[bytes] = []
        self._words: list[list[int]] = []  # place, first sample and, once it is known, the sample after the last
        self._callback = _CALLBACK(self._collect)  # kept here, or it would be freed while the library calls it
        rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, bytes(voices), _DONT_EXIT | _PHONEME_EVENTS)
        if rate_hz != VOICE_RATE_HZ:
            raise ConfigError(
                f"espeak-ng cannot read its voices through {voices} (it gave {rate_hz} Hz, not {VOICE_RATE_HZ}): set "
                "TMPDIR to a short path, or reinstall with pip install -e '.[demo]'"
            )
        library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        library.espeak_ng_SetRandSeed(_RANDOM_SEED)  # else it is the clock
        library.espeak_SetSynthCallback(self._callback)

    def _collect(self, wave: int | None, num_frames: int, events: int) -> int:
        if wave and num_frames > 0:
            self._chunks.append(ctypes.string_at(wave, num_frames * 2))
        listed = ctypes.cast(events, ctypes.POINTER(_Event))
        for event in takewhile(lambda event: event.kind != _NO_EVENT, map(listed.__getitem__, count())):
            is_pause = event.kind == _PHONEME and event.phoneme.startswith(_PAUSE)
            if (is_pause or event.kind == _WORD) and self._words and len(self._words[-1]) == 2:
                self._words[-1].append(event.sample)
            if event.kind == _WORD:
                self._words.append([event.place - 1, event.sample])
        return 0

    def say(self, words: Sequence[str], voice: Voice) -> list[np.ndarray]:
        self._choose(voice)
        return [_trim(self._synthesise(word)) for word in words]

    def say_text(self, text: str, voice: Voice) -> tuple[np.ndarray, list[SpokenWord]]:
        self._choose(voice)
        wave_T = self._synthesise(text)
        times = [(place, start / VOICE_RATE_HZ, stop / VOICE_RATE_HZ) for place, start, stop in self._words]
        return wave_T / np.abs(wave_T).max(), [SpokenWord(*word) for word in times]

    def _choose(self, voice: Voice) -> None:
        name = f"{voice.accent}+{voice.speaker}"
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise ConfigError(f"espeak-ng has no voice {name!r}: reinstall it with pip install -e '.[demo]'")
        self._library.espeak_SetParameter(_RATE, voice.words_per_min, 0)
        self._library.espeak_SetParameter(_PITCH, voice.pitch, 0)

    def _synthesise(self, said: str) -> np.ndarray:
        self._chunks.clear()
        self._words.clear()
        text = said.encode()
        self._library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.frombuffer(b"".join(self._chunks), dtype="<i2").astype(np.float32)


def _trim(wave_T: np.ndarray) -> np.ndarray:
    peak = np.abs(wave_T).max(initial=0.0)
    loud = np.flatnonzero(np.abs(wave_T) > _SILENCE * peak)
    if not len(loud):
        raise ConfigError("espeak-ng said nothing: reinstall it with pip install -e '.[demo]'")
    trimmed: np.ndarray = wave_T[loud[0] : loud[-1] + 1] / peak
    return trimmed
