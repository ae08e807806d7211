"""The digest of a stage's code: what its output depends on besides parameters, inputs and libraries."""

from features.rev import digest_code

# What lists, spreads, counts and reports the work decides no byte of a shard.
_PLUMBING = frozenset(
    {
        *(f"features.{name}" for name in ("errors", "reasons", "rev", "view")),
        *(
            f"pipelines.{name}"
            for name in ("code", "ingest", "inventory", "job", "leaks", "lock", "params", "progress", "reuse", "stage")
        ),
    }
)


def stage_code(module: str) -> dict[str, str]:
    """Digest by module of the code behind one stage: its own, all that it imports, and the writing of shards, without
    what moves the work."""
    return digest_code(module, "features.shards", without=_PLUMBING)
