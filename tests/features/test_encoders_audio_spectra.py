import librosa
import numpy as np
import pytest
from audio_encoding import assert_bytes_of_their_own, encode_all, load_encoder

from features.encoders.base import Audio
from features.encoders.spectra import chroma_filters
from features.errors import EncoderError
from features.reasons import Reason

ENCODERS = ("log-mel", "mfcc", "chroma", "spectral")


def sound(num_samples: int, rate_hz: int) -> Audio:
    """A rising tone over a steady one, with noise, and digital silence for a while."""
    times_T = np.arange(num_samples) / rate_hz
    noise_T = np.random.default_rng(num_samples).normal(0, 0.003, num_samples)
    wave_T = 0.3 * np.sin(2 * np.pi * (200 + 900 * times_T) * times_T) + 0.2 * np.sin(2 * np.pi * 329.6 * times_T)
    wave_T = wave_T + noise_T
    wave_T[num_samples // 2 : num_samples * 3 // 4] = 0
    return Audio(wave_T.astype(np.float32), rate_hz)


def librosa_says(encoder: str, clip: Audio, window: int, hop: int, num_mels: int, num_mfcc: int) -> np.ndarray:
    """float64 [window, dim]"""
    wave_T = clip.wave_T.astype(np.float64)
    cut = {"hop_length": hop, "center": False}
    transform = {"y": wave_T, "sr": clip.rate_hz, "n_fft": window, **cut}
    if encoder == "chroma":
        return librosa.feature.chroma_stft(**transform, tuning=0.0).T
    if encoder == "spectral":
        measures = [
            librosa.feature.spectral_centroid(**transform),
            librosa.feature.spectral_bandwidth(**transform),
            librosa.feature.spectral_rolloff(**transform),
            librosa.feature.spectral_flatness(y=wave_T, n_fft=window, **cut),
            librosa.feature.zero_crossing_rate(y=wave_T, frame_length=window, **cut),
            librosa.feature.rms(y=wave_T, frame_length=window, dtype=np.float64, **cut),
        ]
        return np.concatenate(measures).T
    mel = librosa.feature.melspectrogram(**transform, n_mels=num_mels, dtype=np.float64)
    decibels = librosa.power_to_db(mel, top_db=None)
    return decibels.T if encoder == "log-mel" else librosa.feature.mfcc(S=decibels, n_mfcc=num_mfcc).T


@pytest.mark.parametrize(("rate_hz", "window_s", "hop_s"), [(16_000, 0.025, 0.010), (22_050, 0.0927, 0.0232)])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_spectra_equal_librosa(encoder, rate_hz, window_s, hop_s):
    clip = sound(rate_hz, rate_hz)
    bands = {"log-mel": {"num_mels": 40}, "mfcc": {"num_mels": 40, "num_mfcc": 13}}.get(encoder, {})
    (outcome,) = encode_all(load_encoder(encoder, rate_hz=rate_hz, window_s=window_s, hop_s=hop_s, **bands), clip)
    window, hop = round(window_s * rate_hz), round(hop_s * rate_hz)
    expected_TD = librosa_says(encoder, clip, window, hop, 40, 13)
    assert outcome.vectors_TD.shape == expected_TD.shape
    # What is given in hertz reaches thousands: there float32 itself rounds by more than 1e-4.
    assert np.allclose(outcome.vectors_TD, expected_TD, rtol=1e-7, atol=1e-4)


def test_spectra_of_chroma_filters_equal_librosas():
    expected_CF = librosa.filters.chroma(sr=16_000, n_fft=2_047, tuning=0.0, dtype=np.float64)
    assert np.allclose(chroma_filters(16_000, 2_047), expected_CF.T, atol=1e-12)


def test_chroma_of_a_tone_is_its_pitch_class():
    times_T = np.arange(16_000) / 16_000
    for pitch_hz, place in ((261.63, 0), (440.0, 9), (880.0, 9), (493.88, 11)):
        (outcome,) = encode_all(
            load_encoder("chroma"), Audio(np.sin(2 * np.pi * pitch_hz * times_T).astype(np.float32), 16_000)
        )
        assert (outcome.vectors_TD.argmax(axis=1) == place).all()
        assert outcome.vectors_TD.max() == 1


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [("log-mel", [-100] * 64), ("mfcc", [-800] + [0] * 19), ("chroma", [0] * 12), ("spectral", [0, 0, 0, 1, 0, 0])],
)
def test_spectra_of_silence_are_finite(encoder, expected):
    (outcome,) = encode_all(load_encoder(encoder), Audio(np.zeros(4_000, np.float32), 16_000))
    assert np.allclose(outcome.vectors_TD, expected, atol=1e-4)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_spectra_say_what_they_take_and_give(encoder):
    made = load_encoder(encoder, rate_hz=8_000, hop_s=0.02)
    assert made.about == {"rate_hz": 8_000, "dim": made.dim, "vectors_hz": 50.0}
    (outcome,) = encode_all(made, sound(16_000, 16_000))
    assert outcome.vectors_TD.shape == (len(outcome.times_T2), made.dim)
    assert np.allclose(np.diff(outcome.times_T2[:, 0]), 0.02)


