"""The view: one declared feature, and what is known of it once it is stored."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from features.rev import digest_json
from features.sample import MODALITIES, TIMED_TEXT
from features.shards import shard_file

Pooling = Literal["mean", "max", "mean_std", "temporal", "sequence"]
POOLINGS = ("mean", "max", "mean_std", "temporal", "sequence")
Dtype = Literal["float16", "float32"]
DTYPES = ("float16", "float32")


@dataclass(frozen=True, kw_only=True)
class View:
    """A feature as its owner declares it: which encoder reads which modality, and how its output is kept.

    options go to the encoder; code_version is the owner's own mark for a change that no digest sees; weights_digest
    pins the encoder's weights: with others the view is not computed.
    """

    name: str
    input: str
    encoder: str
    pooling: Pooling = "mean"
    dtype: Dtype = "float16"
    options: dict[str, Any] = field(default_factory=dict)
    code_version: str = "1"
    weights_digest: str | None = None

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.input, MODALITIES, "input"),
            (self.pooling, POOLINGS, "pooling"),
            (self.dtype, DTYPES, "dtype"),
        ):
            if value not in known:
                raise ValueError(f"view {self.name!r}: {what} is {value!r}; it must be one of {', '.join(known)}")

    @property
    def source(self) -> str:
        """Which digest of a sample tells what the encoder is given: that of the input, but a sequence of a text also
        has the times of its words."""
        return TIMED_TEXT if self.input == "text" and self.pooling == "sequence" else self.input

    def rev(self, encoder_definition: dict[str, Any]) -> str:
        """Hash of all that is the same for every row: the view, and the encoder's weights, code and libraries.

        The options are in the encoder's definition, by what they do: an option that says the default changes nothing,
        and a weights file may move. So are the weights, pinned or not.
        """
        not_declared = ("name", "options", "weights_digest")
        declared = {name: value for name, value in asdict(self).items() if name not in not_declared}
        return digest_json({"view": declared, "encoder": encoder_definition})


@dataclass(frozen=True, kw_only=True)
class StoredView:
    """A view as the manifest lists it. shape is (dim,) or, for sequences, (None, dim)."""

    name: str
    rev: str
    input: str
    encoder: str
    pooling: str
    dtype: str
    dim: int
    code_version: str
    weights_digest: str | None
    definition: dict[str, Any]
    files: Mapping[str, str]  # shard name -> file
    digests: Mapping[str, str]  # shard name -> sha256 of the file
    num_present: int
    options: dict[str, Any] = field(default_factory=dict)  # of the encoder, which queries are given to again
    deterministic: bool = True  # whether equal inputs give equal bytes wherever they are computed
    caveat: str | None = None  # why it is not
    base: str | None = None  # of a reduced view: the view that its rows are computed from; encoder names the steps
    fit: str | None = None  # of a reduced view: sha256 of the file with the fitted steps

    @property
    def fit_file(self) -> str | None:
        """Where the view's folder has the fitted steps, if it is a reduced view."""
        return None if self.fit is None else shard_file("fit", self.fit)

    @property
    def made_from(self) -> str:
        """What encoder, or the steps of a reduced view, are given, in words."""
        return self.input if self.base is None else f"view {self.base}"

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (None, self.dim) if self.is_sequence else (self.dim,)

    @property
    def is_sequence(self) -> bool:
        return self.pooling == "sequence"
