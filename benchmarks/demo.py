"""The demo from nothing to scores: time, memory, what a change runs again, and whether two runs give the same bytes.

Run from a checkout whose environment has the extra 'demo': python benchmarks/demo.py [--quick] [--json]
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from measures import Measure, at_most, show

REPOSITORY = Path(__file__).parent.parent
QUICK = {"recordings": 18, "segments": 2}  # the fewest that keep the broken ones below max_reject_ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a small demo, first run and unchanged run only; its few test samples say nothing of accuracy",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for measure in run(Path(folder), quick=options.quick):
            show(measure, as_json=options.json)


def run(folder: Path, *, quick: bool) -> list[Measure]:
    first = make_project(folder / "first", quick=quick)
    measures = [at_most("dvc repro from nothing", repro(first)[0], "s", 360)]
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    measures.append(at_most("peak memory of any process", peak_gib, "GiB", 3))
    seconds, ran = repro(first)
    measures.append(at_most("dvc repro with nothing changed", seconds, "s", 10))
    measures.append(at_most("stages run with nothing changed", len(ran), "stages", 0))
    if quick:
        return measures
    measures += scores(first)
    before = digests(first / "data")
    measures += change_view(first, before)
    second = make_project(folder / "second", quick=False)
    repro(second)
    differing = before.items() ^ digests(second / "data").items()
    measures.append(at_most("files that differ between two runs from nothing", len(differing), "files", 0))
    return measures


def make_project(folder: Path, *, quick: bool) -> Path:
    """A clone of the repository with the working tree's code, and a smaller demo if quick."""
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    if quick:
        change_params(folder, lambda params: params["demo"].update(QUICK))
    return folder


def change_params(project: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    change(params)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def repro(project: Path) -> tuple[float, list[str]]:
    """Seconds that dvc repro took, and the stages that it ran, without the one that always runs."""
    started_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=project, check=True, text=True, capture_output=True
    )
    lines = done.stdout.splitlines()
    ran = [line.split("'")[1] for line in lines if line.startswith("Running stage")]
    return time.monotonic() - started_s, [stage for stage in ran if stage != "revs"]


def scores(project: Path) -> list[Measure]:
    metrics = json.loads((project / "results" / "metrics.json").read_text())
    measures = [
        Measure(f"accuracy of {name}", 100 * block["accuracy"], "percent", None, None)
        for name, block in metrics.items()
    ]
    best = max(block["accuracy"] for name, block in metrics.items() if name != "concat")
    gain = 100 * (metrics["concat"]["accuracy"] - best)
    return [*measures, Measure("fusion over the best single modality", gain, "points", ">= 5", gain >= 5)]


def change_view(project: Path, before: dict[str, str]) -> list[Measure]:
    """Replace the image view's encoder, run, and see which stages ran and which files of the store changed."""

    def change(params: dict[str, Any]) -> None:
        params["embed"]["views"]["image"]["options"] = {"size_px": 96}

    change_params(project, change)
    seconds, ran = repro(project)
    after = digests(project / "data")
    others = [
        name for name in before if name.startswith("features/") and name.endswith(".arrow") and "/image/" not in name
    ]
    changed = [name for name in others if after.get(name) != before[name]]
    expected = ["embed", "pack", "train", "evaluate"]
    return [
        Measure("dvc repro after one view's encoder changed", seconds, "s", None, None),
        at_most("stages run besides embed, pack, train, evaluate", len(set(ran) ^ set(expected)), "stages", 0),
        at_most("files of the other views that changed", len(changed), "files", 0),
    ]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main()
