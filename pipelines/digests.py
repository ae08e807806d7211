"""Digests of a sample's modalities: of the very bytes that an encoder will be given."""

import struct
from collections.abc import Iterable

from features.errors import ShardError
from features.rev import digest_bytes
from features.sample import TIMED_TEXT, MediaRow


def sample_digests(row: MediaRow) -> dict[str, str | None]:
    """Digest of each modality of a row of MEDIA_SCHEMA, and of its timed text, null where it is absent."""
    return {modality: digest_modality(row, modality) for modality in _DIGESTS}


def digest_modality(row: MediaRow, modality: str) -> str | None:
    """Digest of one modality, null where it is absent; the row need not have the fields of the others."""
    return _DIGESTS[modality](row)


def check_media(row: MediaRow, modalities: Iterable[str], path: str) -> None:
    """Raise ShardError if one of the row's modalities is not what its digest says. path: of the row's shard."""
    for modality in modalities:
        if digest_modality(row, modality) != row["digests"][modality]:
            raise ShardError(
                f"shard {path} is damaged, the {modality} of {row['key']!r} is not what its digest says: delete it and "
                "run 'dvc repro'"
            )


def _text(row: MediaRow) -> str | None:
    return None if row["text"] is None else digest_bytes(row["text"].encode())


def _timed_text(row: MediaRow) -> str | None:
    """The text and its words with their times from the start of the segment; that of the text where none is known."""
    if row["text"] is None or not row["words"] or row["start_s"] is None:
        return _text(row)
    times_s = [time_s for word in row["words"] for time_s in (word["start_s"], word["end_s"])]
    return digest_bytes(
        row["text"].encode(), *((word["text"] or "").encode() for word in row["words"]), _times_us(row, times_s)
    )


def _image(row: MediaRow) -> str | None:
    return None if row["image"] is None else digest_bytes(row["image"])


def _audio(row: MediaRow) -> str | None:
    """The sound and its place from the start of the segment, as for video, and its clock's drift if there is one."""
    if row["audio"] is None:
        return None
    drift = [repr(row["audio_drift_ppm"]).encode()] if row["audio_drift_ppm"] else []
    rate = str(row["audio_rate_hz"]).encode()
    return digest_bytes(row["audio"], rate, _times_us(row, [row["audio_start_s"]]), *drift)


def _video(row: MediaRow) -> str | None:
    """Frames and their times from the start of the segment, so that a shift of the whole recording changes nothing."""
    if row["frames"] is None:
        return None
    return digest_bytes(_times_us(row, [*row["frame_times_s"], row["frames_end_s"]]), *row["frames"])


def _times_us(row: MediaRow, times_s: list[float]) -> bytes:
    start_s = row["start_s"]
    return struct.pack(f"<{len(times_s)}q", *[round((time_s - start_s) * 1e6) for time_s in times_s])


_DIGESTS = {"text": _text, "image": _image, "audio": _audio, "video": _video, TIMED_TEXT: _timed_text}
