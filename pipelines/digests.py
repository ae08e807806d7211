"""Digests of a sample's modalities: of the very bytes that an encoder will be given."""

import numpy as np

from features.rev import digest_bytes
from features.sample import MediaRow


def sample_digests(row: MediaRow) -> dict[str, str | None]:
    """Digest of each modality of a row of MEDIA_SCHEMA, null where it is absent."""
    return {"text": _text(row), "image": _image(row), "audio": _audio(row), "video": _video(row)}


def _text(row: MediaRow) -> str | None:
    return None if row["text"] is None else digest_bytes(row["text"].encode())


def _image(row: MediaRow) -> str | None:
    return None if row["image"] is None else digest_bytes(row["image"])


def _audio(row: MediaRow) -> str | None:
    """The sound and its place from the start of the segment, as for video."""
    if row["audio"] is None:
        return None
    return digest_bytes(row["audio"], str(row["audio_rate_hz"]).encode(), _times_us(row, [row["audio_start_s"]]))


def _video(row: MediaRow) -> str | None:
    """Frames and their times from the start of the segment, so that a shift of the whole recording changes nothing."""
    if row["frames"] is None:
        return None
    return digest_bytes(_times_us(row, [*row["frame_times_s"], row["frames_end_s"]]), *row["frames"])


def _times_us(row: MediaRow, times_s: list[float]) -> bytes:
    return np.rint((np.array(times_s) - row["start_s"]) * 1e6).astype("<i8").tobytes()
