"""Revs: what each declared view is made by here and now, where DVC can see it.

A rev holds more than params.yaml and the code tell: the bytes of weights wherever they lie, the versions of the
libraries that are installed, the device. DVC watches none of these, so a stage that always runs writes them down.
"""

import json
from pathlib import Path
from typing import Any

from features.shards import write_json
from pipelines.embed import define_views
from pipelines.params import EmbedParams


def write_revs(params: EmbedParams, path: Path) -> None:
    """Write the revs, and leave the file alone where it has them. Raises EncoderError if a view is not known here."""
    revs = declared_revs(params)
    if not path.is_file() or read_revs(path) != revs:
        write_json(path, revs)


def declared_revs(params: EmbedParams) -> dict[str, Any]:
    """By view: its rev, with the weights' digest and the device, which nothing else in the project tells."""
    return {
        defined.view.name: {
            "rev": defined.rev,
            "weights_digest": defined.definition["weights_digest"],
            "device": defined.device,
        }
        for defined in define_views(params, is_device_needed=False)
    }


def read_revs(path: Path) -> dict[str, Any]:
    """What is written down; nothing if that is no account of views."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
