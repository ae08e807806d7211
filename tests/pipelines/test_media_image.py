import io

import numpy as np
import pytest
from media_files import image_bytes, pixels
from PIL import Image, ImageOps

from features.reasons import MediaError, Reason
from pipelines.media.image import clean_image


def opened(encoded: bytes) -> Image.Image:
    return Image.open(io.BytesIO(encoded))


def rgb(encoded: bytes) -> np.ndarray:
    return np.asarray(opened(encoded).convert("RGB")).astype(int)


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_clean_image_returns_a_clean_file_unchanged(format_: str) -> None:
    encoded = image_bytes(pixels(), format_)
    assert clean_image(encoded, size_px=64) == encoded


@pytest.mark.parametrize("orientation", range(2, 9))
def test_clean_image_applies_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = image_bytes(pixels(), "JPEG", exif=exif, quality=95)
    cleaned = opened(clean_image(encoded, size_px=64))
    expected = np.asarray(ImageOps.exif_transpose(opened(encoded))).astype(int)
    assert cleaned.size == ((48, 64) if orientation >= 5 else (64, 48))
    assert cleaned.getexif().get(0x0112, 1) == 1
    assert np.abs(np.asarray(cleaned).astype(int) - expected).max() < 25


def test_clean_image_keeps_bytes_with_upright_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    encoded = image_bytes(pixels(), "JPEG", exif=exif)
    assert clean_image(encoded, size_px=64) == encoded


@pytest.mark.parametrize(("format_", "kept"), [("JPEG", "JPEG"), ("PNG", "PNG"), ("BMP", "PNG"), ("WEBP", "JPEG")])
def test_clean_image_shrinks_and_keeps_losslessness(format_: str, kept: str) -> None:
    cleaned = opened(clean_image(image_bytes(pixels(200, 100), format_), size_px=50))
    assert (cleaned.format, cleaned.size, cleaned.mode) == (kept, (50, 25), "RGB")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_clean_image_makes_png_modes_rgb(mode: str) -> None:
    source = Image.fromarray(pixels()).convert(mode)
    cleaned = clean_image(image_bytes(source, "PNG"), size_px=64)
    assert opened(cleaned).mode == "RGB"
    assert np.array_equal(rgb(cleaned), np.asarray(source.convert("RGB")))


def test_clean_image_makes_transparent_white() -> None:
    rgba_HWC = np.dstack([pixels(), np.full((48, 64), 255, np.uint8)])
    rgba_HWC[:10] = (200, 0, 0, 0)
    cleaned_HWC = rgb(clean_image(image_bytes(rgba_HWC, "PNG"), size_px=64))
    assert (cleaned_HWC[:10] == 255).all()
    assert np.array_equal(cleaned_HWC[10:], pixels()[10:])


def test_clean_image_makes_transparent_palette_colour_white() -> None:
    source = Image.new("P", (8, 8), 0)
    source.putpalette([255, 0, 0, 0, 0, 255])
    source.putpixel((3, 3), 1)
    cleaned_HWC = rgb(clean_image(image_bytes(source, "PNG", transparency=0), size_px=8))
    assert (cleaned_HWC[3, 3] == [0, 0, 255]).all()
    assert (np.delete(cleaned_HWC.reshape(64, 3), 27, axis=0) == 255).all()


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_clean_image_brings_16_bits_to_8(format_: str) -> None:
    grey_HW = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    cleaned_HWC = rgb(clean_image(image_bytes(grey_HW, format_), size_px=64))
    assert np.abs(cleaned_HWC - (grey_HW / 257)[:, :, None]).max() <= 0.51


def test_clean_image_converts_cmyk() -> None:
    source = Image.fromarray(pixels()).convert("CMYK")
    cleaned = clean_image(image_bytes(source, "JPEG", quality=95), size_px=64)
    assert opened(cleaned).mode == "RGB"
    assert np.abs(rgb(cleaned) - pixels()).mean() < 3


def test_clean_image_takes_the_first_frame() -> None:
    first, second = Image.new("RGB", (16, 16), (0, 0, 255)), Image.new("RGB", (16, 16), (255, 0, 0))
    for format_ in ("GIF", "PNG"):
        encoded = image_bytes(first, format_, save_all=True, append_images=[second])
        cleaned = clean_image(encoded, size_px=16)
        assert opened(cleaned).format == "PNG"
        assert not opened(cleaned).is_animated
        assert (rgb(cleaned) == [0, 0, 255]).all()


def test_clean_image_gives_the_same_bytes_again() -> None:
    encoded = image_bytes(pixels(300, 200), "JPEG")
    assert clean_image(encoded, size_px=100) == clean_image(encoded, size_px=100)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_clean_image_rejects_truncated(format_: str, share: float) -> None:
    encoded = image_bytes(pixels(300, 200), format_)
    with pytest.raises(MediaError) as caught:
        clean_image(encoded[: int(len(encoded) * share)], size_px=64)
    assert caught.value.reason == Reason.TRUNCATED


@pytest.mark.parametrize("encoded", [b"", b"plain text", b"\x89PNG\r\n\x1a\n" + b"\x00" * 40])
def test_clean_image_rejects_what_is_no_image(encoded: bytes) -> None:
    with pytest.raises(MediaError) as caught:
        clean_image(encoded, size_px=64)
    assert caught.value.reason == Reason.UNDECODABLE


@pytest.mark.parametrize("side_px", [11_000, 16_000])
def test_clean_image_rejects_decompression_bombs(side_px: int) -> None:
    encoded = image_bytes(Image.new("1", (side_px, side_px)), "PNG")
    with pytest.raises(MediaError, match="pixels") as caught:
        clean_image(encoded, size_px=64)
    assert caught.value.reason == Reason.UNDECODABLE


def test_clean_image_rejects_floating_point_pixels() -> None:
    with pytest.raises(MediaError, match="floating point"):
        clean_image(image_bytes(Image.new("F", (4, 4)), "TIFF"), size_px=64)
