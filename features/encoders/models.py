"""Copies of a model, of which each serves one thread at a time."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from features.encoders.base import Encoder
from features.encoders.batching import BatchSize, Outcome, encode_units, is_too_large

Encode = Callable[[Encoder, Sequence[Any], BatchSize], list[Outcome]]
"""encode_units or encode_each."""


class _Model:
    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.free_since_s: float | None = None  # None before its first batch


class Models:
    """Loaded encoders, one for each thread that is to run a model; on a CPU several may be the same."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        self.number = len(encoders)
        self._free: queue.SimpleQueue[_Model] = queue.SimpleQueue()
        for encoder in encoders:
            self._free.put(_Model(encoder))
        self._taking_all = threading.Lock()  # two threads with a part of them each would wait for ever

    def run(self, encode: Encode, units: Sequence[Any], size: BatchSize) -> tuple[list[Outcome], dict[str, float]]:
        """What becomes of the units on the model that is free next, and seconds that it ran and had waited for them."""
        model = self._free.get()
        try:
            started_s = time.perf_counter()
            waited_s = 0.0 if model.free_since_s is None else started_s - model.free_since_s
            outcomes = encode(model.encoder, units, size)
            model.free_since_s = time.perf_counter()
        finally:
            self._free.put(model)
        spent_s = {"model": model.free_since_s - started_s, "wait": waited_s}
        if self.number > 1:
            for place, outcome in enumerate(outcomes):
                if is_too_large(outcome):
                    outcomes[place] = self._run_alone(units[place], size)
        return outcomes, spent_s

    def _run_alone(self, unit: Any, size: BatchSize) -> Outcome:
        """Encode a unit for which there was no memory while nothing else is encoded: perhaps others had taken it, and
        who they are must not decide what becomes of it."""
        with self._taking_all:
            models = [self._free.get() for _ in range(self.number)]
            try:
                (outcome,) = encode_units(models[0].encoder, [unit], size)
            finally:
                for model in models:
                    self._free.put(model)
        return outcome
