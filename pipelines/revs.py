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
from pipelines.reduced_views import ReducedView
from pipelines.view_plan import DefinedView


def write_revs(params: EmbedParams, path: Path) -> None:
    """Write the revs, and leave the file alone where it has them. Raises EncoderError if a view is not known here."""
    revs = declared_revs(params)
    if not path.is_file() or read_revs(path) != revs:
        write_json(path, revs)


def declared_revs(params: EmbedParams) -> dict[str, Any]:
    """By view: its rev, with the weights' digest and the device, which nothing else in the project tells; of a reduced
    view the rev of its declaration, with that of its base: the fit is not known before embed runs."""
    return {view.view.name: _declared_rev(view) for view in define_views(params, is_device_needed=False)}


def _declared_rev(defined: DefinedView | ReducedView) -> dict[str, Any]:
    if isinstance(defined, ReducedView):
        return {"rev": defined.rev, "made_from": {"view": defined.base.view.name, "rev": defined.base.rev}}
    return {"rev": defined.rev, "weights_digest": defined.definition["weights_digest"], "device": defined.device}


def read_revs(path: Path) -> dict[str, Any]:
    """What is written down; nothing if that is no account of views."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
