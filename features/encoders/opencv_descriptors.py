"""Images and frames by the histogram of their colours, or of their oriented gradients."""

from functools import partial

import cv2
import numpy as np
from PIL import Image

from features.encoders.base import Encoder
from features.encoders.descriptors import descriptor_encoder
from features.encoders.hog import CELL_PX, hog
from features.encoders.images import prepare_images
from features.encoders.options import read_options
from features.errors import EncoderError
from features.view import View

_INPUTS = {"image", "video"}
# How OpenCV gets to the colours, and where its 8-bit channels end.
_SPACES = {"hsv": (cv2.COLOR_RGB2HSV, (180, 256, 256)), "lab": (cv2.COLOR_RGB2Lab, (256, 256, 256))}


def make_histogram(model: str, view: View) -> Encoder:
    """Encoder by the joint histogram of an image's colours: bins ** 3 shares of its pixels."""
    options = read_options(view, bins=8, space="hsv")
    if options["space"] not in _SPACES:
        raise EncoderError(
            f"view {view.name!r}: option 'space' of encoder {view.encoder!r} is {options['space']!r}; "
            f"it must be {' or '.join(_SPACES)}"
        )
    return descriptor_encoder(
        view,
        partial(prepare_images, partial(colour_histogram, space=options["space"], bins=options["bins"])),
        inputs=_INPUTS,
        settings=options,
        about={"dim": options["bins"] ** 3},
        modules=("opencv_descriptors",),
    )


def make_hog(model: str, view: View) -> Encoder:
    """Encoder by the histogram of oriented gradients of an image, brought to a square with sides of size_px."""
    size_px = read_options(view, size_px=64)["size_px"]
    if size_px % CELL_PX or size_px < 2 * CELL_PX:
        raise EncoderError(
            f"view {view.name!r}: option 'size_px' of encoder {view.encoder!r} is {size_px}; "
            f"it must be a multiple of {CELL_PX} and at least {2 * CELL_PX}"
        )
    return descriptor_encoder(
        view,
        partial(prepare_images, partial(square_hog, size_px=size_px)),
        inputs=_INPUTS,
        settings={"size_px": size_px},
        about={"size_px": size_px, "dim": 36 * (size_px // CELL_PX - 1) ** 2},
        modules=("opencv_descriptors",),
    )


def colour_histogram(image: Image.Image, *, space: str, bins: int) -> np.ndarray:
    """float32 [bins ** 3]: the share of the pixels in each box of the space, its last channel running fastest.

    space: "hsv" or "lab", each channel cut into so many equal bins.
    """
    conversion, ends = _SPACES[space]
    colours_YXC = cv2.cvtColor(np.asarray(image), conversion)
    ranges = [bound for end in ends for bound in (0, end)]
    counts_CCC = cv2.calcHist([colours_YXC], [0, 1, 2], None, [bins] * 3, ranges)
    shares: np.ndarray = counts_CCC.ravel() / np.float32(colours_YXC.shape[0] * colours_YXC.shape[1])
    return shares


def square_hog(image: Image.Image, *, size_px: int) -> np.ndarray:
    """float32 [36 * (size_px / 8 - 1) ** 2]: features.encoders.hog of the image in a square, whatever its shape."""
    return hog(cv2.resize(np.asarray(image), (size_px, size_px), interpolation=cv2.INTER_AREA))
