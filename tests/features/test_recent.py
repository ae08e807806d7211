from concurrent.futures import ThreadPoolExecutor

from features.recent import Recent


def test_recent_keeps_the_last_things_and_no_more() -> None:
    recent: Recent[int, str] = Recent(2)
    assert [recent.keep(number, str(number)) for number in range(4)] == ["0", "1", "2", "3"]
    assert [recent.get(number) for number in range(4)] == [None, None, "2", "3"]
    assert recent.all() == [(2, "2"), (3, "3")]


def test_recent_is_for_many_threads() -> None:
    recent: Recent[int, int] = Recent(3)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda number: recent.keep(number % 97, number), range(5000))) == list(range(5000))
    # Two threads may each let one go for the same newcomer.
    assert sum(recent.get(number) is not None for number in range(97)) <= 3
