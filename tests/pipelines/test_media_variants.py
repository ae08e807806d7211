import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import pixels, tone

from pipelines.media.audio import from_pcm16, peak_dbfs, to_pcm16
from pipelines.media.pixels import decode_pixels, encode_jpeg, encode_png
from pipelines.media.spans import span
from pipelines.media.variants import reorder, vary_audio, vary_frames, vary_image, vary_order


def vary_text(text: str, rng: np.random.Generator, *, drop: float, swap: float) -> str:
    return reorder(text, None, vary_order(len(text.split()), rng, drop=drop, swap=swap))[0]


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


ratios = st.floats(0, 1)
seeds = st.integers(0, 2**64 - 1)


@given(st.text(), seeds, ratios, ratios)
def test_vary_text_invents_no_word_and_keeps_one(text: str, seed: int, drop: float, swap: float) -> None:
    varied = vary_text(text, seeded(seed), drop=drop, swap=swap)
    assert varied == vary_text(text, seeded(seed), drop=drop, swap=swap)
    left = text.split()
    for word in varied.split():
        left.remove(word)
    assert bool(varied.split()) == bool(text.split())


def test_vary_text_does_what_it_is_asked() -> None:
    text = "one two three four"
    assert vary_text(text, seeded(), drop=0, swap=0) == text
    assert vary_text(text, seeded(), drop=1, swap=0) in text.split()
    assert vary_text(text, seeded(), drop=0, swap=1) == "two three four one"


def test_vary_text_is_pinned() -> None:
    # Stored variants are identified by their seed: the same seed must give the same words for ever.
    assert vary_text("a b c d e f g h", seeded(7), drop=0.3, swap=0.3) == "a b c f h e"


@given(st.lists(st.sampled_from("abc"), max_size=6), seeds, ratios, ratios)
def test_reordered_words_are_the_text_at_rising_times_of_the_original(
    spoken: list[str], seed: int, drop: float, swap: float
) -> None:
    words = [span(float(place), place + 0.5, text=word) for place, word in enumerate(spoken)]
    varied, timed = reorder(" ".join(spoken), words, vary_order(len(spoken), seeded(seed), drop=drop, swap=swap))
    starts_s = [word["start_s"] for word in timed or ()]
    assert " ".join(word["text"] for word in timed or ()) == varied
    assert starts_s == sorted(set(starts_s))
    assert all(word["end_s"] == word["start_s"] + 0.5 for word in timed or ())


def test_reorder_knows_no_times_of_words_that_are_not_those_of_the_text() -> None:
    assert reorder("it is", [span(0.0, 1.0, text="it's")], [1, 0]) == ("is it", None)


@given(st.lists(st.integers(-32768, 32767), max_size=200), seeds)
def test_vary_audio_keeps_the_length(values: list[int], seed: int) -> None:
    pcm16 = np.array(values, "<i2").tobytes()
    varied = vary_audio(pcm16, seeded(seed), gain_db=12, snr_db=10)
    assert len(varied) == len(pcm16)
    assert varied == vary_audio(pcm16, seeded(seed), gain_db=12, snr_db=10)


def test_vary_audio_adds_noise_at_the_ratio() -> None:
    wave_T = tone(2.0, 16_000, peak=0.3)
    noise_T = from_pcm16(vary_audio(to_pcm16(wave_T), seeded(), gain_db=0, snr_db=20)) - wave_T
    assert 10 * np.log10(np.mean(wave_T**2) / np.mean(noise_T**2)) == pytest.approx(20, abs=0.2)


def test_vary_audio_changes_the_gain_without_clipping() -> None:
    loud = to_pcm16(tone(0.5, 16_000, peak=0.9))
    peaks = [peak_dbfs(from_pcm16(vary_audio(loud, seeded(seed), gain_db=12, snr_db=90))) for seed in range(20)]
    assert max(peaks) == pytest.approx(0, abs=0.01)
    assert min(peaks) < -6


def test_vary_audio_keeps_silence() -> None:
    assert vary_audio(bytes(100), seeded(), gain_db=12, snr_db=0) == bytes(100)


def test_vary_audio_is_pinned() -> None:
    # Stored variants are identified by their seed: the same seed must give the same samples for ever.
    varied = vary_audio(np.arange(-500, 500, dtype="<i2").tobytes(), seeded(7), gain_db=6, snr_db=20)
    assert hashlib.sha256(varied).hexdigest()[:16] == "b31ce93a44338387"


@pytest.mark.parametrize("encode", [encode_png, encode_jpeg])
def test_vary_image_keeps_size_and_format(encode) -> None:
    encoded = encode(pixels())
    varied = vary_image(encoded, seeded(3), crop=0.2, light=0.3)
    assert varied == vary_image(encoded, seeded(3), crop=0.2, light=0.3)
    assert varied != vary_image(encoded, seeded(4), crop=0.2, light=0.3)
    assert varied[:4] == encoded[:4]
    assert decode_pixels(varied).shape == pixels().shape


def test_vary_image_without_strength_changes_nothing() -> None:
    assert np.array_equal(decode_pixels(vary_image(encode_png(pixels()), seeded(), crop=0, light=0)), pixels())


def test_vary_image_crops() -> None:
    ramp_HWC = np.repeat(np.tile(np.arange(64, dtype=np.uint8), (48, 1))[:, :, None], 3, axis=2)
    varied_HWC = decode_pixels(vary_image(encode_png(ramp_HWC), seeded(1), crop=0.5, light=0)).astype(int)
    width_px = varied_HWC.max() - varied_HWC.min() + 1
    assert 32 <= width_px < 64
    assert (np.diff(varied_HWC[0, :, 0]) >= 0).all()


def test_vary_image_survives_the_smallest_crop() -> None:
    assert decode_pixels(vary_image(encode_png(pixels(1, 1)), seeded(), crop=1, light=1)).shape == (1, 1, 3)


def test_vary_frames_varies_all_frames_alike() -> None:
    frame = encode_png(pixels())
    varied = vary_frames([frame] * 3, seeded(5), crop=0.3, light=0.3)
    assert len(set(varied)) == 1
    assert varied[0] == vary_image(frame, seeded(5), crop=0.3, light=0.3)
