import math
from functools import cache

import librosa.filters
import numpy as np
import pytest
from audio_encoding import chirp, encode_all, load_encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct
from scipy.signal import get_window
from transformers import Wav2Vec2Config

from features.encoders.base import Audio, Encoder
from features.encoders.logmel import POWER_FLOOR
from features.encoders.waves import receptive_field, window_intervals
from features.reasons import Reason


@pytest.fixture(scope="module")
def logmel() -> Encoder:
    return load_encoder("logmel-mfcc")


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
def test_logmel_equals_librosa(rate_hz):
    clip = chirp(rate_hz, rate_hz)
    (outcome,) = encode_all(load_encoder("logmel-mfcc", rate_hz=rate_hz), clip)
    window, hop = round(0.025 * rate_hz), round(0.010 * rate_hz)
    num_fft = 2 ** math.ceil(math.log2(window))
    windows_TW = np.lib.stride_tricks.sliding_window_view(clip.wave_T, window)[::hop]
    spectrum_TF = np.fft.rfft(windows_TW * get_window("hann", window), num_fft)
    # librosa.feature does the same from here, after half a minute of compilation on a fresh machine.
    mel = librosa.filters.mel(sr=rate_hz, n_fft=num_fft, n_mels=64) @ np.abs(spectrum_TF.T) ** 2
    logmel = np.log(np.maximum(mel, POWER_FLOOR))
    mfcc = dct(logmel, axis=0, norm="ortho")[:20]
    assert outcome.vectors_TD.shape == (1 + (rate_hz - window) // hop, 84)
    assert np.allclose(outcome.vectors_TD[:, :64], logmel.T, atol=2e-4)
    assert np.allclose(outcome.vectors_TD[:, 64:], mfcc.T, atol=2e-4)


def test_logmel_windows_lie_25_ms_wide_every_10_ms(logmel):
    (outcome,) = encode_all(logmel, chirp(16_000))
    assert outcome.times_T2.shape == (98, 2)
    assert outcome.times_T2[3].tolist() == [0.03, 0.055]
    assert outcome.times_T2[-1, 1] <= 1.0


def test_logmel_hears_a_click_in_the_windows_that_span_it(logmel):
    wave_T = np.zeros(16_000, np.float32)
    wave_T[8_000] = 1.0
    (outcome,) = encode_all(logmel, Audio(wave_T, 16_000))
    heard = outcome.vectors_TD[:, 32] > np.log(POWER_FLOOR) + 1
    spans = (outcome.times_T2[:, 0] < 0.5) & (outcome.times_T2[:, 1] > 0.5)
    assert np.array_equal(heard, spans)


def test_logmel_of_silence_is_finite(logmel):
    (outcome,) = encode_all(logmel, Audio(np.zeros(1_600, np.float32), 16_000))
    assert np.allclose(outcome.vectors_TD[:, :64], np.log(POWER_FLOOR))
    assert np.allclose(outcome.vectors_TD[:, 65:], 0, atol=1e-3)


@pytest.mark.parametrize("num_samples", [1, 399, 400, 401, 559])
def test_logmel_of_a_short_clip_is_one_window_that_ends_with_it(logmel, num_samples):
    clip = chirp(num_samples)
    (outcome,) = encode_all(logmel, clip)
    assert outcome.times_T2.tolist() == [[0.0, min(0.025, num_samples / 16_000)]]
    padded = Audio(np.pad(clip.wave_T, (0, max(0, 400 - num_samples))), 16_000)
    assert outcome.vectors_TD.tobytes() == encode_all(logmel, padded)[0].vectors_TD.tobytes()


def test_logmel_resamples_so_that_bands_keep_their_meaning(logmel):
    times_s = {rate_hz: np.arange(rate_hz) / rate_hz for rate_hz in (16_000, 48_000)}
    clips = [Audio(np.sin(2 * np.pi * 440 * t).astype(np.float32), rate_hz) for rate_hz, t in times_s.items()]
    at_16k, at_48k = encode_all(logmel, *clips)
    assert np.array_equal(at_16k.times_T2, at_48k.times_T2)
    peaks = [outcome.vectors_TD[:, :64].mean(0).argmax() for outcome in (at_16k, at_48k)]
    assert peaks[0] == peaks[1]


def test_logmel_bytes_depend_on_the_clip_alone(logmel):
    clips = [chirp(num_samples) for num_samples in (16_000, 700, 12_345)]
    alone = [encode_all(logmel, clip)[0].vectors_TD.tobytes() for clip in clips]
    assert [outcome.vectors_TD.tobytes() for outcome in encode_all(logmel, *reversed(clips))] == alone[::-1]


@pytest.mark.filterwarnings("ignore:At least one mel filterbank has all zero values")  # bands too narrow for 1 kHz
@pytest.mark.parametrize("rate_hz", [1_000, 16_000])
@settings(deadline=None, max_examples=30)
@given(
    lengths=st.lists(st.sampled_from([1, 399, 400, 559, 560, 8_000, 16_000, 33_333]), min_size=1, max_size=20),
    at_once=st.sampled_from([1, 60, 250, 2_048]),
)
def test_logmel_gives_the_same_bytes_in_whatever_group_a_clip_is_measured(rate_hz, lengths, at_once):
    encoder = _loaded_logmel(rate_hz)
    units = [unit for length in lengths for unit in encoder.prepare(chirp(length, rate_hz)).units]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("features.encoders.logmel._WINDOWS_AT_ONCE", at_once)
        together = encoder.encode_each(units)
    assert [vectors_TD.tobytes() for vectors_TD in together] == [encoder.encode(u[None])[0].tobytes() for u in units]


@cache
def _loaded_logmel(rate_hz: int) -> Encoder:
    return load_encoder("logmel-mfcc", rate_hz=rate_hz)


@pytest.mark.parametrize(("wave_T", "reason"), [(np.empty(0), Reason.EMPTY), (np.full(800, np.nan), Reason.NON_FINITE)])
def test_logmel_rejects_empty_and_broken_clips_alone(logmel, wave_T, reason):
    outcomes = encode_all(logmel, chirp(800), Audio(wave_T.astype(np.float32), 16_000), chirp(800))
    assert outcomes[1].reason == reason
    assert outcomes[0].vectors_TD.tobytes() == outcomes[2].vectors_TD.tobytes()


def test_receptive_field_of_wav2vec2_is_25_ms_every_20_ms():
    config = Wav2Vec2Config()
    assert receptive_field(config.conv_kernel, config.conv_stride) == (400, 320)


def test_window_intervals_never_reach_beyond_the_clip():
    clip = Audio(np.zeros(480, np.float32), 16_000)
    times_T2 = window_intervals(clip, 2, window=400, hop=160, rate_hz=16_000)
    assert times_T2.tolist() == [[0.0, 0.025], [0.01, 0.03]]


def test_window_intervals_count_from_the_start_of_the_sample():
    clip = Audio(np.zeros(480, np.float32), 16_000, start_s=0.25)
    times_T2 = window_intervals(clip, 2, window=400, hop=160, rate_hz=16_000)
    assert times_T2.tolist() == [[0.25, 0.275], [0.26, 0.28]]


def test_window_intervals_follow_the_drift_of_the_recorder():
    clip = Audio(np.zeros(16_000, np.float32), 16_000, start_s=2.0, stretch=1.001)
    times_T2 = window_intervals(clip, 2, window=8000, hop=8000, rate_hz=16_000)
    assert times_T2 == pytest.approx(np.array([[2.0, 2.5005], [2.5005, 3.001]]))
