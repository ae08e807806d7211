"""What came out of a run: samples, rejects, views and scores, as tables for people and as markdown."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import features
from features.sample import MODALITIES, SPLITS
from features.stats import count_samples
from flows.tables import print_table

_SCORES = ("accuracy", "precision", "recall", "f1")


@dataclass(frozen=True)
class Section:
    """One table of the report, with a line below it where there is more to say."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    note: str = ""


def collect_report(project: Path) -> list[Section]:
    """The report over a project's store and results. Raises StoreError if there is no store."""
    store = features.open(project)
    return [_samples(count_samples(store)), _rejects(store), _views(store), _scores(project / "results")]


def print_report(sections: Sequence[Section]) -> None:
    """Print the report as tables."""
    for section in sections:
        rows = section.rows or [("none", *(None for _ in section.columns[1:]))]
        print_table(section.columns, rows, title=section.title)
        if section.note:
            sys.stdout.write(f"{section.note}\n")


def report_markdown(sections: Sequence[Section]) -> str:
    """The report as one markdown document."""
    parts = []
    for section in sections:
        lines = [" | ".join(section.columns), " | ".join("---" for _ in section.columns)]
        lines += [" | ".join(_plain(cell) for cell in row) for row in section.rows]
        table = "\n".join(f"| {line} |" for line in lines) if section.rows else "none"
        parts.append("\n\n".join(part for part in (f"## {section.title}", table, section.note) if part))
    return "\n\n".join(parts) + "\n"


def _plain(cell: Any) -> str:
    text = "-" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell)
    return text.replace("|", "\\|").replace("\n", " ")


def _samples(counts: dict[str, Any]) -> Section:
    columns = ("split", "samples", "originals", "augmented", *MODALITIES)
    rows = []
    for split in SPLITS:
        of_split = counts["samples"][split]
        shown = (of_split["total"], of_split["original"], of_split["augmented"])
        rows.append((split, *shown, *(of_split[modality] for modality in MODALITIES)))
    return Section("Samples", columns, rows)


def _rejects(store: features.Store) -> Section:
    """How many keys lost what, why, and the first of them as an example."""
    query = """
        select
            stage, reason, dropped, count(distinct key) as num, arg_min(key, key) as example, arg_min(text, key) as text
        from rejects group by all order by all
    """
    rows = [tuple(row.values()) for row in store.sql(query).to_pylist()]
    return Section("Rejects", ("stage", "reason", "dropped", "count", "example", "why"), rows)


def _views(store: features.Store) -> Section:
    rows = [
        (
            view.name,
            view.made_from,
            view.encoder,
            view.pooling,
            view.dtype,
            str(view.shape),
            view.num_present,
            view.rev[:12],
        )
        for view in store.views.values()
    ]
    return Section("Views", ("view", "made from", "encoder", "pooling", "dtype", "shape", "present", "rev"), rows)


def _scores(results: Path) -> Section:
    title = "Scores on the test split"
    path = results / "metrics.json"
    metrics = json.loads(path.read_text()) if path.exists() else {}
    models = sorted(metrics, key=lambda model: (model == "concat", model))
    rows = [(model, *(round(metrics[model][name], 3) for name in _SCORES)) for model in models]
    return Section(title, ("model", *_SCORES), rows, _evidence(results) if rows else "no model: nothing is labelled")


def _evidence(results: Path) -> str:
    evaluation = json.loads((results / "evaluation.json").read_text())
    note = f"{evaluation['num_test']} test samples; always the commonest label: {evaluation['baseline']:.3f}"
    gain = evaluation["gain"]
    if not gain:
        return note
    note += f"; concat over {evaluation['best_single']}: {100 * gain['gain']:+.1f} points of accuracy"
    if gain["low"] is None:
        return f"{note} (one group alone gives no interval)"
    return (
        f"{note} (95% interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}, over {gain['num_groups']} groups)"
    )
