import base64

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from image_encoding import (
    assert_company_leaves_bytes,
    cosine,
    decoded,
    encode,
    encoded,
    load,
    pictures,
    vectors,
    video_of,
)
from PIL import Image

from features.encoders.catalogue import make_encoder
from features.encoders.hog import hog
from features.encoders.opencv_descriptors import colour_histogram
from features.errors import EncoderError
from features.reasons import Reason
from features.view import View

# cv2.HOGDescriptor((32, 24), (16, 16), (8, 8), (8, 8), 9).compute() of OpenCV 4.14 on the image of the test, float16.
HOG_OF_OPENCV_4 = (
    "0S+aMP4w2C6ULRIw7zLvMhsu6S7mMusxZS3SLrIw7zLvMpEv7zIpMYwy4jIfK6Yt7zJ0MVAuXjLvMu8y2jBtLwgv7zIdMhgyaC7/MK0wPC3/"
    "MH8wkzLGMSwwUjHiMJAvIS31MJUxkzJOMQoyMDB5MhQxeDCTMocutTGFMkcykzJ8MJMypTBRMq4wkzKTMrIxojEyL18zUDLQLjkvZjBrLncx"
    "STBfM18zKDGeMDMubS2aLBMy7DELMl8zEDDtMB0yZzGAL/oxRTJfM18zzDAKMfAvpzB3LhwycS/0MtYyNDDzMLItBi9vMPww7zAPMKsyODFZ"
    "MZUvVDL2MnIwmjKsMfYyrDF2Lz8t/jCXL4Uw9jJ8L/Yy9jItMkAt9jIvMnMv7DByMhszLTF3LekwWS6/L44uEzISMhszUDB+LTkwVjF7MV0x"
    "ujEbMxszGzPJLYsuqCtoMJsu/TEbMxszGzOsMYswXjGAMWAw+jGtLsky/i/ZLkguBzE7MNUwyTIBLskyyTJrMa4tgTDrLrgwdS9/MJ8wzjHJ"
    "MhAyEjLxMMkwyTKkL8kyCjI6MngyyTLHMBgy"
)


def test_hog_is_that_of_opencv_4():
    pixels_YXC = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    expected = np.frombuffer(base64.b64decode("".join(HOG_OF_OPENCV_4)), np.float16).astype(np.float32)
    found = hog(pixels_YXC)
    assert found.shape == expected.shape == (216,)
    assert np.abs(found - expected).max() < 5e-4
    assert cosine(found, expected) > 0.9999


def test_hog_of_a_flat_image_is_zero():
    assert not hog(np.full((16, 16, 3), 77, np.uint8)).any()


@pytest.mark.parametrize(("axis", "orientation"), [(1, {0, 8}), (0, {4})])
def test_hog_finds_the_orientation_of_an_edge(axis, orientation):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[(slice(None),) * axis + (slice(8, None),)] = 200
    assert set(np.flatnonzero(hog(pixels).reshape(4, 9).sum(axis=0)).tolist()) == orientation


@given(pixels=arrays(np.uint8, (16, 24, 3)))
def test_hog_blocks_are_of_length_one_or_empty_and_ignore_brightness(pixels):
    lengths = np.linalg.norm(hog(pixels).reshape(-1, 36), axis=1)
    assert ((lengths < 1 + 1e-6) & (lengths >= 0)).all()
    assert hog(pixels // 2 + 100).tobytes() == hog(pixels // 2).tobytes()


@pytest.mark.parametrize(("space", "code"), [("hsv", cv2.COLOR_BGR2HSV), ("lab", cv2.COLOR_BGR2Lab)])
def test_colour_histogram_is_what_opencv_counts(space, code):
    image = pictures(1)[0]
    colours = cv2.cvtColor(np.ascontiguousarray(np.asarray(decoded(image))[..., ::-1]), code)
    edges = [np.linspace(0, end, 5) for end in ((180 if space == "hsv" else 256), 256, 256)]
    expected = np.histogramdd(colours.reshape(-1, 3), edges)[0].ravel()
    encoder = load("colour-histogram", bins=4, space=space)
    assert encoder.about == {"dim": 64}
    assert np.allclose(vectors(encoder, image)[0], expected / expected.sum(), atol=1e-7)


@given(pixels=arrays(np.uint8, (5, 7, 3)), space=st.sampled_from(["hsv", "lab"]), bins=st.integers(1, 9))
def test_colour_histogram_is_shares_whatever_the_order_of_the_pixels(pixels, space, bins):
    shares = colour_histogram(Image.fromarray(pixels), space=space, bins=bins)
    turned = colour_histogram(Image.fromarray(np.ascontiguousarray(pixels[::-1, ::-1])), space=space, bins=bins)
    assert shares.dtype == np.float32
    assert shares.shape == (bins**3,)
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    assert shares.tobytes() == turned.tobytes()


def test_colour_histogram_of_one_colour_is_one_bin():
    red = Image.new("RGB", (3, 4), (255, 0, 0))
    shares = colour_histogram(red, space="hsv", bins=2).reshape(2, 2, 2)
    assert shares[0, 1, 1] == 1
    assert shares.sum() == 1


@pytest.mark.parametrize(("encoder", "dim"), [("colour-histogram", 512), ("hog", 1764)])
def test_descriptors_describe_images_and_frames_the_same_in_any_company(encoder, dim):
    made = load(encoder, modality="video")
    images = pictures(5)
    video = video_of(images, 4.0)
    assert made.dim == made.about["dim"] == dim
    assert vectors(made, video).tobytes() == b"".join(vectors(made, image).tobytes() for image in images)
    assert_company_leaves_bytes(made, [*images, video])


def test_descriptors_need_no_weights_and_reject_what_is_no_image():
    made = load("hog", size_px=32)
    assert made.definition()["weights_digest"] is None
    assert made.dim == 324
    image = pictures(1)[0]
    outcomes = encode(made, [image, b"broken", encoded(Image.new("L", (1, 1)))])
    assert outcomes[1].reason == Reason.UNDECODABLE
    assert not outcomes[2].vectors_TD.any()


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        ("colour-histogram", {"space": "rgb"}, "'space'.*is 'rgb'; it must be hsv or lab"),
        ("colour-histogram", {"bins": 0}, "at least 1"),
        ("hog", {"size_px": 60}, "is 60; it must be a multiple of 8 and at least 16"),
        ("hog", {"size_px": 8}, "is 8; it must be"),
    ],
)
def test_descriptors_refuse_options_that_cannot_be(encoder, options, message):
    with pytest.raises(EncoderError, match=message):
        make_encoder(View(name="v", input="image", encoder=encoder, options=options))
