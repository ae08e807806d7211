"""Videos by how their pixels move from one frame to the next."""

from collections.abc import Iterator
from functools import partial

import cv2
import numpy as np

from features.encoders.base import Encoder, Media, Prepared, Video
from features.encoders.descriptors import descriptor_encoder
from features.encoders.images import decode_image
from features.encoders.options import read_options
from features.reasons import MediaError, Reason
from features.view import View

# Farneback's method as OpenCV's documentation calls it; DIS would be twice as fast, but splits its work by threads.
_FARNEBACK = {
    "pyr_scale": 0.5,
    "levels": 3,
    "winsize": 15,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.2,
    "flags": 0,
}


def make_flow(model: str, view: View) -> Encoder:
    """Encoder by the optical flow between neighbouring frames, found at size_px a side: see describe_flow."""
    options = read_options(view, size_px=128, bins=8, grid=4)
    return descriptor_encoder(
        view,
        partial(_prepare, options["size_px"], options["bins"], options["grid"]),
        inputs={"video"},
        settings=options,
        about={"size_px": options["size_px"], "dim": options["bins"] + options["grid"] ** 2},
        modules=("optical_flow",),
    )


def describe_flow(flow_YX2: np.ndarray, seconds: float, *, bins: int, grid: int) -> np.ndarray:
    """Directions and places of motion.

    flow_YX2: float32 [row, column, (x, y)], by how many pixels each one moved in so many seconds.
    Returns float32 [bins + grid ** 2]: the mean speed of all pixels, split by direction (the first bin is centred on
    motion to the right, the others follow clockwise), then the mean speed in each cell of a grid, row by row.
    Speeds are in sides of the picture a second, and so depend neither on its size nor on the frame rate.
    """
    velocity_YX2 = flow_YX2 / (np.array(flow_YX2.shape[1::-1]) * seconds)
    speed_YX = np.hypot(velocity_YX2[..., 0], velocity_YX2[..., 1])
    turns_YX = np.arctan2(velocity_YX2[..., 1], velocity_YX2[..., 0]) / (2 * np.pi)
    bin_YX = np.rint(turns_YX * bins).astype(np.int64) % bins
    directions = np.bincount(bin_YX.ravel(), speed_YX.ravel(), bins) / speed_YX.size
    places = cv2.resize(speed_YX, (grid, grid), interpolation=cv2.INTER_AREA)
    return np.concatenate([directions, places.ravel()]).astype(np.float32)


def _prepare(size_px: int, bins: int, grid: int, media: Media) -> Prepared:
    """One unit for each two neighbouring frames, over the time from one to the other within the sample; a single frame
    stands still."""
    if not isinstance(media, Video):
        raise TypeError(f"optical flow takes videos, not {type(media).__name__}")
    if not media.frames:
        raise MediaError(Reason.EMPTY, "a video without frames")
    times_T = np.asarray(media.times_s, np.float64)
    if len(times_T) == 1:
        times_T = np.append(times_T, media.end_s)
    units = _describe_pairs(media, size_px=size_px, bins=bins, grid=grid)
    return Prepared(units, np.maximum(np.stack([times_T[:-1], times_T[1:]], axis=1), 0.0))


def _describe_pairs(video: Video, *, size_px: int, bins: int, grid: int) -> Iterator[np.ndarray]:
    first_YX = _grey(video.frames[0], size_px)
    if len(video.frames) == 1:
        yield np.zeros(bins + grid**2, np.float32)
    for frame, seconds in zip(video.frames[1:], np.diff(video.times_s).tolist(), strict=True):
        second_YX = _grey(frame, size_px)
        flow_YX2 = cv2.calcOpticalFlowFarneback(first_YX, second_YX, None, **_FARNEBACK)
        yield describe_flow(flow_YX2, seconds, bins=bins, grid=grid)
        first_YX = second_YX


def _grey(encoded: bytes, size_px: int) -> np.ndarray:
    """uint8 [row, column], square whatever the frame's shape."""
    pixels_YX: np.ndarray = cv2.cvtColor(np.asarray(decode_image(encoded)), cv2.COLOR_RGB2GRAY)
    return cv2.resize(pixels_YX, (size_px, size_px), interpolation=cv2.INTER_AREA)