def test_spectra_measure_each_window_by_itself():
    clip = sound(16_000 * 12, 16_000)  # more windows than are measured at a time
    (outcome,) = encode_all(load_encoder("spectral"), clip)
    assert len(outcome.vectors_TD) == 1 + (len(clip.wave_T) - 400) // 160
    place = 1_100
    window = Audio(clip.wave_T[place * 160 : place * 160 + 400], 16_000, start_s=place * 0.01)
    (alone,) = encode_all(load_encoder("spectral"), window)
    assert np.allclose(outcome.vectors_TD[place], alone.vectors_TD[0], rtol=1e-6)
    assert np.allclose(outcome.times_T2[place], alone.times_T2[0])


@pytest.mark.parametrize("num_samples", [1, 399, 400, 559])
@pytest.mark.parametrize("encoder", ["mfcc", "spectral"])
def test_spectra_of_a_short_clip_are_one_window_that_ends_with_it(encoder, num_samples):
    (outcome,) = encode_all(load_encoder(encoder), sound(num_samples, 16_000))
    assert outcome.times_T2.tolist() == [[0.0, min(0.025, num_samples / 16_000)]]
    assert len(outcome.vectors_TD) == 1


@pytest.mark.parametrize("encoder", ENCODERS)
def test_spectra_bytes_depend_on_the_clip_alone(encoder):
    clips = [sound(num_samples, 16_000) for num_samples in (40_000, 3_000, 12_345)]
    assert_bytes_of_their_own(load_encoder(encoder), clips)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_spectra_reject_empty_and_broken_clips_alone(encoder):
    broken = [Audio(np.empty(0, np.float32), 16_000), Audio(np.full(800, np.nan, np.float32), 16_000)]
    first, empty, nan, last = encode_all(load_encoder(encoder), sound(800, 16_000), *broken, sound(800, 16_000))
    assert (empty.reason, nan.reason) == (Reason.EMPTY, Reason.NON_FINITE)
    assert first.vectors_TD.tobytes() == last.vectors_TD.tobytes()


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        ("mfcc", {"num_mfcc": 65}, "'num_mfcc' .* is 65; it must be at most num_mels, which is 64"),
        ("mfcc", {"n_mfcc": 13}, "did you mean 'num_mfcc'"),
        ("chroma", {"window_s": 0}, "'window_s' .* is 0; it must be a number above 0"),
        ("chroma", {"window_s": "long"}, "'window_s' .* is 'long'; it must be a number above 0"),
        ("spectral", {"hop_s": float("nan")}, "'hop_s' .* is nan; it must be a number above 0"),
        ("spectral", {"hop_s": 1e-5}, "are 400 and 0 samples; they must be at least 2 and 1"),
        ("log-mel", {"num_mels": 200}, "of num_mels 200 bands are narrower .* lower num_mels or raise window_s"),
    ],
)
def test_spectra_name_an_option_that_is_wrong(encoder, options, message):
    with pytest.raises(EncoderError, match=message):
        load_encoder(encoder, **options)
