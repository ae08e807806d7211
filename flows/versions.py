"""The commands that compare versions and tell where a sample comes from."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import features
from features.manifest import MANIFEST_FILE
from features.rev import DIGEST_CHARS, digest_json
from features.store import PROJECT_STORE
from flows.options import JsonOption, RevOption, StoreOption, open_store
from flows.tables import print_json, print_table, visible

_FIRST_KEYS = 10
_SHOWN_KEYS = 4
_SHOWN_CHARS = 12
_KINDS = ("added", "removed", "changed")
_MEASURES = ("vectors", "norm_mean", "p5", "p50", "p95", "dead_dimensions", "non_finite_dimensions")


def add_versions(app: typer.Typer) -> None:
    """Add diff and lineage."""
    app.command()(diff)
    app.command()(lineage)


def diff(
    old: Annotated[str, typer.Argument(metavar="A", help="A git revision, or the folder of a store.")],
    new: Annotated[str | None, typer.Argument(metavar="[B]", help="Likewise; by default the working version.")] = None,
    store: StoreOption = Path(),
    keys: Annotated[bool, typer.Option("--keys", help="List all keys, not the first of each kind.")] = False,
    json: JsonOption = False,
) -> None:
    """Say what changed from version A to version B: samples, keys by view, labels, and how the vectors moved."""
    opened = features.open(store) if new is None else _open_version(new, store)
    found = opened.diff(_open_version(old, store), num_keys=None if keys else _FIRST_KEYS)
    if json:
        print_json(found)
    else:
        _print_diff(found, all_keys=keys)


def _open_version(name: str, store: Path) -> features.Store:
    folder = Path(name)
    if any((folder / inside / MANIFEST_FILE).is_file() for inside in ("", PROJECT_STORE)):
        return features.open(folder)
    return features.open(store, rev=name)


def _print_diff(found: dict[str, Any], *, all_keys: bool) -> None:
    rows = [[name, found[name]["store"], found[name]["samples"]] for name in ("old", "new")]
    print_table(["version", "store", "samples"], rows, title="Versions")
    parts = {"samples": found["samples"], **found["views"]}
    rows = [
        [name, *(part[kind]["num"] for kind in _KINDS), part["unchanged"], _why(part)] for name, part in parts.items()
    ]
    rows += [[name, *[None] * 4, f"the view is {kind}"] for kind in _KINDS[:2] for name in found[f"views_{kind}"]]
    print_table(["of", *_KINDS, "unchanged", "why"], rows, title="Keys")
    _print_keys(parts, all_keys)
    _print_labels(found)
    _print_drift({name: view["drift"] for name, view in found["views"].items() if view["drift"]})
    _print_settings(found)


def _why(part: dict[str, Any]) -> str:
    """What made rows change."""
    if "fields" in part:
        return ", ".join(f"{name} of {num}" for name, num in part["fields"].items())
    if part["rev"][0] != part["rev"][1]:
        return "the view: all is computed anew"
    return "the input of the encoder" if part["changed"]["num"] else ""


def _print_keys(parts: dict[str, Any], all_keys: bool) -> None:
    kinds = [(name, kind, part[kind]["keys"]) for name, part in parts.items() for kind in _KINDS if part[kind]["num"]]
    if not kinds:
        return
    if all_keys:
        rows = [[name, kind, key] for name, kind, keys in kinds for key in keys]
        print_table(["of", "kind", "key"], rows, title="All keys")
    else:
        rows = [[name, kind, ", ".join(keys[:_SHOWN_KEYS])] for name, kind, keys in kinds]
        print_table(["of", "kind", "keys"], rows, title="First keys")


def _print_labels(found: dict[str, Any]) -> None:
    rows = [[split, label, *pair] for split, counts in found["labels"].items() for label, pair in counts.items()]
    rows += [[split, "(none)", *pair] for split, pair in found["unlabelled"].items()]
    changed = [[*row, row[3] - row[2]] for row in rows if row[2] != row[3]]
    if changed:
        print_table(["split", "label", "old", "new", "change"], changed, title="Labels with another count")


def _print_drift(drifts: dict[str, Any]) -> None:
    if not drifts:
        return
    rows = []
    for name, drift in drifts.items():
        for version in ("old", "new"):
            measures = {**drift[version], **drift[version]["norm_quantiles"]}
            rows.append([name, version, *(measures[measure] for measure in _MEASURES)])
    columns = ["view", "version", *(measure.replace("_", " ") for measure in _MEASURES)]
    print_table(columns, rows, title="Vectors (p5, p50, p95: quantiles of the norm; dimensions: share of them)")
    rows = [[name, drift["cosine_of_means"], *drift["cosines"].values()] for name, drift in drifts.items()]
    print_table(["view", "of the means", "keys", "mean", "min"], rows, title="Cosine of old and new vectors")


def _print_settings(found: dict[str, Any]) -> None:
    settings = {f"step {name}": pair for name, pair in found["steps"].items()}
    for view, diff in found["views"].items():
        settings |= {f"view {view}.{name}": pair for name, pair in diff["settings"].items()}
    if settings:
        rows = [[name, *map(_short, pair)] for name, pair in settings.items()]
        print_table(["setting", "old", "new"], rows, title="Settings")


def _short(value: Any) -> Any:
    """A digest by its first characters, several values by their number."""
    if isinstance(value, dict):
        return f"({len(value)} values)"
    return value[:_SHOWN_CHARS] if isinstance(value, str) and len(value) >= DIGEST_CHARS else value


def lineage(
    key: Annotated[str, typer.Argument(help="Key of a sample, or of one that was lost.")],
    store: StoreOption = Path(),
    rev: RevOption = None,
    json: JsonOption = False,
) -> None:
    """Tell where a sample comes from, what every step did to it and where its rows are; or why it was lost."""
    found = open_store(store, rev).lineage(key)
    if json:
        print_json(found)
    else:
        sys.stdout.write("\n".join(map(visible, _tree(found))) + "\n")


def _tree(found: dict[str, Any]) -> list[str]:
    """The lines of a lineage, each level of it two blanks deeper."""
    version = found["version"]
    committed = f"commit {version['commit'][:12]} {' '.join(version['tags'])}".rstrip() if version else "not committed"
    lines = [f"{found['key']}  ({found['store']}, {committed})", *_source_lines(found["source"])]
    for name, settings in found["steps"].items():
        lines.append(f"  {name}")
        lines += [f"    {setting}: {_setting(setting, value)}" for setting, value in settings.items()]
    if found["sample"]:
        lines += _sample_lines(found["sample"])
    for name, view in found["views"].items():
        lines += _view_lines(name, view)
    if found["packed"]:
        lines.append(f"  packed in {found['packed']['file']} as {found['packed']['members']}")
    return lines + [_reject_line(reject) for reject in found["rejects"]]


def _reject_line(reject: dict[str, Any]) -> str:
    is_warning = reject["dropped"] == "nothing"
    what = reject["key"] if is_warning else f"{reject['dropped']} of {reject['key']}"
    return f"  {'odd' if is_warning else 'lost'} in {reject['stage']}: {what}, {reject['reason']}: {reject['text']}"


def _setting(name: str, value: Any) -> str:
    """A step's setting in one line: several values as name=value, the digests of its code as one."""
    if not isinstance(value, dict):
        return str(_short(value))
    if name == "code":
        return f"{_short(digest_json(value))}, of {len(value)} modules"
    return ", ".join(f"{inner}={_setting(inner, of)}" for inner, of in value.items())


