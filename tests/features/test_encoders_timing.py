from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from features.encoders import timing
from features.encoders.timing import Clock, spending


@pytest.fixture(autouse=True)
def _a_second_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: Iterator[float] = iter(range(100))
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))


def test_a_clock_attributes_time_to_one_activity_after_the_other() -> None:
    clock = Clock()
    with clock.spending("read"):
        assert clock.turn_to("preprocess") == "read"
        with spending("decode"):
            assert clock.turn_to("wait") == "decode"
        clock.turn_to(None)
        clock.turn_to("read")
    assert clock.spent_s == {"read": 2, "preprocess": 2, "decode": 1, "wait": 1}


def test_what_breaks_off_ends_its_activity() -> None:
    outer, inner = Clock(), Clock()
    with outer.spending("model"):
        with pytest.raises(ValueError, match="broken"), inner.spending("read"):
            raise ValueError("broken")
        with spending("decode"):
            pass
    assert inner.spent_s == {"read": 1}
    assert set(outer.spent_s) == {"model", "decode"}


def test_a_block_that_no_clock_watches_belongs_to_none() -> None:
    clock = Clock()
    with clock.spending("read"):
        pass
    with spending("decode"):
        pass
    assert clock.spent_s == {"read": 1}
