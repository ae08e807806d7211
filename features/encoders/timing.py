"""Where the time of encoding goes: seconds of threads by what they did."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

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
        self._activities: list[str | None] = []
        self._since_s = 0.0

    @contextmanager
    def spending(self, activity: str | None) -> Iterator[None]:
        before = getattr(_current, "clock", None)
        _current.clock = self
        self._turn()
        self._activities.append(activity)
        try:
            yield
        finally:
            self._turn()
            self._activities.pop()
            _current.clock = before

    def paused(self) -> AbstractContextManager[None]:
        """Let time pass that is spent on nothing."""
        return self.spending(None)

    def _turn(self) -> None:
        now_s = time.perf_counter()
        activity = self._activities[-1] if self._activities else None
        if activity is not None:
            self.spent_s[activity] = self.spent_s.get(activity, 0.0) + now_s - self._since_s
        self._since_s = now_s


@contextmanager
def spending(activity: str) -> Iterator[None]:
    """Attribute what the block takes to an activity, where the thread has a clock: a sample is being prepared."""
    clock = getattr(_current, "clock", None)
    if clock is None:
        yield
    else:
        with clock.spending(activity):
            yield
