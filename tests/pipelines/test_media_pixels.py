import numpy as np
import pytest
from media_files import image_bytes, pixels

from features.reasons import MediaError, Reason
from pipelines.media.pixels import decode_pixels, encode_jpeg, encode_like, encode_png, shrink


@pytest.mark.parametrize(
    ("width_px", "height_px", "shape"),
    [(200, 100, (25, 50)), (100, 200, (50, 25)), (1000, 2, (1, 50)), (50, 50, (50, 50))],
)
def test_shrink_keeps_proportions(width_px: int, height_px: int, shape: tuple[int, int]) -> None:
    assert shrink(pixels(width_px, height_px), 50).shape == (*shape, 3)


def test_shrink_never_enlarges() -> None:
    small_HWC = pixels(30, 20)
    assert shrink(small_HWC, 50) is small_HWC


def test_shrink_averages_areas() -> None:
    board_HWC = np.repeat((np.indices((64, 64)).sum(axis=0) % 2 * 255)[:, :, None], 3, axis=2).astype(np.uint8)
    assert np.abs(shrink(board_HWC, 32).astype(int) - 127.5).max() <= 1


def test_encode_png_loses_nothing() -> None:
    assert np.array_equal(decode_pixels(encode_png(pixels())), pixels())


def test_encode_like_keeps_the_format() -> None:
    assert encode_like(encode_jpeg(pixels()), pixels()) == encode_jpeg(pixels())
    assert encode_like(image_bytes(pixels(), "PNG"), pixels()) == encode_png(pixels())


@pytest.mark.parametrize("encoded", [b"", b"no image", encode_png(pixels())[:40]])
def test_decode_pixels_rejects_what_is_no_image(encoded: bytes) -> None:
    with pytest.raises(MediaError) as caught:
        decode_pixels(encoded)
    assert caught.value.reason == Reason.UNDECODABLE
