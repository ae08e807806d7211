"""The digest of a stage's code: what its output depends on besides parameters, inputs and libraries."""

from collections.abc import Iterable

from features.rev import digest_code

# What lists, spreads, counts and reports the work decides no byte of a shard; nor does the store's door, through which
# one comes to all that can be asked of a store.
_PLUMBING = frozenset(
    {
        "features",
        "features.store",
        *(f"features.{name}" for name in ("errors", "reasons", "rev", "view")),
        *(f"features.encoders.{name}" for name in ("opening", "session", "timing")),
        *(
            f"pipelines.{name}"
            for name in (
                "code",
                "coverage",
                "ingest",
                "inventory",
                "job",
                "leaks",
                "lock",
                "params",
                "progress",
                "reuse",
                "stage",
            )
        ),
    }
)


def stage_code(*modules: str, unused: Iterable[str] = ()) -> dict[str, str]:
    """Digest by module of the code behind one stage: its own, all that it imports, and the writing of shards, without
    what moves the work.

    modules: the stage's own, and what it reaches through the store's door. unused: those that its parameters leave
    out; what only they import is left out too.
    """
    return digest_code(*modules, "features.shards", without=_PLUMBING.union(unused))
