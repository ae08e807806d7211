import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from image_encoding import assert_company_leaves_bytes, cosine, encode, encoded, load, pictures, vectors, video_of
from PIL import Image
from sklearn.datasets import load_sample_image

from features.encoders.base import Encoder, Video
from features.encoders.optical_flow import describe_flow
from features.reasons import Reason

# The first bin is to the right, and the bins follow clockwise, as rows go downwards.
DIRECTIONS = {0: (1, 0), 1: (1, 1), 2: (0, 1), 4: (-1, 0), 6: (0, -1), 7: (1, -1)}


@pytest.fixture(scope="module")
def flow() -> Encoder:
    return load("optical-flow", modality="video", size_px=64)


def moving(offsets: list[tuple[int, int]]) -> list[bytes]:
    """Frames of 256 pixels a side whose content has moved by these columns and rows."""
    photo = Image.fromarray(load_sample_image("china.jpg"))
    return [encoded(photo.crop((150 - x, 100 - y, 406 - x, 356 - y))) for x, y in offsets]


@pytest.mark.parametrize(("direction", "step"), DIRECTIONS.items())
def test_describe_flow_finds_direction_and_speed(direction, step):
    flow_YX2 = np.broadcast_to(np.array(step, np.float32) * 4, (32, 32, 2))
    described = describe_flow(flow_YX2, 0.5, bins=8, grid=2)
    speed = np.hypot(*step) * 4 / 32 / 0.5
    assert described.argmax() == direction or described[direction] == described.max()
    assert described[direction] == pytest.approx(speed)
    assert described[:8].sum() == pytest.approx(speed)
    assert described[8:] == pytest.approx([speed] * 4)


def test_describe_flow_finds_the_place():
    flow_YX2 = np.zeros((8, 8, 2), np.float32)
    flow_YX2[:4, 4:, 1] = 2
    described = describe_flow(flow_YX2, 1.0, bins=4, grid=2)
    assert described.tolist() == [0, 0.0625, 0, 0, 0, 0.25, 0, 0]


@given(flow_YX2=arrays(np.float32, (6, 5, 2), elements=st.floats(-50, 50, width=32)), bins=st.integers(1, 9))
def test_describe_flow_splits_the_mean_speed(flow_YX2, bins):
    described = describe_flow(flow_YX2, 1.0, bins=bins, grid=1)
    assert (described >= 0).all()
    assert described[:bins].sum() == pytest.approx(float(described[bins]), rel=1e-4, abs=1e-6)


def test_optical_flow_of_a_moving_picture(flow):
    described = vectors(flow, video_of(moving([(8 * step, 0) for step in range(4)]), 10.0))
    assert described.shape == (3, 24)
    assert flow.about == {"size_px": 64, "dim": 24}
    assert (described[:, :8].argmax(axis=1) == 0).all()
    assert np.median(described[:, 8:], axis=1) == pytest.approx([8 / 256 * 10] * 3, rel=0.1)


def test_optical_flow_is_what_opencv_finds(flow):
    frames = moving([(0, 0), (3, 5)])
    pixels = [cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_GRAYSCALE) for frame in frames]
    greys = [cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA) for frame in pixels]
    expected = describe_flow(cv2.calcOpticalFlowFarneback(*greys, None, 0.5, 3, 15, 3, 5, 1.2, 0), 0.25, bins=8, grid=4)
    assert cosine(vectors(flow, video_of(frames, 4.0))[0], expected) > 0.9999


def test_optical_flow_gives_the_time_between_two_frames(flow):
    frames = moving([(0, 0), (4, 0), (8, 0)])
    (outcome,) = encode(flow, [Video(frames, np.array([0.5, 0.75, 1.25]), end_s=2.0)])
    assert outcome.times_T2.tolist() == [[0.5, 0.75], [0.75, 1.25]]
    fast, slow = outcome.vectors_TD[:, 8:].mean(axis=1)
    assert fast == pytest.approx(2 * slow, rel=0.1)


def test_optical_flow_measures_from_a_frame_before_the_sample_and_lasts_within_it(flow):
    frames = moving([(0, 0), (8, 0)])
    late, early = (Video(frames, np.array([start_s, 0.1]), end_s=0.2) for start_s in (0.0, -0.4))
    (fast,), (slow,) = encode(flow, [late]), encode(flow, [early])
    assert early.times_s[0] < 0
    assert slow.times_T2.tolist() == fast.times_T2.tolist() == [[0.0, 0.1]]
    assert slow.vectors_TD * 5 == pytest.approx(fast.vectors_TD, rel=1e-5)


def test_optical_flow_of_a_single_frame_is_stillness(flow):
    (outcome,) = encode(flow, [Video(pictures(1), np.array([0.5]), end_s=2.0)])
    assert outcome.vectors_TD.tolist() == [[0.0] * 24]
    assert outcome.times_T2.tolist() == [[0.5, 2.0]]


def test_optical_flow_bytes_depend_on_the_video_alone(flow):
    assert_company_leaves_bytes(flow, [video_of(pictures(count, seed=count), 4.0) for count in (1, 2, 5)])


def test_optical_flow_bytes_do_not_depend_on_threads(flow):
    video = video_of(moving([(0, 0), (3, 5)]), 4.0)
    before = cv2.getNumThreads()
    found = set()
    try:
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            found.add(vectors(flow, video).tobytes())
    finally:
        cv2.setNumThreads(before)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("video", "reason"),
    [
        (Video([], np.empty(0), end_s=0.0), Reason.EMPTY),
        (video_of([b"broken"], 1.0), Reason.UNDECODABLE),
        (video_of([*pictures(2), b"broken"], 1.0), Reason.UNDECODABLE),
    ],
)
def test_optical_flow_rejects_what_it_cannot_decode_and_nothing_else(flow, video, reason):
    good = video_of(pictures(2), 1.0)
    outcomes = encode(flow, [good, video, good])
    assert outcomes[1].reason == reason
    assert outcomes[0].vectors_TD.tobytes() == outcomes[2].vectors_TD.tobytes()
