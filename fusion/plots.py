"""The tables behind the plots, as CSV."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path

from features.shards import replacing
from fusion.fitting import Epoch
from fusion.scores import DIGITS

CURVES_FILE = "curves.csv"
_EPOCH_COLUMNS = [field.name for field in fields(Epoch)]


def write_curves(path: Path, curves: Mapping[str, Sequence[Epoch]]) -> None:
    """All models' curves in one table: model, then the fields of Epoch; what is null is nan, which plots leave out."""
    rows = [[name, *_rounded(epoch)] for name, curve in curves.items() for epoch in curve]
    _write(path, ["model", *_EPOCH_COLUMNS], rows)


def split_curves(path: Path, folder: Path) -> None:
    """Write the table of write_curves() again as <folder>/<model>.csv, since DVC draws one file a plot."""
    curves: dict[str, list[list[str]]] = {}
    with path.open(newline="") as file:
        for name, *epoch in list(csv.reader(file))[1:]:
            curves.setdefault(name, []).append(epoch)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in curves.items():
        _write(folder / f"{name}.csv", _EPOCH_COLUMNS, rows)
    for left_over in folder.glob("*.csv"):
        if left_over.stem not in curves:
            left_over.unlink()


def write_confusion(path: Path, actual: Sequence[str], predicted: Sequence[str]) -> None:
    """One row a test sample: actual, predicted."""
    _write(path, ["actual", "predicted"], zip(actual, predicted, strict=True))


def _rounded(epoch: Epoch) -> list[float]:
    return [math.nan if value is None else round(value, DIGITS) for value in astuple(epoch)]


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