def _source_lines(source: dict[str, Any]) -> list[str]:
    files = source["files"]
    if files is None:
        return [f"  source {source['uris'] or 'unknown'}", f"    digest {source['digest'] or 'unknown'}"]
    lines = [
        f"    {name} {file['uri']}  {file['size']} bytes, sha256 {_short(file['digest'])}"
        for name, file in files.items()
    ]
    if text := source["text"]:
        lines.insert(0, f"    text of {text['chars']} characters, sha256 {_short(text['digest'])}")
    return ["  source", *lines]


def _recorder_lines(sample: dict[str, Any]) -> list[str]:
    if sample["audio_confidence"] is None:
        return []
    drift_ppm = sample["audio_drift_ppm"]
    drift = "too short for a drift" if drift_ppm is None else f"drift {drift_ppm:g} ppm"
    offset = f"offset {sample['audio_offset_s']:g} s"
    return [f"    audio of a separate recorder: {offset}, {drift}, confidence {sample['audio_confidence']:g}"]


def _sample_lines(sample: dict[str, Any]) -> list[str]:
    is_timed = sample["start_s"] is not None
    times = f" from {sample['start_s']:g} to {sample['end_s']:g} s" if is_timed else ""
    variant = f", augmented copy {sample['variant']}" if sample["variant"] else ""
    return [
        f"  sample of {sample['recording']}{times}{variant}",
        f"    split {sample['split']}, group {sample['group']}, label {sample['label']}",
        *_recorder_lines(sample),
        f"    {_place(sample['stored'])}",
    ]


def _view_lines(name: str, view: dict[str, Any]) -> list[str]:
    weights = f", weights sha256 {_short(view['weights_digest'])}" if view["weights_digest"] else ""
    absent = "" if view["present"] else ": absent"
    return [
        f"  view {name}: {view['encoder']} of {view['made_from']}, {view['pooling']}, {view['dtype']}{absent}",
        f"    rev {_short(view['rev'])}, feature key {view['feature_key']}{weights}",
        *([f"    fit {view['fit']['file']}, sha256 {_short(view['fit']['sha256'])}"] if "fit" in view else []),
        f"    {_place(view['stored'])}",
    ]


def _place(stored: dict[str, Any]) -> str:
    return f"{stored['file']} row {stored['row']}, sha256 {_short(stored['sha256'])}"
