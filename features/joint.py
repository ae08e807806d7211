"""Queries by text, image, audio or video: encoded as the view's own samples were."""

import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from features.encoders.base import Audio, Encoded, Encoder, Media, Video
from features.encoders.catalogue import make_encoder, query_modalities
from features.encoders.memory import within_memory
from features.encoders.pooling import pool
from features.encoders.session import encode_samples
from features.errors import EncoderError
from features.view import Pooling, StoredView, View

_WHAT_DECIDES = {"weights_digest": "weights", "settings": "settings", "running": "precision"}
_MODALITIES: dict[type, str] = {str: "text", bytes: "image", Audio: "audio", Video: "video"}


class QueryEncoders:
    """The encoders that queries have needed so far; each stays in memory."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, str], Encoder] = {}

    def encode(self, view: StoredView, media: Sequence[Media | Path]) -> np.ndarray:
        """float64 [medium, dim] in the space of a view with one vector a sample.

        A text is str, an image bytes, and a Path a file of text, image or audio, taken as it is.
        Raises EncoderError if the view's encoder cannot take one of them, or is no longer the one that made the view.
        """
        vectors = []
        for medium in media:
            taken = read_file(medium) if isinstance(medium, Path) else medium
            encoder = self._encoder(view, modality_of(taken))
            ((_, outcome),) = encode_samples(encoder, [(None, taken)])
            if not isinstance(outcome, Encoded):
                raise EncoderError(f"the query cannot be encoded for view {view.name!r}: {outcome}")
            vectors.append(pool(outcome.vectors_TD, outcome.times_T2, cast(Pooling, view.pooling))[0])
        return np.stack(vectors).astype(np.float64)

    def _encoder(self, view: StoredView, modality: str) -> Encoder:
        if (view.name, modality) not in self._loaded:
            encoder = _make(view, modality)
            with within_memory(view, "cpu"):
                encoder.load("cpu")
            self._loaded[view.name, modality] = encoder
        return self._loaded[view.name, modality]


def modality_of(media: Media) -> str:
    """The modality of a medium. Raises EncoderError if it is none."""
    if type(media) not in _MODALITIES:
        raise EncoderError(
            f"a query of type {type(media).__name__} is no text (str), image (bytes), Audio, Video or file (Path)"
        )
    return _MODALITIES[type(media)]


def read_file(path: Path) -> Media:
    """A file of text, image or audio as a medium, by the kind that its suffix says.

    Raises EncoderError for another kind or a file that cannot be read as its kind.
    """
    kind = (mimetypes.guess_type(path.name)[0] or "unknown").partition("/")[0]
    if kind == "image":
        return path.read_bytes()
    if kind == "text":
        return path.read_text(encoding="utf-8", errors="replace")
    if kind == "audio":
        return _read_audio(path)
    raise EncoderError(f"{path} is no text, image or audio by its suffix: give the medium itself")


def _read_audio(path: Path) -> Audio:
    import soundfile

    with path.open("rb") as file:
        try:
            wave_TC, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise EncoderError(f"{path} cannot be read as audio: {error.error_string}") from error
    return Audio(wave_TC.mean(axis=1), rate_hz)


def _make(view: StoredView, modality: str) -> Encoder:
    asked = query_modalities(view.encoder, view.input)
    if asked and modality not in asked:
        raise EncoderError(
            f"view {view.name!r} cannot be asked with {modality}: its encoder {view.encoder!r} takes "
            f"{' or '.join(asked)}; or ask with a vector or with keys"
        )
    pooling = cast(Pooling, view.pooling)
    asked_for = View(name=view.name, input=modality, encoder=view.encoder, pooling=pooling, options=view.options)
    encoder = make_encoder(asked_for)
    definition = encoder.definition()
    for name, what in _WHAT_DECIDES.items():
        if definition.get(name) != view.definition.get(name):
            raise EncoderError(
                f"view {view.name!r} was made with {what} {_short(view.definition.get(name))} of encoder "
                f"{view.encoder!r}, here are {_short(definition.get(name))}: bring those back, or run "
                "'dvc repro -f embed'"
            )
    return encoder


def _short(value: object) -> str:
    return value[:12] if isinstance(value, str) else str(value)
