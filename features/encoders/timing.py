"""Where the time of encoding goes: seconds of threads by what they did."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

ACTIVITIES = ("read", "decode", "preprocess", "wait", "model", "write")

_current = threading.local()


class Times:
    """Seconds by activity, of all threads together; "wait" is what threads of the model waited for a batch."""

    def __init__(self, spent_s: Mapping[str, float] | None = None) -> None:
        self.spent_s = dict.fromkeys(ACTIVITIES, 0.0)
        self.add(spent_s or {})

    def add(self, spent_s: Mapping[str, float]) -> None:
        for activity, seconds in spent_s.items():
            self.spent_s[activity] += seconds


class Clock:
    """Attributes the time of one thread to one activity after the other; an inner one interrupts the outer."""

    def __init__(self) -> None:
        self.spent_s: dict[str, float] = {}
        self.activities: list[str | None] = []
        self._since_s = 0.0

    def spending(self, activity: str | None) -> "_Spending":
        return _Spending(self, activity)

    def paused(self) -> "_Spending":
        """Let time pass that is spent on nothing."""
        return self.spending(None)

    def turn(self) -> None:
        """Attribute the time since the last turn to the activity that goes on."""
        now_s = time.perf_counter()
        activity = self.activities[-1] if self.activities else None
        if activity is not None:
            self.spent_s[activity] = self.spent_s.get(activity, 0.0) + now_s - self._since_s
        self._since_s = now_s


class _Spending:
    """A stretch of a clock's time; a class, as a generator would take twice as long, for each sample."""

    __slots__ = ("_activity", "_before", "_clock")

    def __init__(self, clock: Clock, activity: str | None) -> None:
        self._clock, self._activity = clock, activity

    def __enter__(self) -> None:
        self._before = getattr(_current, "clock", None)
        _current.clock = self._clock
        self._clock.turn()
        self._clock.activities.append(self._activity)

    def __exit__(self, *raised: object) -> None:
        self._clock.turn()
        self._clock.activities.pop()
        _current.clock = self._before


@contextmanager
def spending(activity: str) -> Iterator[None]:
    """Attribute what the block takes to an activity, where the thread has a clock: a sample is being prepared."""
    clock = getattr(_current, "clock", None)
    if clock is None:
        yield
    else:
        with clock.spending(activity):
            yield
