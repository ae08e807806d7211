"""The card of packed shards: what Hugging Face's datasets must know of them that it cannot tell from the first few."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from features.shards import replacing
from features.view import StoredView

CARD_FILE = "README.md"

_TEXT = """
Samples with their media and features, packed by Plait as WebDataset shards. `datasets.load_dataset()` of this folder
reads them too: a member that a sample lacks is None there, and `flac` and `mp4` stay bytes.
"""
# Both kinds of image may occur; a member that is in no sample is a column of None.
_MEDIA = {"json": "json", "txt": "string", "jpg": "image", "png": "image", "flac": "binary", "mp4": "binary"}


def write_card(folder: Path, views: Mapping[str, StoredView], splits: Iterable[str]) -> None:
    """Write the card of the shards <split>-*.tar in the folder."""
    members: list[dict[str, Any]] = [{"name": name, "dtype": kind} for name, kind in _MEDIA.items()]
    for view in views.values():
        vector = {"list": view.dtype, "length": view.dim}
        members.append({"name": f"{view.name}.npy", **({"list": vector} if view.is_sequence else vector)})
        if view.is_sequence:
            members.append({"name": f"{view.name}_times_s.npy", "list": {"list": "float64", "length": 2}})
    members.append({"name": "__key__", "dtype": "string"})
    files = [{"split": split, "path": f"{split}-*.tar"} for split in splits]
    card = {"configs": [{"config_name": "default", "data_files": files}], "dataset_info": {"features": members}}
    with replacing(folder / CARD_FILE) as temporary:
        temporary.write_text(f"---\n{yaml.safe_dump(card, sort_keys=False)}---\n{_TEXT}", encoding="utf-8")
