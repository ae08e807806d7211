"""One page on a store for people: plots and tables in one file that asks nothing of the network."""

from html import escape
from typing import Any

from features.sample import MODALITIES, SPLITS
from flows.coverage import percent, recording_rows
from flows.html_parts import Markup, bar, html_page, html_text, section, shaded, table
from flows.stats_plots import deviations_svg, histogram_svg

_SHOWN_LABELS = 20
_SHOWN_RECORDINGS = 10
_COVERED = 0.999  # times of segments are to the millisecond


def stats_page(found: dict[str, Any], title: str, coverage: dict[str, Any] | None = None) -> str:
    """The page on what stats() found; equal numbers and titles give equal bytes.

    coverage: how much of the recordings became segments, as pipelines.coverage summarises it, if that is known.
    """
    sections = [
        _summary(found),
        _samples(found),
        _modalities(found["modalities"], found["num_samples"]),
        _labels(found),
        *([_coverage(coverage)] if coverage else []),
        _views(found["views"]),
        _repeats(found),
        _rejects(found["rejects"], found["warnings"]),
    ]
    return html_page(f"Features: {title}", "\n".join(sections))


def _summary(found: dict[str, Any]) -> str:
    splits = found["samples"].values()
    cards = {
        "samples": found["num_samples"],
        "originals": sum(split["original"] for split in splits),
        "duration": _duration(sum(split["seconds"] for split in splits)),
        "labels": len({label for labels in found["labels"].values() for label in labels}),
        "views": len(found["views"]),
        **{kind: sum(sum(counts.values()) for counts in found[kind].values()) for kind in ("rejects", "warnings")},
    }
    shown = "".join(f"<div><dt>{name}</dt><dd>{html_text(value)}</dd></div>" for name, value in cards.items())
    return f'<dl class="cards">{shown}</dl>'


def _samples(found: dict[str, Any]) -> str:
    counts = found["samples"]
    rows = [
        [
            split,
            *(count[part] for part in ("total", "original", "augmented")),
            _duration(count["seconds"]),
            *(count[modality] for modality in MODALITIES),
        ]
        for split, count in counts.items()
    ]
    columns = ["split", "samples", "originals", "augmented", "duration", *MODALITIES]
    note = (
        "Duration counts the originals that lie on a timeline. The last columns count samples that have the modality."
    )
    return section("Samples", note, table(columns, rows))


def _modalities(found: dict[str, Any], num_samples: int) -> str:
    rows = [
        [
            *("●" if name in entry["modalities"] else "" for name in MODALITIES),
            entry["samples"],
            _percent(entry["samples"], num_samples),
            bar(entry["samples"], num_samples),
        ]
        for entry in found["together"]
    ]
    together = table([*MODALITIES, "samples", "share", ""], rows, caption="Which modalities samples have together")
    pairs = [[one, *(shaded(found["pairs"][one][other], num_samples) for other in MODALITIES)] for one in MODALITIES]
    matrix = table(["", *MODALITIES], pairs, caption="Samples that have both")
    return section("Modalities", "", together + matrix)


def _labels(found: dict[str, Any]) -> str:
    """The commonest labels and the rest, as shares of the labelled samples of each split."""
    labels, splits = found["labels"], [split for split in SPLITS if found["samples"][split]["total"]]
    totals = {split: sum(labels[split].values()) for split in splits}
    names = {name for split in splits for name in labels[split]}
    commonest = sorted(names, key=lambda name: (-sum(labels[split].get(name, 0) for split in splits), name))
    shown, rest = commonest[:_SHOWN_LABELS], commonest[_SHOWN_LABELS:]
    counts = [(Markup(escape(name)), [labels[split].get(name, 0) for split in splits]) for name in shown]
    if rest:
        others = [sum(labels[split].get(name, 0) for name in rest) for split in splits]
        counts.append((Markup(f"<em>{len(rest)} others</em>"), others))
    most = max((n / totals[split] for _, row in counts for split, n in zip(splits, row, strict=True) if n), default=1)
    rows = []
    for name, row in counts:
        cells: list[Any] = [name]
        for split, count in zip(splits, row, strict=True):
            cells += [count, _percent(count, totals[split]), bar(count, most * totals[split])]
        rows.append(cells)
    none = [part for split in splits for part in (found["unlabelled"][split], "", "")]
    rows.append([Markup("<em>no label</em>"), *none])
    columns = ["label", *(part for split in splits for part in (split, "", ""))]
    return section("Labels", "Shares are of the labelled samples of a split.", table(columns, rows))


