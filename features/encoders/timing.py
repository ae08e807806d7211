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
        self._activity: str | None = None
        self._since_s = 0.0

    def turn_to(self, activity: str | None) -> str | None:
        """Begin with an activity, or with nothing, and give the one that went on until now."""
        now_s, before = time.perf_counter(), self._activity
        if before is not None:
            self.spent_s[before] = self.spent_s.get(before, 0.0) + now_s - self._since_s
        self._activity, self._since_s = activity, now_s
        return before

    @contextmanager
    def spending(self, activity: str) -> Iterator[None]:
        """Be the clock of this thread, and begin with an activity; after the block go on with the one before."""
        outer = getattr(_current, "clock", None)
        _current.clock = self
        before = self.turn_to(activity)
        try:
            yield
        finally:
            self.turn_to(before)
            _current.clock = outer


@contextmanager
def spending(activity: str) -> Iterator[None]:
    """Attribute what the block takes to an activity, where the thread has a clock: a sample is being prepared."""
    clock = getattr(_current, "clock", None)
    if clock is None:
        yield
    else:
        with clock.spending(activity):
            yield
