"""The picture of a recording: handwritten digits that move over a moving, noisy background."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipelines.synthesis.script import Interval

SIZE_PX = 128
RATE_HZ = 15

_GLYPH_PX = 8
_SIZE = (0.6, 0.8)  # of a digit's picture, in frames
_SLANT_RAD = (-0.2, 0.2)
_GREY, _INK = 110.0, 90.0  # levels of the ground, and of ink above it
_NEUTRAL = 128.0  # of the colour planes

_TEXTURE = 15.0  # levels by which the ground varies
_TEXTURE_PX, _TEXTURE_CELLS = 512, 12  # larger than the frame, which sways over it
_SWAY_RAD = (-0.015, 0.015)  # phase a frame
_TINT = (-0.5, 0.5)  # colour of the ground's light and dark places


@dataclass(frozen=True)
class Motion:
    """How a digit moves while it is shown: centre, size and slant at its beginning and at its end."""

    centre_px: tuple[np.ndarray, np.ndarray]
    size_px: tuple[float, float]
    slant_rad: tuple[float, float]

    def transform(self, progress: float) -> np.ndarray:
        """The affine map from the digit's own pixels to the frame at a share of the time it is shown."""
        centre = self.centre_px[0] + progress * (self.centre_px[1] - self.centre_px[0])
        scale = np.interp(progress, (0, 1), self.size_px) / _GLYPH_PX
        slant = np.interp(progress, (0, 1), self.slant_rad)
        turn = scale * np.array([[np.cos(slant), -np.sin(slant)], [np.sin(slant), np.cos(slant)]])
        shift = centre - turn @ np.full(2, (_GLYPH_PX - 1) / 2)
        return np.column_stack([turn, shift])


def choose_motion(rng: np.random.Generator) -> Motion:
    """A motion at random that keeps the digit within the frame, but perhaps for the corners of its picture."""
    sizes = rng.uniform(*_SIZE, size=2) * SIZE_PX
    slants = rng.uniform(*_SLANT_RAD, size=2)
    margin = 0.55 * sizes.max()
    starts, ends = rng.uniform(margin, SIZE_PX - margin, size=(2, 2))
    return Motion((starts, ends), (float(sizes[0]), float(sizes[1])), (float(slants[0]), float(slants[1])))


def draw_frames(
    glyphs: Sequence[np.ndarray], intervals: Sequence[Interval], num_frames: int, noise: float, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """The frames in turn, uint8 [3 * SIZE_PX / 2, SIZE_PX]: the planes of yuv420p one below the other.

    glyphs: float32 [8, 8] each, 0 paper to 1 ink; noise: standard deviation of a pixel, in ink, drawn anew each frame.
    """
    texture = _make_texture(rng)
    sway_rad = rng.uniform(*_SWAY_RAD, size=2)
    tints = rng.uniform(*_TINT, size=2)
    motions = [choose_motion(rng) for _ in glyphs]
    for number in range(num_frames):
        corner = (_TEXTURE_PX - SIZE_PX) / 2 * (1 + np.sin(number * sway_rad))
        ground = _cut_texture(texture, corner)
        luma = _GREY + ground
        time_s = number / RATE_HZ
        for glyph, interval, motion in zip(glyphs, intervals, motions, strict=True):
            if interval.start_s <= time_s < interval.end_s:
                progress = (time_s - interval.start_s) / (interval.end_s - interval.start_s)
                luma += _INK * _draw(glyph, motion.transform(progress))
        luma += noise * _INK * rng.standard_normal((SIZE_PX, SIZE_PX), dtype=np.float32)
        yield _to_planes(luma, ground, tints)


def _make_texture(rng: np.random.Generator) -> np.ndarray:
    cells = rng.standard_normal((_TEXTURE_CELLS, _TEXTURE_CELLS)).astype(np.float32)
    texture: np.ndarray = cv2.resize(cells, (_TEXTURE_PX, _TEXTURE_PX), interpolation=cv2.INTER_CUBIC) * _TEXTURE
    return texture


def _cut_texture(texture: np.ndarray, corner: np.ndarray) -> np.ndarray:
    x, y = (int(edge) for edge in corner)
    return texture[y : y + SIZE_PX, x : x + SIZE_PX].copy()


def _draw(glyph: np.ndarray, transform: np.ndarray) -> np.ndarray:
    drawn: np.ndarray = cv2.warpAffine(glyph, transform, (SIZE_PX, SIZE_PX), flags=cv2.INTER_CUBIC)
    return drawn


def _to_planes(luma: np.ndarray, ground: np.ndarray, tints: np.ndarray) -> np.ndarray:
    half = ground[::2, ::2]
    planes = [luma.ravel(), *((_NEUTRAL + tint * half).ravel() for tint in tints)]
    return np.clip(np.concatenate(planes), 0, 255).astype(np.uint8).reshape(-1, SIZE_PX)
