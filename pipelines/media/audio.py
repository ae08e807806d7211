"""Audio in memory: loudness, silence, 16-bit PCM and its slices."""

import math

import numpy as np

from features.reasons import MediaError, Reason
from features.sample import MediaRow

PEAK_LIMIT_DBFS = -1.0
_BLOCK_S = 0.4  # the measuring block of BS.1770
_MEASURED_PEAK = 0.5  # the measuring filter clips at full scale and adds up to 4 dB
_PCM_SCALE = 32768.0
_PCM_BYTES = 2


def peak_dbfs(wave_T: np.ndarray) -> float:
    """Highest magnitude in decibels of full scale; minus infinity if there is none."""
    peak = float(np.max(np.abs(wave_T), initial=0.0))
    return 20 * math.log10(peak) if peak > 0 else -math.inf


def is_silent(wave_T: np.ndarray, silence_dbfs: float) -> bool:
    """Whether the loudest sample stays below the level, in dB relative to full scale."""
    return peak_dbfs(wave_T) < silence_dbfs


def check_not_silent(wave_T: np.ndarray, silence_dbfs: float) -> None:
    """Raise MediaError SILENT if no sample reaches silence_dbfs."""
    if is_silent(wave_T, silence_dbfs):
        raise MediaError(
            Reason.SILENT, f"audio peaks at {peak_dbfs(wave_T):.1f} dBFS; below {silence_dbfs:g} dBFS it is silent"
        )


def measure_lufs(wave_T: np.ndarray, rate_hz: int) -> float:
    """Integrated loudness of mono audio; minus infinity where all of it is below the gate of -70 LUFS.

    A clip shorter than one measuring block is repeated to fill it.
    Source: ITU-R BS.1770-4, by torchaudio.
    """
    import torch
    import torchaudio

    peak = float(np.max(np.abs(wave_T), initial=0.0))
    if peak == 0:
        return -math.inf
    block_T = np.tile(wave_T, math.ceil(round(_BLOCK_S * rate_hz) / len(wave_T)))
    scale = min(1.0, _MEASURED_PEAK / peak)
    measured = torchaudio.functional.loudness(torch.from_numpy(np.float32(scale) * block_T)[None], rate_hz)
    lufs = float(measured) - 20 * math.log10(scale)
    return lufs if math.isfinite(lufs) else -math.inf


def normalise_loudness(wave_T: np.ndarray, rate_hz: int, *, target_lufs: float) -> np.ndarray:
    """Bring the integrated loudness to target_lufs, or as near as a peak of PEAK_LIMIT_DBFS allows.

    wave_T: float32 [sample]. Audio too faint to have a loudness keeps its level.
    """
    lufs = measure_lufs(wave_T, rate_hz)
    wanted_db = target_lufs - lufs if math.isfinite(lufs) else 0.0
    gain_db = min(wanted_db, PEAK_LIMIT_DBFS - peak_dbfs(wave_T))
    if math.isinf(gain_db):
        return wave_T
    return wave_T * np.float32(10 ** (gain_db / 20))


def to_pcm16(wave_T: np.ndarray) -> bytes:
    """Signed 16-bit little endian; what lies beyond full scale is clipped."""
    return np.clip(np.rint(wave_T * _PCM_SCALE), -32768, 32767).astype("<i2").tobytes()


def from_pcm16(pcm: bytes | memoryview) -> np.ndarray:
    """float32 [sample], full scale is 1."""
    return np.multiply(np.frombuffer(pcm, "<i2"), np.float32(1 / _PCM_SCALE), dtype=np.float32)  # exactly, in one pass


def stretch_of(drift_ppm: float | None) -> float:
    """How many seconds of the timeline one second of a recorder lasts whose clock drifts; None is no drift."""
    return 1 + (drift_ppm or 0.0) * 1e-6


def true_rate_hz(row: MediaRow) -> float:
    """Samples of a row's audio in a second of the recording's timeline."""
    rate_hz: int = row["audio_rate_hz"]
    return rate_hz / stretch_of(row["audio_drift_ppm"])


def slice_pcm16(pcm: bytes, rate_hz: float, start_s_of_pcm: float, start_s: float, end_s: float) -> bytes | None:
    """The samples within [start_s, end_s), both rounded to the nearest sample; None if there are none.

    rate_hz: samples in a second of the timeline, which are more or fewer than the file says where its clock drifts. The
    first is at max(start_s, start_s_of_pcm), to half a sample. Slices that meet share no sample and leave none out.
    """
    first = max(0, _nearest((start_s - start_s_of_pcm) * rate_hz))
    stop = max(first, _nearest((end_s - start_s_of_pcm) * rate_hz))
    return pcm[first * _PCM_BYTES : stop * _PCM_BYTES] or None


def _nearest(position: float) -> int:
    return math.floor(position + 0.5)  # round() goes to even: two slices that meet could disagree about a half
