"""Pixels as OpenCV keeps them (uint8 [height, width, blue-green-red]) and their encodings."""

import cv2
import numpy as np

from features.reasons import MediaError, Reason

JPEG_QUALITY = 95


def shrink(pixels_HWC: np.ndarray, size_px: int) -> np.ndarray:
    """Bring the longest side down to size_px by averaging areas; smaller pictures stay as they are."""
    height_px, width_px = pixels_HWC.shape[:2]
    scale = size_px / max(height_px, width_px)
    if scale >= 1:
        return pixels_HWC
    target_px = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    shrunk: np.ndarray = cv2.resize(pixels_HWC, target_px, interpolation=cv2.INTER_AREA)
    return shrunk


def encode_jpeg(pixels_HWC: np.ndarray) -> bytes:
    """The pixels as a JPEG of JPEG_QUALITY."""
    return _encode(".jpg", pixels_HWC, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def encode_png(pixels_HWC: np.ndarray) -> bytes:
    """The pixels as a PNG, without loss."""
    return _encode(".png", pixels_HWC, [])


def encode_like(encoded: bytes, pixels_HWC: np.ndarray) -> bytes:
    """Encode in the format of the encoded image: JPEG or PNG."""
    return encode_jpeg(pixels_HWC) if encoded.startswith(b"\xff\xd8") else encode_png(pixels_HWC)


def decode_pixels(encoded: bytes) -> np.ndarray:
    """Decode a cleaned image. Raises MediaError UNDECODABLE."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels_HWC = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags) if encoded else None
    if pixels_HWC is None:
        raise MediaError(Reason.UNDECODABLE, f"image of {len(encoded)} bytes is neither JPEG nor PNG, or broken")
    decoded: np.ndarray = pixels_HWC
    return decoded


def _encode(suffix: str, pixels_HWC: np.ndarray, options: list[int]) -> bytes:
    done, encoded = cv2.imencode(suffix, pixels_HWC, options)
    if not done:
        raise ValueError(f"OpenCV cannot encode an array of {pixels_HWC.shape} {pixels_HWC.dtype} as {suffix}")
    return bytes(encoded)
