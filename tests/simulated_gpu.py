"""GPUs that are none: tensors that say they lie on CUDA, keep their numbers in memory and never mix with others.

torch plans, casts and checks as it would with GPUs, for it takes these tensors for what they say; each operator that
would be a kernel runs on the CPU instead. So what a program does with GPUs is tried without one: which tensor is where,
what autocast makes less precise, how work is shared among several, what happens where memory ends or a GPU fails. How
fast a GPU is, and the last bits of what it gives, are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch._dynamo  # which looks at functions of torch once, and not at what stands in for them
import torch.utils._device
from simulated_machine import Event, Gpus, SimulatedTensor, Stream, machine, numbered, running
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

_aten = torch.ops.aten
_MOVES = {_aten._to_copy, _aten.copy_}  # take numbers from one device to another
_BY_INDEX = {_aten.index, _aten.index_put, _aten.index_put_, _aten._unsafe_index}  # may be told where by a CPU
# On a GPU these multiply numbers of 16 bits, add up in 32 and round what comes out.
_PRODUCTS = {
    getattr(_aten, name)
    for name in (
        *("mm", "addmm", "bmm", "baddbmm", "linear", "matmul", "einsum", "scaled_dot_product_attention"),
        *("convolution", "conv1d", "conv2d", "conv3d", "lstm", "gru"),
    )
}


class OnGpu(SimulatedTensor):
    """Runs each operator on the CPU and keeps an account of it."""

    @staticmethod
    def __new__(cls, held: Tensor, device: Any) -> OnGpu:
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made: OnGpu = Tensor._make_wrapper_subclass(cls, held.shape, **layout, device=numbered(device))
        made.held = held
        machine().hold(made)
        machine().finish(made)
        return made

    def __repr__(self, **_: Any) -> str:
        return f"{self.held!r} on {self.device}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet in (_aten.to, _aten.type_as):
            return func.decompose(*args, **kwargs)  # to nothing or a copy
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_gpu = [tensor for tensor in tensors if isinstance(tensor, OnGpu)]
        _check_devices(packet, tensors)
        given = (args, kwargs)
        device = numbered(kwargs.get("device") or on_gpu[0].device)
        for index in {tensor.device.index for tensor in on_gpu}:
            machine().launch(index, on_gpu)
        if kwargs.get("device"):
            kwargs = {**kwargs, "device": torch.device("cpu")}
        made = _compute(func, *tree_map(_numbers, (args, kwargs)))
        if func._schema.is_mutable:
            for tensor in _written(func, given):
                machine().finish(tensor)
                if tensor.held.shape != tensor.shape:
                    tensor.data = OnGpu(tensor.held, tensor.device)
            whose = {id(tensor.held): tensor for tensor in on_gpu}
            return tree_map(lambda leaf: whose.get(id(leaf), leaf), made)
        if device.type == "cpu" or not any(isinstance(leaf, Tensor) for leaf in tree_leaves(made)):
            machine().wait(machine().stream_of(on_gpu[0].device.index))  # for numbers that are at hand
            return made
        # What is seen of a tensor that was not made for inference is none that was either.
        is_view = any(returned.alias_info for returned in func._schema.returns)
        with torch.inference_mode(torch.is_inference_mode_enabled() and not (is_view and not on_gpu[0].is_inference())):
            return tree_map(lambda leaf: OnGpu(leaf, device) if isinstance(leaf, Tensor) else leaf, made)


@contextmanager
def simulated_gpus(number: int = 1, memory_bytes: int | None = None) -> Iterator[Gpus]:
    """GPUs, as long as the block runs, for all threads; tensors on them are of no use after it."""
    torch._C._ensureCUDADeviceGuardSet()  # else torch would ask CUDA itself which device is the current one
    kernels = torch.library.Library("aten", "IMPL")  # in place of those of CUDA
    kernels.impl("empty.memory_format", _made(_aten.empty.memory_format), "CUDA")
    kernels.impl("empty_strided", _made(_aten.empty_strided.default), "CUDA")
    with ExitStack() as stack:
        gpus = stack.enter_context(running(number, memory_bytes))
        stands_in: dict[str, Any] = {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "is_bf16_supported": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: number,
            "current_device": lambda: 0,
            "synchronize": gpus.synchronize,
            "empty_cache": lambda: None,
            "Stream": Stream,
            "Event": Event,
            "stream": gpus.on,
        }
        stack.callback(kernels._destroy)
        # Otherwise a network would take over the numbers of what it is brought to, and not the tensor itself.
        alike = torch._has_compatible_shallow_copy_type
        stack.enter_context(
            patch("torch._has_compatible_shallow_copy_type", lambda a, b: not isinstance(b, OnGpu) and alike(a, b))
        )
        for name, function in stands_in.items():
            stack.enter_context(patch(f"torch.cuda.{name}", function))
        stack.enter_context(patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))  # whose kernels have no like on a CPU
        stack.enter_context(patch.object(Tensor, "pin_memory", lambda tensor: tensor))
        stack.enter_context(patch.object(Tensor, "to", _numbering(Tensor.to)))
        torch.utils._device._device_constructors()  # which torch looks up once, and not among what stands in for them
        for name in ("tensor", "as_tensor"):
            stack.enter_context(patch(f"torch.{name}", _moved(getattr(torch, name))))
        yield gpus


def _numbers(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, OnGpu) else leaf


def _check_devices(packet: Any, tensors: list[Tensor]) -> None:
    """Raise RuntimeError, as torch does, where tensors are not all on one device; one number alone may be anywhere."""
    checked = tensors[:1] if packet in _BY_INDEX else [tensor for tensor in tensors if tensor.dim() > 0]
    devices = {str(tensor.device) for tensor in checked}
    if len(devices) > 1 and packet not in _MOVES:
        raise RuntimeError(f"Expected all tensors to be on the same device, but {packet} got some on {sorted(devices)}")


def _written(func: Any, given: Any) -> list[OnGpu]:
    """Of the arguments those that the operator writes to."""
    args, kwargs = given
    places = [
        args[place] if place < len(args) else kwargs.get(argument.name)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return [leaf for leaf in tree_leaves(places) if isinstance(leaf, OnGpu)]


def _compute(func: Any, args: Any, kwargs: Any) -> Any:
    dtypes = {leaf.dtype for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
    halves = dtypes & {torch.float16, torch.bfloat16}
    if func.overloadpacket not in _PRODUCTS or not halves:
        return func(*args, **kwargs)

    def cast(tree: Any, to: torch.dtype) -> Any:
        return tree_map(
            lambda leaf: leaf.to(to) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, tree
        )

    wide_args, wide_kwargs = cast((args, kwargs), torch.float32)
    return cast(func(*wide_args, **wide_kwargs), halves.pop())


def _made(operator: Any) -> Callable[..., OnGpu]:
    def make(*args: Any, device: Any = None, pin_memory: Any = None, **kwargs: Any) -> OnGpu:
        return OnGpu(operator(*args, **kwargs), device)

    return make


def _numbering(to: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Tensor.to, that knows which device "cuda" is without asking CUDA."""

    def told(leaf: Any) -> Any:
        is_device = isinstance(leaf, torch.device) or (isinstance(leaf, str) and leaf.startswith("cuda"))
        return numbered(leaf) if is_device else leaf

    def move(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return to(tensor, *map(told, args), **{name: told(value) for name, value in kwargs.items()})

    return move


def _moved(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch.tensor, by way of the CPU."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        tensor = make(*args, **kwargs)
        return tensor if device is None else tensor.to(device)

    return made
