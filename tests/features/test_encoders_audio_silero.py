import warnings

import numpy as np
import pytest
import torch
from audio_encoding import assert_bytes_of_their_own, chirp, encode_all, load_encoder

from features.encoders import silero
from features.encoders.base import Audio, Encoder
from features.errors import EncoderError
from features.reasons import Reason


@pytest.fixture(scope="module")
def vad() -> Encoder:
    return load_encoder("silero-vad")


def voiced(num_samples: int) -> Audio:
    """Silence, then a buzz through formants that comes and goes as syllables do: enough to be taken for speech."""
    times_T = np.arange(num_samples) / 16_000
    buzz_T = sum(np.exp(-(((120 * k - 700) / 500) ** 2)) * np.sin(2 * np.pi * 120 * k * times_T) for k in range(1, 30))
    wave_T = buzz_T * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * times_T)) * (times_T > 1.0) * 0.1
    return Audio(wave_T.astype(np.float32), 16_000)


def documented(clip: Audio) -> np.ndarray:
    """What the package itself says, with its compiled model: float32 [chunk]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.load is deprecated
        from silero_vad import load_silero_vad

        model = load_silero_vad()
        with torch.inference_mode():
            return model.audio_forward(torch.from_numpy(clip.wave_T)[None], sr=16_000)[0].numpy()


@pytest.mark.parametrize("clip", [voiced(48_000), chirp(20_001), chirp(512)])
def test_silero_gives_what_the_package_gives(vad, clip):
    (outcome,) = encode_all(vad, clip)
    expected_T = documented(clip)
    assert outcome.vectors_TD.shape == (len(expected_T), vad.dim) == (len(expected_T), 1)
    assert np.allclose(outcome.vectors_TD[:, 0], expected_T, atol=1e-5)


def test_silero_tells_a_voice_from_silence(vad):
    (outcome,) = encode_all(vad, voiced(48_000))
    speech_T, starts_s = outcome.vectors_TD[:, 0], outcome.times_T2[:, 0]
    assert speech_T[starts_s < 0.9].max() < 0.1
    assert speech_T[starts_s > 1.1].max() > 0.5  # which the package takes for speech


@pytest.mark.parametrize("num_samples", [1, 511, 512, 513, 1_000])
def test_silero_tells_of_every_32_ms(vad, num_samples):
    (outcome,) = encode_all(vad, Audio(chirp(num_samples).wave_T, 16_000, start_s=1.0))
    num_chunks = -(-num_samples // 512)
    assert np.allclose(outcome.times_T2[:, 0], 1 + np.arange(num_chunks) * 0.032)
    assert outcome.times_T2[-1, 1] == pytest.approx(1 + num_samples / 16_000)
    assert len(outcome.vectors_TD) == num_chunks


def test_silero_hears_a_long_clip_as_if_at_once(vad, monkeypatch):
    (whole,) = encode_all(vad, voiced(20_000))
    monkeypatch.setattr(silero, "_BLOCK_CHUNKS", 7)
    (in_blocks,) = encode_all(vad, voiced(20_000))
    assert np.allclose(whole.vectors_TD, in_blocks.vectors_TD, atol=1e-6)


def test_silero_bytes_depend_on_the_clip_alone(vad):
    assert_bytes_of_their_own(vad, [voiced(40_000), chirp(700), chirp(12_345)])


def test_silero_rejects_empty_and_broken_clips_alone(vad):
    broken = [Audio(np.empty(0, np.float32), 16_000), Audio(np.full(800, np.nan, np.float32), 16_000)]
    empty, nan, good = encode_all(vad, *broken, chirp(800))
    assert (empty.reason, nan.reason) == (Reason.EMPTY, Reason.NON_FINITE)
    assert np.isfinite(good.vectors_TD).all()


def test_silero_refuses_other_weights(monkeypatch):
    monkeypatch.setattr(silero, "SILERO_SHA256", "00")
    with pytest.raises(EncoderError, match=r"silero_vad\.jit has sha256 e1122837.*, not the pinned 00: pip install"):
        load_encoder("silero-vad")


def test_silero_has_no_options():
    with pytest.raises(EncoderError, match="option 'rate_hz' of encoder 'silero-vad' is unknown: it has no options"):
        load_encoder("silero-vad", rate_hz=8_000)
