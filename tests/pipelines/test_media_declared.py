import io

import pytest

from features.reasons import MediaError, Reason
from pipelines.media.declared import allowed_shortfall_s, check_size


@pytest.mark.parametrize(("duration_s", "allowed_s"), [(0.0, 0.25), (10.0, 0.25), (50.0, 1.0), (7200.0, 2.0)])
def test_allowed_shortfall_grows_within_limits(duration_s: float, allowed_s: float) -> None:
    assert allowed_shortfall_s(duration_s) == allowed_s


def riff(declared: int, num_bytes: int) -> io.BytesIO:
    return io.BytesIO((b"RIFF" + declared.to_bytes(4, "little")).ljust(num_bytes, b"\0"))


@pytest.mark.parametrize(
    "file",
    [riff(9992, 10_000), riff(10_000, 10_000), riff(9992, 20_000), riff(0, 99), riff(2**32 - 1, 99)],
)
def test_check_size_accepts(file: io.BytesIO) -> None:
    check_size(file)
    assert file.tell() == 0


def test_check_size_rejects_a_short_file() -> None:
    with pytest.raises(MediaError, match="5000 bytes, its header declares 10000") as caught:
        check_size(riff(9992, 5000))
    assert caught.value.reason == Reason.TRUNCATED


def test_check_size_rejects_an_empty_file() -> None:
    with pytest.raises(MediaError, match="empty: it has 0 bytes") as caught:
        check_size(io.BytesIO())
    assert caught.value.reason == Reason.UNDECODABLE
