"""Every error a user can cause: each message states the thing, the value, the rule and the cure."""

import difflib
from collections.abc import Iterable


class PlaitError(Exception):
    """Root of all errors whose text is meant for the user, printed as one line."""


class ConfigError(PlaitError):
    """A parameter is unknown, has the wrong type or breaks a rule."""


class SourceError(PlaitError):
    """The raw recordings cannot be listed or read."""


class ShardError(PlaitError):
    """A shard on disk does not hold what the manifest says."""


class StoreError(PlaitError):
    """A feature store cannot be opened or lacks what was asked for."""


class QueryError(PlaitError):
    """A query cannot be parsed, or asks for more than reading the store."""


class EncoderError(PlaitError):
    """An encoder is unknown, lacks a package or weights, or cannot take the input."""


class ReductionError(PlaitError):
    """A reduction cannot be fitted, or keeps more than there is."""


class RejectRatioError(PlaitError):
    """A stage dropped more of its samples than max_reject_ratio allows."""


class StageError(PlaitError):
    """A stage lacks its input, or its counts do not add up."""


class PublishError(PlaitError):
    """The working version cannot be published as it is."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message that suggests what is known and near; empty if nothing is."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""
