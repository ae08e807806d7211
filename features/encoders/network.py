"""An encoder around a torch network: the part that all of them share.

The libraries of models are imported where a model is made or runs: to tell what a view's rows depend on needs none.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from features.encoders.base import Media, Prepared
from features.encoders.running import Running
from features.rev import digest_code, library_versions

if TYPE_CHECKING:
    from torch import Tensor, nn

_SHARED_MODULES = ("network", "batching", "pooling")
_DECIDE_NOTHING = frozenset(
    {
        *(f"features.{name}" for name in ("errors", "reasons", "rev", "view")),
        *(f"features.encoders.{name}" for name in ("gpu", "opening", "session", "timing")),
    }
)


@dataclass(frozen=True)
class Network:
    """A model in memory.

    prepare: Encoder.prepare; forward: a batch of units [unit, ...] on the model's device to float32 [unit, dim] or
    [unit, vector, dim]; dim: length of a vector; model: whose layers Running may replace; forward_each: the same as
    forward, and faster, for units of any shapes, each as a batch of its own; image_CHW: shape of what the model of an
    image network takes, so that Running may choose its layout and fuse its layers; probe: a batch of units of another
    network, so that it may watch its linear layers and lay out their weights.
    """

    prepare: Callable[[Media], Prepared]
    forward: Callable[[Tensor], Tensor]
    dim: int
    model: nn.Module | None = None
    forward_each: Callable[[list[Tensor]], list[Tensor]] | None = None
    image_CHW: tuple[int, ...] | None = None
    probe: Tensor | None = None


@dataclass(kw_only=True)
class NetworkEncoder:
    """Encoder whose network is brought into memory by bring(device); see features.encoders.base.Encoder.

    settings: what of its output neither weights nor code decide; modules: those of this package that compute it.
    batch_tokens: where it is above 0, a batch has as many units as have so many tokens together, and not batch_size.
    is_on_cpu: see Encoder. running: how the network is run; whoever makes the encoder leaves it to make_encoder().
    """

    name: str
    inputs: frozenset[str]
    batch_size: int
    settings: dict[str, Any]
    weights_digest: Callable[[], str | None]
    modules: tuple[str, ...]
    libraries: tuple[str, ...]
    bring: Callable[[str], Network]
    about: dict[str, Any] = field(default_factory=dict)
    batch_tokens: int = 0
    is_on_cpu: bool = False
    running: Running = field(default_factory=Running)
    _network: Network | None = field(default=None, init=False)
    _device: str = field(default="cpu", init=False)
    _streams: deque[Any] = field(default_factory=deque, init=False)  # of the GPU, that no thread uses at the moment

    @property
    def dim(self) -> int:
        return self._loaded().dim

    def definition(self) -> dict[str, Any]:
        modules = (f"features.encoders.{module}" for module in (*_SHARED_MODULES, *self.modules))
        return {
            "name": self.name,
            "settings": self.settings,
            "batch_size": self.batch_size,
            "weights_digest": self.weights_digest(),
            "code": digest_code(*modules, without=_DECIDE_NOTHING),
            "libraries": library_versions({"numpy", "torch", *self.libraries}),
            **({"batch_tokens": self.batch_tokens} if self.batch_tokens else {}),
            **self.running.definition(),
        }

    def size_of_batch(self, shape: tuple[int, ...]) -> int:
        return max(1, self.batch_tokens // shape[-1]) if self.batch_tokens else self.batch_size

    def load(self, device: str) -> None:
        self._device = device
        network = self.bring(device)
        self._network = replace(
            network,
            forward=self.running.apply(
                network.forward, network.model, device, image_CHW=network.image_CHW, probe=network.probe
            ),
            forward_each=network.forward_each if self.running.is_plain else None,
        )
        if device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(device)  # the streams that it runs on do not wait for this one
            if network.model is not None:
                weakref.finalize(self, _let_go, network.model)

    def prepare(self, media: Media) -> Prepared:
        return self._loaded().prepare(media)

    def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
        import torch

        forward = self._loaded().forward
        units = torch.from_numpy(units_B)
        with torch.inference_mode():
            vectors = forward(units).float() if self._device == "cpu" else self._on_gpu(forward, units)
        vectors_BTD = vectors.numpy().reshape(len(units_B), -1, vectors.shape[-1])
        return list(vectors_BTD)

    def encode_each(self, units: Sequence[np.ndarray]) -> list[np.ndarray]:
        import torch

        forward_each = self._loaded().forward_each
        if forward_each is None:
            return [vectors for unit in units for vectors in self.encode(unit[None])]
        with torch.inference_mode():
            tensors = [torch.from_numpy(unit) for unit in units]
            if self._device == "cpu":  # to() and cpu() would let go of the interpreter's lock for each
                return [vectors.numpy() for vectors in forward_each(tensors)]
            outputs = forward_each([tensor.to(self._device) for tensor in tensors])
            return [vectors.cpu().numpy() for vectors in outputs]

    def _on_gpu(self, forward: Callable[[Tensor], Tensor], units: Tensor) -> Tensor:
        import torch

        with self._stream() as stream:
            # From pinned memory units are copied while the GPU works for another thread.
            vectors = forward(units.pin_memory().to(self._device, non_blocking=True)).float()
            # Of the kind that blocks: else the thread would keep a processor busy as it waits.
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
            done.record(stream)
            done.synchronize()
            return vectors.cpu()

    @contextmanager
    def _stream(self) -> Iterator[Any]:
        """Work on a stream that no other thread uses meanwhile, so that the GPU need not end what others gave it first.

        There are as many as threads have been here at once, for each keeps memory of its own.
        """
        import torch

        try:
            stream = self._streams.pop()
        except IndexError:
            stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        try:
            with torch.cuda.stream(stream):
                yield stream
        finally:
            self._streams.append(stream)

    def _loaded(self) -> Network:
        if self._network is None:
            raise RuntimeError(f"encoder {self.name!r} is not loaded: call load() first")
        return self._network

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_network": None, "_streams": deque()}


def _let_go(model: nn.Module) -> None:
    """Give the memory of its weights back at once: many networks refer to themselves, so Python would keep them until
    it next looks for such, and the next model may want the room."""
    for part in model.modules():
        part._parameters.clear()
        part._buffers.clear()


Model = TypeVar("Model", bound="nn.Module")


def settle(model: Model, device: str) -> Model:
    """The model on its device, ready for inference in plain float32."""
    import torch

    if device.startswith("cuda"):
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = False  # it picks kernels by their speed of the moment
        torch.backends.cudnn.deterministic = True
    return model.to(device=device, dtype=torch.float32).eval()
