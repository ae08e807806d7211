"""Sessions: threads that decode, threads that run the model, and feeds that share its batches."""

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_encoders_batching import SumEncoder, describe, encode_alone

from features.encoders.base import Media
from features.encoders.opening import open_session
from features.encoders.session import Read, Session
from features.encoders.timing import ACTIVITIES
from features.errors import ShardError
from features.reasons import Reason

TEXTS = st.lists(
    st.lists(st.sampled_from(["1", "2", "12", "345", "nan", "broken"]), max_size=4).map(" ".join), max_size=40
)


def _feed(texts: Iterable[str]) -> list[tuple[int, Read]]:
    return [(place, partial(str, text)) for place, text in enumerate(texts)]


def _encode_all(session: Session, feeds: list[list[str]]) -> list[list[tuple[int, Any]]]:
    """Encode the feeds at once, each on a thread of its own."""
    with ThreadPoolExecutor(max(1, len(feeds))) as pool:
        return list(pool.map(lambda texts: list(session.encode(_feed(texts))), feeds))


@settings(deadline=None, max_examples=40)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 3), st.booleans())
def test_each_feed_gets_its_samples_in_order_whatever_runs_beside_it(
    feeds: list[list[str]], batch_size: int, threads: int, is_cpu: bool
) -> None:
    encoder = SumEncoder(batch_size)
    with Session([encoder] * threads, num_decoders=threads, is_cpu=is_cpu) as session:
        found = _encode_all(session, feeds)
    for texts, outcomes in zip(feeds, found, strict=True):
        assert [key for key, _ in outcomes] == list(range(len(texts)))
        assert [describe(outcome) for _, outcome in outcomes] == [encode_alone(text) for text in texts]
    assert all(len(batch) == batch_size for batch in encoder.batches)


def test_feeds_fill_batches_together() -> None:
    encoder = SumEncoder(batch_size=8)
    both = threading.Barrier(2)

    def feed() -> Iterable[tuple[int, Read]]:
        yield from _feed(["1"] * 4)
        both.wait()  # neither goes on to wait for its last samples before the other has given all of its own

    with Session([encoder]) as session, ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: len(list(session.encode(feed()))), range(2)))
    assert (found, len(encoder.batches)) == ([4, 4], 1)


def test_memory_holds_few_units_whatever_the_length_of_a_sample() -> None:
    lock, waiting, most = threading.Lock(), 0, 0

    class Counting(SumEncoder):
        def _unit(self, part: str) -> np.ndarray:
            nonlocal waiting, most
            with lock:
                waiting += 1
                most = max(most, waiting)
            return super()._unit(part)

        def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
            nonlocal waiting
            with lock:
                waiting -= len(units_B)
            return super().encode(units_B)

    with Session([Counting(batch_size=4)]) as session:
        ((_, outcome),) = session.encode(_feed(["1 " * 1000]))
    assert len(outcome.vectors_TD) == 1000
    assert most <= 4 * 5  # a batch in the making, one that waits for room, two in the queue and one in the model


