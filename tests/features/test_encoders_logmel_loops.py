import cv2
import numpy as np
import pytest
from audio_encoding import chirp, load_encoder
from hypothesis import given
from hypothesis import strategies as st

from features.encoders.logmel_loops import measure

NUM_BANDS, NUM_COEFFICIENTS = 6, 3
FLOOR = 1e-10
COSINES_CM = np.random.default_rng(2).standard_normal((NUM_COEFFICIENTS, NUM_BANDS)).astype(np.float32)


def filters(num_fft: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stretches of bins that overlap, one of them empty, and one that covers all; and their weights."""
    num_bins = num_fft // 2 + 1
    starts_M = np.array([0, 1, num_bins // 3, 5, num_bins - 2, 0])
    stops_M = np.array([2, num_bins // 2, num_bins - 1, 5, num_bins, num_bins])
    return starts_M, stops_M, np.random.default_rng(1).random((stops_M - starts_M).sum()).astype(np.float32)


def measured(windows_TN: np.ndarray) -> np.ndarray:
    spectra_TN = cv2.dft(windows_TN.astype(np.float32), None, cv2.DFT_ROWS)
    measured_TD = np.full((len(windows_TN), NUM_BANDS + NUM_COEFFICIENTS), -1, np.float32)
    measure(spectra_TN, *filters(windows_TN.shape[1]), COSINES_CM, FLOOR, measured_TD)
    return measured_TD


def noise(num_windows: int, num_fft: int) -> np.ndarray:
    return np.random.default_rng(num_windows).standard_normal((num_windows, num_fft)).astype(np.float32)


@pytest.mark.parametrize("num_fft", [128, 256, 2_048])
@pytest.mark.parametrize("num_windows", [1, 63, 64, 200])
@pytest.mark.parametrize("level", [1e-9, 1e-3, 1, 1e9])
def test_measures_what_the_formula_says(num_windows, num_fft, level):
    windows_TN = level * noise(num_windows, num_fft)
    power_TF = np.abs(np.fft.rfft(windows_TN.astype(np.float64))) ** 2
    starts_M, stops_M, weights = filters(num_fft)
    parts = np.split(weights, np.cumsum(stops_M - starts_M)[:-1])
    bands = [power_TF[:, start:stop] @ part for start, stop, part in zip(starts_M, stops_M, parts, strict=True)]
    logmel_TM = np.log(np.maximum(np.stack(bands, axis=1), FLOOR))
    found_TD = measured(windows_TN)
    assert np.allclose(found_TD[:, :NUM_BANDS], logmel_TM, rtol=1e-6, atol=3e-5)
    assert np.allclose(found_TD[:, NUM_BANDS:], logmel_TM @ COSINES_CM.T, rtol=1e-5, atol=2e-4)


def logarithms(levels: np.ndarray) -> np.ndarray:
    """Of the levels squared, each the only bin that is not 0, as in the spectrum of a constant."""
    spectra_TN = np.zeros((len(levels), 128), np.float32)
    spectra_TN[:, 0] = levels
    measured_TD = np.empty((len(levels), 2), np.float32)
    places = np.array([0, 0]), np.array([1, 1])
    measure(spectra_TN, *places, np.ones(2, np.float32), np.empty((0, 2), np.float32), FLOOR, measured_TD)
    return measured_TD[:, 0]


def test_logarithms_are_right_to_two_steps_from_the_floor_to_where_float32_ends() -> None:
    exponents = np.arange(-33, 128, dtype=np.float64)
    everywhere = np.outer(2**exponents, np.linspace(1, 1.999, 99)).ravel()
    bits = np.arange(0x3F000000, 0x40000000, 97, dtype=np.int32)  # of 0.5 to 2
    levels = np.sqrt(np.concatenate([everywhere, bits.view(np.float32)])).astype(np.float32)
    powers = (levels**2).astype(np.float64)
    exact_T = np.log(powers[powers > FLOOR])
    away_T = np.abs(logarithms(levels[powers > FLOOR]) - exact_T)
    assert (away_T <= 2 * np.spacing(np.abs(exact_T).astype(np.float32))).all()


@pytest.mark.parametrize("num_fft", [128, 512, 4_096])
@pytest.mark.parametrize("num_windows", [1, 64, 129])
def test_steps_are_rounded_one_by_one_in_their_order(num_windows, num_fft):
    """numpy's bytes, step by step: nothing is fused or reordered, whatever processor the loops are compiled for."""
    spectra_TN = noise(num_windows, num_fft)
    starts_M, stops_M, weights = filters(num_fft)
    inner_TN = spectra_TN[:, 1:-1]
    pairs_TF = inner_TN[:, ::2] * inner_TN[:, ::2] + inner_TN[:, 1::2] * inner_TN[:, 1::2]
    power_TF = np.concatenate([spectra_TN[:, :1] ** 2, pairs_TF, spectra_TN[:, -1:] ** 2], axis=1)
    bands_TM, used = np.zeros((num_windows, NUM_BANDS), np.float32), iter(weights)
    for band, (start, stop) in enumerate(zip(starts_M, stops_M, strict=True)):
        for place in range(start, stop):
            bands_TM[:, band] += next(used) * power_TF[:, place]
    logmel_TM = logarithms_step_by_step(np.maximum(bands_TM, np.float32(FLOOR)))
    mfcc_TC = np.zeros((num_windows, NUM_COEFFICIENTS), np.float32)
    for band in range(0, NUM_BANDS, 2):
        pair_T2 = logmel_TM[:, band : band + 2]
        mfcc_TC += COSINES_CM[:, band] * pair_T2[:, :1] + COSINES_CM[:, band + 1] * pair_T2[:, 1:]
    found_TD = np.empty((num_windows, NUM_BANDS + NUM_COEFFICIENTS), np.float32)
    measure(spectra_TN, starts_M, stops_M, weights, COSINES_CM, FLOOR, found_TD)
    assert found_TD.tobytes() == np.concatenate([logmel_TM, mfcc_TC], axis=1).tobytes()


def logarithms_step_by_step(values: np.ndarray) -> np.ndarray:
    """By the same series as the loop's, each step in float32."""
    mantissas, exponents = np.frexp(values)
    is_small = mantissas.view(np.int32) < 0x3F3504F3  # the bits of sqrt(1/2)
    mantissas = np.where(is_small, 2 * mantissas, mantissas)
    exponents = (exponents - is_small).astype(np.float32)
    one, two = np.float32(1), np.float32(2)
    z = (mantissas - one) / (mantissas + one)
    square, (third, fifth, seventh, ninth) = z * z, np.float32([2 / 3, 2 / 5, 2 / 7, 2 / 9])
    rest = z * square * (third + square * (fifth + square * (seventh + square * ninth)))
    high = np.float32(0.693359375)
    return exponents * high + (two * z + (rest + exponents * np.float32(np.log(2) - float(high))))


def test_the_loops_are_compiled_once() -> None:
    load_encoder("logmel-mfcc").encode_each([chirp(8_000).wave_T, chirp(400).wave_T])
    assert len(measure.signatures) == 1


@given(st.integers(0, 150), st.integers(1, 150))
def test_a_window_gets_the_same_bytes_in_any_company(first, num_windows):
    windows_TN = noise(300, 128)
    assert measured(windows_TN[first : first + num_windows]).tobytes() == (
        measured(windows_TN)[first : first + num_windows].tobytes()
    )


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_not_finite_stays_so_and_touches_no_other_window(broken):
    windows_TN = noise(130, 128)
    sound_TD = measured(windows_TN)
    windows_TN[70, 3] = broken
    found_TD = measured(windows_TN)
    whole = filters(128)[1] == 65  # the filters to the last bin, among them the one that covers all
    assert not np.isfinite(found_TD[70, :NUM_BANDS][whole]).any()
    assert not np.isfinite(found_TD[70, NUM_BANDS:]).any()
    assert np.delete(found_TD, 70, axis=0).tobytes() == np.delete(sound_TD, 70, axis=0).tobytes()


def test_silence_has_the_logarithm_of_the_floor():
    assert np.allclose(measured(np.zeros((2, 128)))[:, :NUM_BANDS], np.log(FLOOR), rtol=1e-7)
