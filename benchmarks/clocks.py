"""Separate recorders: how exactly offset and drift are found, how fast, and how sure, beside two other packages.

Pairs of recordings of one event, an hour each, whose offset (up to 10 minutes) and drift (up to 200 ppm) are known:
speech by espeak-ng and, where there is a folder of it, real speech, in random order; each recorder in a room of its
own with a microphone of its own and noise as loud as the event (white, pink or babble in turn). Then shorter ones, and
pairs that have nothing in common. One thread. The peers find offsets only, so theirs counts if it holds at any moment.

Run from a checkout with the extra 'test': python benchmarks/clocks.py [--quick] [--json] [--only long|short]
[--cases N] [--first SEED]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from measures import Measure, at_least, at_most, show
from own_environment import python_with
from pipelines.media.clocks import relate_clocks
from pipelines.params import CleanSyncParams
from recorders import NOISES, RATE_HZ, Case, Pair, generated_utterances, make_pair, real_utterances, warp

_PEERS = {"audio-offset-finder": "audio-offset-finder==0.5.5", "syncstart": "syncstart==1.1.1"}
_GOAL_S, _GOAL_PPM, _GOAL_SHARE, _GOAL_SPEED = 0.005, 2.0, 0.99, 60
_SHORT_S = (5.0, 10.0, 30.0, 300.0)
_TIMEOUT_S = 900
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
_PARAMS = CleanSyncParams()


@dataclass(frozen=True)
class Outcome:
    """One pair: the largest error at the start, the middle and the end of what both recorded, and the drift's."""

    speech: str
    noise: str
    seed: int
    duration_s: float
    error_s: float
    drift_error_ppm: float | None
    confidence: float
    speed: float  # seconds of the longer recording in a second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="recordings of 10 minutes, and few")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, pairs as well")
    parser.add_argument("--only", choices=["long", "short"], help="pairs of an hour with the peers, or shorter ones")
    parser.add_argument("--cases", type=int, help="pairs of an hour, of each kind of speech (default 50)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first pair, to run in parts")
    parser.add_argument("--peer-cases", type=int, default=3, help="of them also given to the other packages")
    parser.add_argument("--real", type=Path, default=Path("../shared/media/digits"), help="folder of real speech (wav)")
    parser.add_argument("--peers-venv", type=Path, default=Path(tempfile.gettempdir()) / "plait-clock-peers-venv")
    options = parser.parse_args()
    check_generator()
    speech = {"generated": generated_utterances(400 if options.quick else 4000)}
    if options.real.is_dir():
        speech["real"] = real_utterances(options.real)
    else:
        print(f"no real speech: {options.real} is no folder", file=sys.stderr)
    num = options.cases if options.cases is not None else (3 if options.quick else 50)
    num = 0 if options.only == "short" else num
    duration_s = 600.0 if options.quick else 3600.0
    peers = Peers(options.peers_venv, 1 if options.quick else options.peer_cases)
    measures: list[Measure] = []
    for name, utterances in speech.items():
        crowd = speech["generated"][1::2]
        spoken = utterances[::2] if name == "generated" else utterances
        cases = [_case(options.first + index, duration_s) for index in range(num)]
        outcomes = []
        for index, case in enumerate(cases):
            pair = make_pair(case, spoken, crowd)
            outcomes.append(relate(name, case, pair))
            if options.json:
                print(json.dumps(asdict(outcomes[-1])), flush=True)
            if index < peers.num_cases:
                peers.ask(name, case, pair)
        measures += summary(f"{name} speech, {duration_s:g} s", outcomes)
        if options.only != "long":
            measures += short_ones(name, spoken, crowd, 6 if options.quick else 60)
    for measure in [*measures, *peers.measures()]:
        show(measure, as_json=options.json)


def _case(seed: int, duration_s: float) -> Case:
    bound_s = min(_PARAMS.max_offset_s, duration_s / 2)
    return Case(seed=seed, noise=NOISES[seed % 3], reference_s=duration_s, other_s=duration_s, max_offset_s=bound_s)


