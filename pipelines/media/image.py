"""Cleaning of one image file."""

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from features.reasons import MediaError, Reason
from pipelines.media.pixels import encode_jpeg, encode_png, shrink

# What Pillow's decoders raise on broken files; each format has its own way.
_BROKEN = (OSError, SyntaxError, EOFError, ValueError, IndexError, OverflowError, struct.error, zlib.error)
_LOSSY = {"JPEG", "MPO", "JPEG2000", "WEBP", "AVIF"}
_WHOLE = {"JPEG", "PNG"}
_ORIENTATION_TAG = 0x0112


def clean_image(encoded: bytes, *, size_px: int) -> bytes:
    """Decode an image fully and make it upright RGB, the longest side at most size_px (never enlarged).

    A JPEG or PNG that is so already keeps its bytes; others become JPEG if their format loses detail anyway, else
    PNG. What is transparent becomes white; of an animation the first frame is kept; 16 bits become 8; embedded colour
    profiles are not applied.
    Raises MediaError: TRUNCATED if the file ends early, UNDECODABLE if it is no image, broken, or has more pixels than
    Pillow holds for safe.
    """
    image = _open(encoded)
    lossy, whole = image.format in _LOSSY, image.format in _WHOLE and not getattr(image, "is_animated", False)
    try:
        image.load()
        rotated = image.getexif().get(_ORIENTATION_TAG, 1) != 1
        upright = ImageOps.exif_transpose(image)
    except _BROKEN as error:
        raise _broken(encoded, error) from error
    if whole and not rotated and image.mode == "RGB" and not _has_alpha(image) and max(image.size) <= size_px:
        return encoded
    pixels_HWC = shrink(np.asarray(_to_rgb(upright))[:, :, ::-1], size_px)
    return encode_jpeg(pixels_HWC) if lossy else encode_png(pixels_HWC)


def _open(encoded: bytes) -> Image.Image:
    # Pillow only warns of a file that would unpack to gigabytes, and refuses a still larger one: refuse both.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        return Image.open(io.BytesIO(encoded))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise MediaError(Reason.UNDECODABLE, f"image is refused: {error}") from error
    except UnidentifiedImageError as error:
        raise MediaError(Reason.UNDECODABLE, f"{len(encoded)} bytes are no image of a known format") from error
    except _BROKEN as error:
        raise _broken(encoded, error) from error


def _broken(encoded: bytes, error: Exception) -> MediaError:
    early = isinstance(error, EOFError) or "truncated" in str(error).lower()
    reason = Reason.TRUNCATED if early else Reason.UNDECODABLE
    return MediaError(reason, f"image of {len(encoded)} bytes cannot be decoded to its end: {error}")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode. Raises MediaError UNDECODABLE for floating point pixels, whose range nobody knows."""
    if image.mode == "F":
        raise MediaError(Reason.UNDECODABLE, "image has floating point pixels; integer pixels are needed")
    if image.mode.startswith("I"):  # 16 bits, also where Pillow keeps them in 32
        grey_HW = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        return Image.fromarray(((grey_HW + 128) // 257).astype(np.uint8)).convert("RGB")
    if _has_alpha(image):
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        return Image.alpha_composite(white, coloured).convert("RGB")
    return image.convert("RGB")
