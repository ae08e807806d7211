"""Encoders without a network: their vectors are made where others prepare what a model sees, on every thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from features.encoders.base import Encoder, Media, Prepared
from features.encoders.network import Network, NetworkEncoder
from features.view import View

if TYPE_CHECKING:
    from torch import Tensor

_BATCH_SIZE = 32


def descriptor_encoder(
    view: View,
    prepare: Callable[[Media], Prepared],
    *,
    inputs: set[str],
    settings: dict[str, Any],
    about: dict[str, Any],
    modules: tuple[str, ...],
) -> Encoder:
    """The encoder whose units are its vectors already, float32 [about["dim"]]; see NetworkEncoder for the rest."""
    return NetworkEncoder(
        name=view.encoder,
        inputs=frozenset(inputs),
        batch_size=_BATCH_SIZE,
        settings=settings,
        weights_digest=_no_weights,
        modules=("descriptors", *modules),
        libraries=("opencv-python-headless", "pillow"),
        bring=partial(_bring, prepare, about["dim"]),
        about=about,
        is_on_cpu=True,
    )


def _no_weights() -> None:
    return None


def _bring(prepare: Callable[[Media], Prepared], dim: int, device: str) -> Network:
    return Network(prepare, _as_they_are, dim)


def _as_they_are(vectors_BD: Tensor) -> Tensor:
    return vectors_BD
