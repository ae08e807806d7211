import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.media.frames import key_frame, slice_frames

TIMES_S = [1.0, 1.5, 2.0, 4.0]
END_S = 5.0


@pytest.mark.parametrize(
    ("start_s", "stop_s", "indices"),
    [
        (1.0, 2.0, [0, 1]),  # half open
        (1.2, 1.3, [0]),  # shorter than a frame
        (1.4, 2.1, [0, 1, 2]),
        (2.5, 3.5, [2]),  # a long still picture
        (0.0, 1.0, []),  # before the picture
        (0.0, 1.1, [0]),
        (4.5, 9.0, [3]),  # ends after the picture
        (5.0, 9.0, []),
        (2.0, 2.0, []),
        (3.0, 2.0, []),
    ],
)
def test_slice_frames_takes_what_is_on_screen(start_s: float, stop_s: float, indices: list[int]) -> None:
    assert list(slice_frames(TIMES_S, END_S, start_s, stop_s)) == indices


@pytest.mark.parametrize(
    ("start_s", "stop_s", "index"),
    [(1.0, 2.0, 1), (1.0, 1.9, 0), (2.0, 5.0, 2), (0.0, 1.2, 0), (4.2, 20.0, 3), (0.0, 0.9, None), (5.0, 6.0, None)],
)
def test_key_frame_is_in_the_middle(start_s: float, stop_s: float, index: int | None) -> None:
    assert key_frame(TIMES_S, END_S, start_s, stop_s) == index


def test_slice_frames_of_no_video_is_empty() -> None:
    assert not slice_frames([], 0.0, 0.0, 1.0)
    assert key_frame([], 0.0, 0.0, 1.0) is None


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=8, unique=True).map(sorted),
    st.floats(0.01, 2),
    st.floats(-1, 12),
    st.floats(0.001, 5),
)
def test_slice_frames_covers_the_middle(times_s: list[float], last_s: float, start_s: float, length_s: float) -> None:
    end_s, stop_s = times_s[-1] + last_s, start_s + length_s
    middle_s = (start_s + stop_s) / 2
    frames = slice_frames(times_s, end_s, start_s, stop_s)
    if times_s[0] <= middle_s < end_s:
        shown = max(index for index, time_s in enumerate(times_s) if time_s <= middle_s)
        assert shown in frames
        assert key_frame(times_s, end_s, start_s, stop_s) == shown
