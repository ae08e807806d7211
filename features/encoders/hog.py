"""Histograms of oriented gradients, which OpenCV has no longer since its fifth version."""

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

CELL_PX = 8
_BLOCK_PX = 2 * CELL_PX
_NUM_BINS = 9
_CLIP = 0.2


def hog(pixels_YXC: np.ndarray) -> np.ndarray:
    """The descriptor of an image: 9 orientations in cells of 8 pixels, in overlapping blocks of 2 x 2 cells.

    pixels_YXC: uint8, its sides multiples of 8 and at least 16. Gradients are of the channel in which they are largest;
    votes are shared between neighbouring orientations and cells, with a Gaussian over the block; blocks are normalised,
    clipped at 0.2 and normalised again.
    Returns float32 [36 * blocks], in the order of cv2.HOGDescriptor of OpenCV 4: blocks column by column, in each its
    cells column by column, in each its orientations.
    Source: Dalal and Triggs, Histograms of Oriented Gradients for Human Detection, 2005, with the parameters, borders
    and small constants of cv2.HOGDescriptor(size, (16, 16), (8, 8), (8, 8), 9).
    """
    votes_YXO = _votes(pixels_YXC)
    windows_YXOyx = sliding_window_view(votes_YXO, (_BLOCK_PX, _BLOCK_PX), axis=(0, 1))[::CELL_PX, ::CELL_PX]
    # Not by BLAS, whose sums depend on how many threads it takes.
    blocks_XYCO = np.einsum("YXOyx,Cyx->XYCO", windows_YXOyx, _cell_weights())
    blocks_BD = blocks_XYCO.reshape(-1, 4 * _NUM_BINS)
    blocks_BD = blocks_BD / (_lengths(blocks_BD) + 0.1 * blocks_BD.shape[1])
    blocks_BD = np.minimum(blocks_BD, _CLIP)
    return (blocks_BD / (_lengths(blocks_BD) + 1e-3)).astype(np.float32).ravel()


def _lengths(blocks_BD: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(blocks_BD).sum(axis=1, keepdims=True))


def _votes(pixels_YXC: np.ndarray) -> np.ndarray:
    """float64 [row, column, orientation]: the gradient of each pixel, shared between the two nearest orientations."""
    padded = np.pad(pixels_YXC.astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="reflect")
    dx_YXC = padded[1:-1, 2:] - padded[1:-1, :-2]
    dy_YXC = padded[2:, 1:-1] - padded[:-2, 1:-1]
    largest_YX1 = (dx_YXC**2 + dy_YXC**2).argmax(axis=2, keepdims=True)
    dx_YX, dy_YX = (np.take_along_axis(d_YXC, largest_YX1, axis=2)[..., 0] for d_YXC in (dx_YXC, dy_YXC))
    place_YX = np.mod(np.arctan2(dy_YX, dx_YX), np.pi) * (_NUM_BINS / np.pi) - 0.5
    lower_YX = np.floor(place_YX)
    upper_share_YX = place_YX - lower_YX
    size_YX = np.hypot(dx_YX, dy_YX)
    votes_YXO = np.zeros((*size_YX.shape, _NUM_BINS))
    for orientation_YX, share_YX in ((lower_YX, 1 - upper_share_YX), (lower_YX + 1, upper_share_YX)):
        index_YX1 = np.mod(orientation_YX, _NUM_BINS).astype(np.int64)[..., None]
        np.put_along_axis(votes_YXO, index_YX1, (size_YX * share_YX)[..., None], axis=2)
    return votes_YXO


@cache
def _cell_weights() -> np.ndarray:
    """float64 [cell, row, column]: how much a pixel of a block counts in each of its cells, column by column."""
    pixel = np.arange(_BLOCK_PX)
    gaussian = np.exp(-((pixel - _BLOCK_PX / 2) ** 2) / (2 * (_BLOCK_PX / 4) ** 2))
    place = (pixel + 0.5) / CELL_PX - 0.5
    sides = [gaussian * np.clip(1 - np.abs(place - cell), 0, None) for cell in (0, 1)]
    return np.stack([np.outer(rows, columns) for columns in sides for rows in sides])
