"""The views as params.yaml declares them: those that an encoder makes, and those that are reduced from one of them."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, JsonValue, Tag

from features.errors import nearest
from features.reductions import parse_steps
from features.view import Pooling
from pipelines.blocks import Block


def _digest(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{32}|[0-9a-f]{64}", text):
        raise ValueError(
            "a digest of weights is 64 hexadecimal digits, of a folder's 32: 'plait encoders NAME' tells it"
        )
    return text


class ViewParams(Block):
    """One feature: what it reads, which encoder makes it, how it is kept, and the digest that its weights must have."""

    input: Literal["text", "image", "audio", "video"]
    encoder: str
    pooling: Pooling = "mean"
    dtype: Literal["float16", "float32"] = "float16"
    options: dict[str, JsonValue] = Field(default_factory=dict)
    code_version: str = "1"
    weights_digest: Annotated[str, AfterValidator(_digest)] | None = None


def _known_steps(declared: list[JsonValue]) -> list[JsonValue]:
    parse_steps(declared)
    return declared


class ReducedViewParams(Block):
    """A view that is computed from the rows of another, by steps that are fitted on its training samples."""

    view: str
    reduce: Annotated[list[JsonValue], AfterValidator(_known_steps)]
    dtype: Literal["float16", "float32"] = "float16"


# What pydantic puts into the place of an error to say which kind of view it took.
VIEW_KINDS: dict[str, type[Block]] = {"(encoded)": ViewParams, "(reduced)": ReducedViewParams}


def _view_kind(declared: Any) -> str:
    is_reduced = "view" in declared if isinstance(declared, dict) else isinstance(declared, ReducedViewParams)
    return "(reduced)" if is_reduced else "(encoded)"


def _known_bases(views: dict[str, ViewParams | ReducedViewParams]) -> dict[str, ViewParams | ReducedViewParams]:
    """Raises ValueError if a reduced view is made from none that has an encoder."""
    encoded = [name for name, view in views.items() if isinstance(view, ViewParams)]
    for name, view in views.items():
        if isinstance(view, ReducedViewParams) and view.view not in encoded:
            what = "is reduced itself" if view.view in views else f"is not declared{nearest(view.view, encoded)}"
            raise ValueError(
                f"view {name!r} is made from view {view.view!r}, which {what}: name one that has an encoder, and all "
                "steps from there"
            )
    return views


# Names that a view cannot have: folders and columns of the store, and the fusion model's name.
_RESERVED = ("samples", "rejects", "key", "label", "concat")


def _free_name(name: str) -> str:
    if name in _RESERVED or not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name.endswith("_embedding"):
        raise ValueError(
            f"a view's name is of a-z, 0-9 and _, does not end in _embedding and is none of {', '.join(_RESERVED)}"
        )
    return name


def _free_columns(views: dict[str, ViewParams | ReducedViewParams]) -> dict[str, ViewParams | ReducedViewParams]:
    """Raises ValueError if the intervals of a sequence would be in a column that is called as another view."""
    for name, view in views.items():
        if isinstance(view, ViewParams) and view.pooling == "sequence":
            taken = next((f"{name}_{part}" for part in ("start_s", "end_s") if f"{name}_{part}" in views), None)
            if taken:
                raise ValueError(
                    f"view {name!r} keeps its intervals in a column {taken!r}: give view {taken!r} another name"
                )
    return views


ViewName = Annotated[str, AfterValidator(_free_name)]

Views = Annotated[
    dict[
        ViewName,
        Annotated[
            Annotated[ViewParams, Tag("(encoded)")] | Annotated[ReducedViewParams, Tag("(reduced)")],
            Discriminator(_view_kind),
        ],
    ],
    Field(min_length=1),
    AfterValidator(_known_bases),
    AfterValidator(_free_columns),
]
"""By name; a reduced one is made from one of the others that has an encoder."""
