"""Media as files that other tools read: what a WebDataset shard holds."""

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
import soundfile
from PIL import Image

_TIME_BASE = Fraction(1, 90_000)


def image_suffix(encoded: bytes) -> str:
    """The extension of an encoded image, "png" or "jpg"."""
    return "png" if encoded.startswith(b"\x89PNG") else "jpg"


def flac_bytes(pcm16: bytes, rate_hz: int) -> bytes:
    """Mono 16-bit samples as a FLAC file: lossless, and about half the size."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.frombuffer(pcm16, "<i2"), rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def video_bytes(frames: Sequence[bytes], times_s: np.ndarray, end_s: float) -> bytes:
    """JPEG frames as a Motion-JPEG mp4 with their own presentation times.

    times_s: [frame], rising; end_s: when the last frame ends. The frames are not encoded again.
    """
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(frames[0])) as first:  # reads the header only
        width_px, height_px = first.size
    ticks = np.rint(np.maximum([*times_s, end_s], 0) / float(_TIME_BASE)).astype(int).tolist()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, "yuvj420p"
        stream.time_base = _TIME_BASE
        for frame, start, stop in zip(frames, ticks, ticks[1:], strict=False):
            packet = av.Packet(frame)
            packet.stream, packet.time_base = stream, _TIME_BASE
            packet.pts = packet.dts = start
            packet.duration = max(stop - start, 1)
            packet.is_keyframe = True
            container.mux(packet)
    return buffer.getvalue()
