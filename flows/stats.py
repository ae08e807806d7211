"""The command that counts and measures a store."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from features.errors import ConfigError
from features.sample import MODALITIES
from features.shards import replacing
from features.stats import stats
from features.store import Store
from features.versions import file_beside
from flows.options import JsonOption, RevOption, StoreOption, open_store
from flows.tables import print_json, print_table

_PAGE = Path("data/reports/features.html")
_SCALARS = (
    *("input", "encoder", "pooling", "dtype", "shape", "rows", "present", "non_finite", "vectors", "dead_dimensions"),
)


def add_stats(app: typer.Typer) -> None:
    """Add the command stats."""
    app.command("stats")(_stats)


def _stats(
    page: Annotated[Path | None, typer.Argument(help=f"Where --html writes.  [default: {_PAGE}]")] = None,
    html: Annotated[bool, typer.Option("--html", help="Write a page with plots instead of tables.")] = False,
    store: StoreOption = Path(),
    rev: RevOption = None,
    json: JsonOption = False,
) -> None:
    """Count samples, modalities, labels, repeats and rejects, and measure the views."""
    if page is not None and not html:
        raise ConfigError(f"{page} is where a page goes, and no page was asked for: add --html, or leave it out")
    opened = open_store(store, rev)
    found = stats(opened)
    if html:
        _write_page(found, opened, page or _PAGE)
    if json:
        print_json(found)
    elif not html:
        print_stats(found)


def _write_page(found: dict[str, Any], store: Store, path: Path) -> None:
    from flows.stats_page import stats_page
    from pipelines.coverage import COVERAGE_FILE, read_coverage, summarise

    measured = file_beside(store.files, "align", COVERAGE_FILE)
    coverage = summarise(read_coverage(measured)) if measured else None
    with replacing(path) as temporary:
        temporary.write_text(stats_page(found, str(store.folder), coverage), encoding="utf-8")
    sys.stderr.write(f"stats: wrote {path}\n")


def print_stats(found: dict[str, Any]) -> None:
    """Print what stats() found as tables."""
    columns = ["total", *MODALITIES, "original", "augmented", "seconds"]
    rows: list[list[Any]] = [[split, *(count[name] for name in columns)] for split, count in found["samples"].items()]
    print_table(["split", *columns], rows, title="Samples")
    rows = [[" + ".join(entry["modalities"]) or "none", entry["samples"]] for entry in found["modalities"]["together"]]
    print_table(["modalities", "samples"], rows, title="Modalities")
    print_table(["label", *found["labels"]], _label_rows(found), title="Labels")
    views = found["views"]
    rows = [[name, *(view[name] for view in views.values())] for name in _SCALARS]
    for part in ("norm", "length"):
        for measure in ("min", "mean", "max"):
            rows.append([f"{part}_{measure}", *(view[part] and view[part][measure] for view in views.values())])
    print_table(["view", *views], rows, title="Views")
    print_table(["view", "equal", "repeats", "across_splits", "pairs"], _repeat_rows(found), title="Repeats")
    for kind in ("rejects", "warnings"):
        rows = [[stage, reason, num] for stage, counts in found[kind].items() for reason, num in counts.items()]
        print_table(["stage", "reason", kind], rows, title=kind.capitalize())


def _label_rows(found: dict[str, Any]) -> list[list[Any]]:
    labels = found["labels"]
    names = sorted({label for count in labels.values() for label in count})
    rows: list[list[Any]] = [[label, *(count.get(label, 0) for count in labels.values())] for label in names]
    return [*rows, ["(none)", *found["unlabelled"].values()]]


def _repeat_rows(found: dict[str, Any]) -> list[list[Any]]:
    rows = [["(all)", "inputs", found["repeats"]]]
    for name, view in found["views"].items():
        rows += [[name, what, view[f"equal_{what}"]] for what in ("inputs", "embeddings")]
    return [
        [name, what, repeats["rows"], repeats["across_splits"], [" = ".join(pair) for pair in repeats["pairs"]]]
        for name, what, repeats in rows
    ]
