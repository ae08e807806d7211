"""Log-mel bands and MFCC of many spectra in one compiled loop, which lets go of the interpreter's lock once.

It goes by blocks of windows, and within a block all windows take each step together: a processor does that for 8 or 16
of them at a time, without one step waiting for another. Each window's numbers are added in one order, and nothing is
fused or reordered, so it gets the same bytes in any company, and by any processor.
"""

import numpy as np
from numba import types

from features.compiling import compiled

_WINDOWS = 64  # of a block; with fewer of them numba would compile no steps that take several at a time
_BINS = 64  # that are read of one window after the other: the processor's first cache holds those of a block
_EXPONENT, _MANTISSA = np.int32(23), np.int32(0x7FFFFF)  # where a float32 has them
_HALF_ROOT = np.int32(0x3F3504F3)  # the bits of sqrt(1/2)
# ln 2 in two parts, of which the first has few enough bits for its product with an exponent to be exact.
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(np.log(2.0) - 0.693359375)
_THIRD, _FIFTH, _SEVENTH, _NINTH = (np.float32(2 / divisor) for divisor in (3, 5, 7, 9))
_ONE, _TWO = np.float32(1), np.float32(2)

_Row = types.Array(types.float32, 1, "C")
_Rows = types.Array(types.float32, 2, "C")
_Counts = types.Array(types.int64, 1, "C")


@compiled(nogil=True)
def _turn_powers(spectra_TN: np.ndarray, power_FT: np.ndarray) -> None:
    """Put the squared magnitudes of up to _WINDOWS packed spectra into the columns of power_FT."""
    num_windows, num_numbers = spectra_TN.shape
    half = num_numbers // 2
    for window in range(num_windows):
        power_FT[0, window] = spectra_TN[window, 0] ** 2
        power_FT[half, window] = spectra_TN[window, num_numbers - 1] ** 2
    for first in range(1, half, _BINS):
        last = min(first + _BINS, half)
        for window in range(num_windows):
            pairs, powers = spectra_TN[window, 2 * first - 1 : 2 * last - 1], power_FT[first:last, window]
            for place in range(last - first):
                powers[place] = pairs[2 * place] ** 2 + pairs[2 * place + 1] ** 2


@compiled(nogil=True)
def _filter_bands(
    power_FT: np.ndarray, starts_M: np.ndarray, stops_M: np.ndarray, weights: np.ndarray, bands_MT: np.ndarray
) -> None:
    """Put into each row of bands_MT the rows of power_FT from its start to its stop, each times the next weight."""
    used = 0
    for band in range(len(starts_M)):
        sums = bands_MT[band]
        sums[:] = 0
        for place in range(starts_M[band], stops_M[band]):
            weight, powers = weights[used], power_FT[place]
            used += 1
            for window in range(_WINDOWS):
                sums[window] += weight * powers[window]


@compiled(nogil=True, error_model="numpy")  # else each division would be tried for zero, one after the other
def _take_logarithms(values: np.ndarray, floor: float, exponents: np.ndarray, mantissas: np.ndarray) -> None:
    """Replace each value, or the floor where it is below it, by its natural logarithm; the others are room to work in.

    For m of sqrt(1/2) to sqrt(2), ln(2^e m) = e ln 2 + 2 artanh(z) with z = (m - 1) / (m + 1), whose series is
    z + z^3/3 + z^5/5 + ..; |z| < 0.172, so what comes behind the ninth power is below a fortieth of a step of float32.
    Infinity and NaN become NaN.
    """
    bits, bits_of_mantissas = values.view(np.int32), mantissas.view(np.int32)
    for place in range(values.size):
        values[place] = floor if values[place] < floor else values[place]  # a NaN stays one
    for place in range(values.size):
        away = np.int32(bits[place] - _HALF_ROOT)
        exponents[place] = np.float32(np.int32(away >> _EXPONENT))
        bits_of_mantissas[place] = np.int32(np.int32(away & _MANTISSA) + _HALF_ROOT)
    for place in range(values.size):
        mantissa, exponent = mantissas[place], exponents[place]
        z = (mantissa - _ONE) / (mantissa + _ONE)
        square = z * z
        rest = z * square * (_THIRD + square * (_FIFTH + square * (_SEVENTH + square * _NINTH)))
        logarithm = exponent * _LN2_HIGH + (_TWO * z + (rest + exponent * _LN2_LOW))
        values[place] = logarithm + (values[place] - values[place])  # less itself each finite number is 0


@compiled((_Rows, _Counts, _Counts, _Row, _Rows, types.float64, _Rows), nogil=True)
def measure(
    spectra_TN: np.ndarray,
    starts_M: np.ndarray,
    stops_M: np.ndarray,
    weights: np.ndarray,
    cosines_CM: np.ndarray,
    floor: float,
    measured_TD: np.ndarray,
) -> None:
    """Put the log-mel bands of each spectrum (natural logarithm of power, at least floor) into the row of measured_TD,
    and then their MFCC.

    spectra_TN: float32 [window, N] as OpenCV packs them: the real part at 0 Hz, then a real and an imaginary part in
    turn, and the real part at half the rate. starts_M and stops_M: int64 [band], the stretch of bins that a band's
    filter covers; weights: float32, of all stretches in turn; cosines_CM: float32 [coefficient, band], an even number
    of bands; measured_TD: float32 [window, band + coefficient].
    """
    num_windows, num_numbers = spectra_TN.shape
    num_coefficients, num_bands = cosines_CM.shape
    # What lies behind the last window of a block is worked on as well, and touches no other.
    power_FT = np.zeros((num_numbers // 2 + 1, _WINDOWS), np.float32)
    bands_MT, sums = np.empty((num_bands, _WINDOWS), np.float32), np.empty(_WINDOWS, np.float32)
    exponents, mantissas = np.empty(bands_MT.size, np.float32), np.empty(bands_MT.size, np.float32)
    for first in range(0, num_windows, _WINDOWS):
        last = min(first + _WINDOWS, num_windows)
        _turn_powers(spectra_TN[first:last], power_FT)
        _filter_bands(power_FT, starts_M, stops_M, weights, bands_MT)
        _take_logarithms(bands_MT.reshape(-1), np.float32(floor), exponents, mantissas)
        for window in range(last - first):
            for band in range(num_bands):
                measured_TD[first + window, band] = bands_MT[band, window]
        for coefficient in range(num_coefficients):
            sums[:] = 0
            for band in range(0, num_bands, 2):
                cosine, next_cosine = cosines_CM[coefficient, band], cosines_CM[coefficient, band + 1]
                bands, next_bands = bands_MT[band], bands_MT[band + 1]
                for window in range(_WINDOWS):
                    sums[window] += cosine * bands[window] + next_cosine * next_bands[window]
            for window in range(last - first):
                measured_TD[first + window, num_bands + coefficient] = sums[window]
