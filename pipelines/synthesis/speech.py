"""A voice that says words, by espeak-ng."""

import ctypes
import threading
from _ctypes import dlclose
from collections.abc import Sequence
from dataclasses import dataclass
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
    loader = _import_loader()
    with _LOCK, TemporaryDirectory() as folder:
        voices = Path(folder) / "voices"
        voices.symlink_to(loader.get_data_path())  # espeak-ng cuts off paths of 160 characters
        library = ctypes.CDLL(loader.get_library_path())
        try:
            return _Espeak(library, voices).say(words, voice)
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
        self._callback = _CALLBACK(self._collect)  # kept here, or it would be freed while the library calls it
        rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, bytes(voices), _DONT_EXIT)
        if rate_hz != VOICE_RATE_HZ:
            raise ConfigError(
                f"espeak-ng cannot read its voices through {voices} (it gave {rate_hz} Hz, not {VOICE_RATE_HZ}): set "
                "TMPDIR to a short path, or reinstall with pip install -e '.[demo]'"
            )
        library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        library.espeak_ng_SetRandSeed(_RANDOM_SEED)  # else it is the clock
        library.espeak_SetSynthCallback(self._callback)

    def _collect(self, wave: int | None, num_frames: int, _events: int) -> int:
        if wave and num_frames > 0:
            self._chunks.append(ctypes.string_at(wave, num_frames * 2))
        return 0

    def say(self, words: Sequence[str], voice: Voice) -> list[np.ndarray]:
        name = f"{voice.accent}+{voice.speaker}"
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise ConfigError(f"espeak-ng has no voice {name!r}: reinstall it with pip install -e '.[demo]'")
        self._library.espeak_SetParameter(_RATE, voice.words_per_min, 0)
        self._library.espeak_SetParameter(_PITCH, voice.pitch, 0)
        return [self._say_word(word) for word in words]

    def _say_word(self, word: str) -> np.ndarray:
        self._chunks.clear()
        text = word.encode()
        self._library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return _trim(np.frombuffer(b"".join(self._chunks), dtype="<i2").astype(np.float32))


def _trim(wave_T: np.ndarray) -> np.ndarray:
    peak = np.abs(wave_T).max(initial=0.0)
    loud = np.flatnonzero(np.abs(wave_T) > _SILENCE * peak)
    if not len(loud):
        raise ConfigError("espeak-ng said nothing: reinstall it with pip install -e '.[demo]'")
    trimmed: np.ndarray = wave_T[loud[0] : loud[-1] + 1] / peak
    return trimmed