def check_generator() -> None:
    """Bumps go through the resampling to where the clock has them. Raises ValueError if one is off by 5 us."""
    event_T = np.zeros(600 * RATE_HZ, np.float32)
    bump_T = np.exp(-0.5 * (np.arange(-15, 16) / 3) ** 2)
    for bump_s in (1, 300, 599):
        event_T[bump_s * RATE_HZ - 15 : bump_s * RATE_HZ + 16] = bump_T
    warped_T = warp(event_T, 200.0)
    for bump_s in (1, 300, 599):
        place = bump_s * RATE_HZ / (1 + 200e-6)
        around_N = np.arange(round(place) - 20, round(place) + 21)
        found = float(np.average(around_N, weights=warped_T[around_N].astype(np.float64) ** 2))
        if abs(found - place) > 5e-6 * RATE_HZ:
            raise ValueError(f"a bump at {place} came out at sample {found}")


def relate(speech: str, case: Case, pair: Pair) -> Outcome:
    """Relate the clocks of a pair, and compare with what is known."""
    bounds = {"max_offset_s": _PARAMS.max_offset_s, "max_drift_ppm": _PARAMS.max_drift_ppm}
    started_s = time.perf_counter()
    found = relate_clocks(pair.reference_T, pair.other_T, RATE_HZ, **bounds)
    speed = case.reference_s / (time.perf_counter() - started_s)
    drift_error_ppm = (found.drift_ppm or 0.0) - pair.drift_ppm
    error_s = max(abs(found.offset_s - pair.offset_s + at_s * drift_error_ppm * 1e-6) for at_s in _moments(case, pair))
    known_drift = None if found.drift_ppm is None else drift_error_ppm
    return Outcome(speech, case.noise, case.seed, case.reference_s, error_s, known_drift, found.confidence, speed)


def _moments(case: Case, pair: Pair) -> tuple[float, float, float]:
    """Start, middle and end of what both recorded, on the other's clock."""
    start_s, end_s = max(0.0, -pair.offset_s), min(case.other_s, case.reference_s - pair.offset_s)
    return start_s, (start_s + end_s) / 2, end_s


def summary(name: str, outcomes: Sequence[Outcome]) -> list[Measure]:
    """What is asked of long recordings."""
    if not outcomes:
        return []
    errors_s = np.array([one.error_s for one in outcomes])
    drifts_ppm = np.array([abs(one.drift_error_ppm) for one in outcomes if one.drift_error_ppm is not None])
    confidences = np.array([one.confidence for one in outcomes])
    return [
        Measure(f"{name}: pairs", len(outcomes), ""),
        at_least(f"{name}: within 5 ms", 100 * float(np.mean(errors_s <= _GOAL_S)), "%", 100 * _GOAL_SHARE),
        Measure(f"{name}: error, median", 1e3 * float(np.median(errors_s)), "ms"),
        Measure(f"{name}: error, largest", 1e3 * float(errors_s.max()), "ms"),
        at_most(f"{name}: drift error, largest", float(drifts_ppm.max(initial=0.0)), "ppm", _GOAL_PPM),
        at_least(f"{name}: real time, slowest", min(one.speed for one in outcomes), "times", _GOAL_SPEED),
        Measure(f"{name}: confidence, lowest", float(confidences.min()), ""),
        Measure(f"{name}: rejected", 100 * float(np.mean(confidences < _PARAMS.min_confidence)), "%"),
    ]