def _coverage(coverage: dict[str, Any]) -> str:
    totals = [
        [
            name,
            one["recordings"],
            _duration(one["there_s"]),
            _duration(one["segments_s"]),
            percent(one["share"]),
            bar(one["segments_s"], one["there_s"]),
        ]
        for name, one in coverage["totals"].items()
    ]
    columns = ["modality", "recordings", "there", "in segments", "share", ""]
    worst = [one for one in coverage["recordings"] if one["share"] < _COVERED][:_SHOWN_RECORDINGS]
    rows = recording_rows(worst, list(coverage["totals"]))
    listed = table(["recording", *coverage["totals"], "rejected"], rows, caption="The least covered") if worst else ""
    note = "How much of what recordings have became segments. What several segments share counts once."
    return section("Coverage", note, table(columns, totals) + listed)


def _views(views: dict[str, dict[str, Any]]) -> str:
    rows = [
        [
            name,
            *(view[part] for part in ("input", "encoder", "pooling", "dtype")),
            view["shape"][-1],
            view["present"],
            _percent(view["present"], view["rows"]),
            *(view[part] for part in ("vectors", "non_finite", "dead_dimensions")),
        ]
        for name, view in views.items()
    ]
    columns = [
        "view",
        "input",
        "encoder",
        "pooling",
        "dtype",
        "dim",
        "present",
        "",
        "vectors",
        "non-finite",
        "dead dims",
    ]
    plots = "".join(_view_plots(f"view{place}", name, view) for place, (name, view) in enumerate(views.items()))
    note = "A dead dimension has one value in all vectors; orange ground marks them. The orange line is the mean."
    return section("Views", note, table(columns, rows) + plots)


def _view_plots(ident: str, name: str, view: dict[str, Any]) -> str:
    plots = []
    if view["norm"]:
        plots.append(histogram_svg(view["norm"], name=f"{ident}-norm", what="norm", unit="vectors"))
    if view["deviations"]:
        plots.append(deviations_svg(view["deviations"], name=f"{ident}-dims"))
    if view["length"]:
        plots.append(histogram_svg(view["length"], name=f"{ident}-length", what="vectors a sample", unit="samples"))
    shown = "".join(f"<figure>{plot}</figure>" for plot in plots) or "<p>No embedding is present.</p>"
    return f'<h3>{escape(name)}</h3>\n<div class="plots">{shown}</div>\n'


def _repeats(found: dict[str, Any]) -> str:
    every = {("all views", "inputs"): found["repeats"]}
    every |= {
        (name, what): view[f"equal_{what}"]
        for name, view in found["views"].items()
        for what in ("inputs", "embeddings")
    }
    rows = [
        [name, what, repeats["rows"], repeats["across_splits"], _pairs(repeats["pairs"])]
        for (name, what), repeats in every.items()
    ]
    note = (
        "Samples that repeat one before, by hash. Inputs are the bytes that an encoder is given, after augmentation. "
        "What is in more than one split flatters a test score."
    )
    return section("Repeats", note, table(["view", "equal", "repeats", "across splits", "the first"], rows))


def _pairs(pairs: list[list[str]]) -> Markup:
    return Markup("<br>".join(escape(f"{key} = {repeat}") for key, repeat in pairs))


def _rejects(rejects: dict[str, dict[str, int]], warnings: dict[str, dict[str, int]]) -> str:
    note = "What was lost or shortened since ingest." if rejects else "Nothing was lost since ingest."
    odd = _by_reason(warnings, "Warnings: what is odd about recordings that are kept")
    return section("Rejects", note, _by_reason(rejects, "") + odd)


def _by_reason(found: dict[str, dict[str, int]], caption: str) -> str:
    counts = [(stage, reason, count) for stage, reasons in found.items() for reason, count in reasons.items()]
    most = max((count for *_, count in counts), default=0)
    rows = [[stage, reason, count, bar(count, most)] for stage, reason, count in counts]
    return table(["stage", "reason", "count", ""], rows, caption=caption) if rows else ""


def _percent(count: int, whole: int) -> str:
    return f"{100 * count / whole:.1f}%" if whole else ""


def _duration(seconds: float) -> str:
    """As 1 h 02 min, 3 min 20 s or 4.2 s, never broken over two lines."""
    minutes, rest = divmod(round(seconds), 60)
    shown = f"{seconds:.1f} s" if seconds < 60 else f"{minutes} min {rest:02} s"
    shown = f"{minutes // 60:,} h {minutes % 60:02} min" if minutes >= 60 else shown
    return shown.replace(" ", "\u00a0")
