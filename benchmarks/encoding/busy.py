"""How busy a GPU is while a way runs."""

import threading
from contextlib import suppress
from types import TracebackType

_EVERY_S = 0.1  # NVML's own figure is over the last sixth of a second, or up to a second


class GpuWatch:
    """Asks NVML for the share of the time in which a kernel ran, on a thread of its own, while the block runs."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._percents: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def percent(self) -> float | None:
        """The mean from when it first had something to do to when it last had, None where nobody can tell."""
        busy = [place for place, percent in enumerate(self._percents) if percent]
        if not busy:
            return None
        at_work = self._percents[busy[0] : busy[-1] + 1]
        return sum(at_work) / len(at_work)

    def __enter__(self) -> "GpuWatch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        if self._device != "cuda":
            return
        try:
            import pynvml
        except ModuleNotFoundError:
            return
        import torch

        with suppress(pynvml.NVMLError):  # of a part of a GPU it does not tell
            while not self._stop.wait(_EVERY_S):
                self._percents.append(torch.cuda.utilization())