@pytest.mark.parametrize(("num_bytes", "groups"), [(1 << 10, [6]), (3 << 20, [3, 3]), (9 << 20, [1] * 6)])
def test_short_units_are_encoded_in_one_go_and_long_ones_are_not_gathered(num_bytes: int, groups: list[int]) -> None:
    found: list[int] = []

    class Long(SumEncoder):
        def _unit(self, part: str) -> np.ndarray:
            return np.full(num_bytes // 8, float(part))

        def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
            found.append(1)
            return super().encode(units_B)

        def encode_each(self, units: Sequence[np.ndarray]) -> list[np.ndarray]:
            found.append(len(units))
            return [vectors for unit in units for vectors in super(Long, self).encode(unit[None])]

    with Session([Long(batch_size=1)], is_cpu=True) as session:
        assert len(list(session.encode(_feed(["1", "2 3", "4", "5 6"])))) == 4
    assert found == groups


def test_a_feed_looks_ahead_over_a_bounded_number_of_samples() -> None:
    encoder = SumEncoder(batch_size=2)
    with Session([encoder]) as session:
        rare_first = session.encode(_feed(["345", *["1"] * 10_000]))
        assert next(rare_first)[0] == 0
        assert encoder.num_prepared < 200
        rare_first.close()
        assert len(list(session.encode(_feed(["1", "2"])))) == 2  # a feed that was left holds nobody up


def test_what_reading_a_sample_raises_ends_its_feed_alone() -> None:
    def damaged() -> Media:
        raise ShardError("damaged")

    with Session([SumEncoder(batch_size=2)]) as session:
        with pytest.raises(ShardError, match="damaged"):
            list(session.encode([(0, damaged), (1, partial(str, "1"))]))
        assert len(list(session.encode(_feed(["1", "2", "3"])))) == 3


def test_as_many_feeds_as_decoders_work_themselves_where_a_batch_is_one_unit() -> None:
    both, readers = threading.Barrier(2), set[str]()

    def read(text: str) -> Media:
        readers.add(threading.current_thread().name.partition("_")[0])
        both.wait()  # neither ends before the other has begun
        if text == "damaged":
            raise ShardError("damaged")
        return text

    def feed(text: str) -> Iterable[tuple[int, Read]]:
        both.wait()  # neither begins before the other is there
        yield 0, partial(read, text)

    with Session([SumEncoder(1)] * 2, num_decoders=2, is_cpu=True) as session, ThreadPoolExecutor(2, "feed") as pool:
        for texts in (["345", "broken"], ["12", "damaged"]):
            first, second = (pool.submit(lambda text: list(session.encode(feed(text))), text) for text in texts)
            ((_, outcome),) = first.result()
            assert describe(outcome) == encode_alone(texts[0])
            if texts[1] == "damaged":
                with pytest.raises(ShardError, match="damaged"):
                    second.result()
            else:
                ((_, outcome),) = second.result()
                assert describe(outcome) == encode_alone(texts[1])
    assert readers == {"feed"}


def test_a_feed_that_has_other_work_to_do_is_still_one_of_them() -> None:
    readers: list[str] = []

    def read() -> Media:
        readers.append(threading.current_thread().name.partition("_")[0])
        return "1"

    with Session([SumEncoder(1)] * 2, num_decoders=2, is_cpu=True) as session, session.attending():
        with session.attending():
            assert len(list(session.encode([(0, read)]))) == 1
        assert len(list(session.encode([(0, read)]))) == 1
    assert readers == ["MainThread", "decode"]


def test_a_sample_that_memory_does_not_hold_while_it_is_prepared_is_rejected_alone() -> None:
    class Greedy(SumEncoder):
        def _unit(self, part: str) -> np.ndarray:
            if part == "999":
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
            if part == "555":
                raise RuntimeError("a mistake of the encoder")
            return super()._unit(part)

    with Session([Greedy()]) as session:
        outcomes = [outcome for _, outcome in session.encode(_feed(["1", "2 999", "3"]))]
        assert [describe(outcome) for outcome in (outcomes[0], outcomes[2])] == [encode_alone("1"), encode_alone("3")]
        assert describe(outcomes[1]) == (Reason.TOO_LARGE, "preparing it takes more memory than there is")
        with pytest.raises(RuntimeError, match="a mistake"):
            list(session.encode(_feed(["555"])))


def test_a_session_tells_where_time_went_once() -> None:
    with open_session(SumEncoder(), "cpu", threads=2) as session:
        list(session.encode(_feed(["1 2"] * 50)))
        spent_s = session.take_times().spent_s
        assert set(spent_s) == set(ACTIVITIES)
        assert min(spent_s[activity] for activity in ("read", "preprocess", "model")) > 0
        assert sum(session.take_times().spent_s.values()) == 0
