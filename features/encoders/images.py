"""Images and frames for a network: decoded to RGB and shaped, each on its own."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from features.encoders.base import Media, Prepared, Video
from features.encoders.timing import spending
from features.reasons import MediaError, Reason

if TYPE_CHECKING:
    from torch import Tensor

Transform = Callable[[Image.Image], np.ndarray]
"""RGB image to float32 [channel, height, width], of one shape whatever the image's size."""


def decode_image(encoded: bytes) -> Image.Image:
    """An encoded image in RGB. Raises MediaError if it is none, or breaks off."""
    try:
        with spending("decode"):
            return Image.open(BytesIO(encoded)).convert("RGB")
    except UnidentifiedImageError as error:
        raise MediaError(Reason.UNDECODABLE, "not an image in a format that Pillow knows") from error
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        is_cut = "truncated" in str(error)
        raise MediaError(Reason.TRUNCATED if is_cut else Reason.UNDECODABLE, f"image: {error}") from error


def as_array(transform: Callable[[Image.Image], Tensor]) -> Transform:
    """A library's transform to tensors, as prepare_images takes it."""

    def shape(image: Image.Image) -> np.ndarray:
        pixels_CHW: np.ndarray = transform(image).numpy()
        return pixels_CHW

    return shape


def prepare_images(transform: Transform, media: Media) -> Prepared:
    """An image as one unit, or a video as one unit a frame, decoded when it is taken."""
    if isinstance(media, bytes):
        return Prepared([transform(decode_image(media))], np.full((1, 2), np.nan))
    if isinstance(media, Video):
        if not media.frames:
            raise MediaError(Reason.EMPTY, "a video without frames")
        return Prepared(_decode_frames(transform, media.frames), frame_intervals(media))
    raise TypeError(f"an image encoder takes encoded images and videos, not {type(media).__name__}")


def _decode_frames(transform: Transform, frames: Sequence[bytes]) -> Iterator[np.ndarray]:
    for frame in frames:
        yield transform(decode_image(frame))


def frame_intervals(video: Video) -> np.ndarray:
    """float64 [frame, (start, end)]: a frame lasts until the next one comes, the last until the video ends; one that
    was on screen before the sample began, from its beginning."""
    start_T = np.maximum(np.asarray(video.times_s, np.float64), 0.0)
    return np.stack([start_T, np.append(start_T[1:], video.end_s)], axis=1)