def short_ones(name: str, spoken: Sequence[np.ndarray], crowd: Sequence[np.ndarray], num: int) -> list[Measure]:
    """Shorter recordings, by duration: whether the accepted ones are right, and what is made of unrelated ones."""
    measures = []
    for duration_s in _SHORT_S:
        cases = [_case(10_000 + seed, duration_s) for seed in range(num if duration_s < 100 else num // 4)]
        related, strangers = [], []
        for case in cases:
            pair = make_pair(case, spoken[::2], crowd[::2])
            other = make_pair(replace(case, seed=case.seed + 50_000), spoken[1::2], crowd[1::2])
            related.append(relate(name, case, pair))
            strangers.append(relate(name, case, Pair(pair.reference_T, other.other_T, 0.0, 0.0)).confidence)
        title = f"{name} speech, {duration_s:g} s, {len(cases)} pairs"
        taken = [one for one in related if one.confidence >= _PARAMS.min_confidence]
        wrong = sum(one.error_s > _GOAL_S for one in taken)
        measures += [
            Measure(f"{title}: rejected", 100 * (1 - len(taken) / len(related)), "%"),
            Measure(f"{title}: accepted, but off by more than 5 ms", 100 * wrong / max(1, len(taken)), "%"),
            Measure(f"{title}: unrelated, highest confidence", max(strangers), ""),
            Measure(
                f"{title}: unrelated, accepted",
                100 * float(np.mean(np.array(strangers) >= _PARAMS.min_confidence)),
                "%",
            ),
        ]
    return measures


class Peers:
    """The other packages, in an environment of their own; found: of each pair least and largest error, and speed."""

    def __init__(self, folder: Path, num_cases: int) -> None:
        self.num_cases = num_cases
        self.found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in _PEERS}
        self.failed: dict[str, str] = {}
        self._python = python_with(folder, ["--no-deps", *_PEERS.values()]) if num_cases else ""

    def ask(self, speech: str, case: Case, pair: Pair) -> None:
        """Give a pair to each. Where clocks drift, one offset is off by little at one moment and by more elsewhere."""
        held_s = [pair.offset_s + at_s * pair.drift_ppm * 1e-6 for at_s in _moments(case, pair)]
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, name) for name in ("reference.npy", "other.npy")]
            for path, wave_T in zip(paths, (pair.reference_T, pair.other_T), strict=True):
                np.save(path, wave_T)
            for name in _PEERS:
                command = [self._python, str(Path(__file__).with_name("clock_peers.py")), name, *map(str, paths)]
                try:
                    done = subprocess.run(
                        command,
                        capture_output=True,
                        text=True,
                        timeout=_TIMEOUT_S,
                        check=True,
                        env={**os.environ, **_ONE_THREAD},
                    )
                except subprocess.CalledProcessError as error:
                    self.failed[name] = (error.stderr or "killed").strip().splitlines()[-1][:100]
                    continue
                except subprocess.TimeoutExpired:
                    self.failed[name] = f"took more than {_TIMEOUT_S} s"
                    continue
                answer = json.loads(done.stdout.splitlines()[-1])
                error_s = max(min(held_s) - answer["offset_s"], answer["offset_s"] - max(held_s), 0.0)
                worst_s = max(abs(held - answer["offset_s"]) for held in held_s)
                self.found[name].append((error_s, worst_s, case.reference_s / answer["seconds"]))

    def measures(self) -> list[Measure]:
        """Share within 5 and 100 ms, and speed."""
        measures = []
        for name, found in self.found.items():
            if name in self.failed:
                measures.append(Measure(name, None, f"failed: {self.failed[name]}"))
            if found:
                errors_s, worst_s, speeds = np.array(found).T
                measures += [
                    Measure(f"{name}: pairs", len(found), ""),
                    Measure(
                        f"{name}: within 5 ms of an offset that holds", 100 * float(np.mean(errors_s <= 0.005)), "%"
                    ),
                    Measure(f"{name}: within 100 ms", 100 * float(np.mean(errors_s <= 0.1)), "%"),
                    Measure(f"{name}: within 5 ms all along", 100 * float(np.mean(worst_s <= 0.005)), "%"),
                    Measure(f"{name}: largest error along a pair, median", 1e3 * float(np.median(worst_s)), "ms"),
                    Measure(f"{name}: least error along a pair, median", 1e3 * float(np.median(errors_s)), "ms"),
                    Measure(f"{name}: real time, median", float(np.median(speeds)), "times"),
                ]
        return measures


if __name__ == "__main__":
    main()
