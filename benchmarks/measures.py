"""One figure of a benchmark, and how figures are shown."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Measure:
    """One figure: goal is a bound with its direction, met is None where there is no goal.

    value is None where there is no figure; unit then says why.
    """

    name: str
    value: float | None
    unit: str
    goal: str | None = None
    met: bool | None = None


def at_most(name: str, value: float, unit: str, bound: float) -> Measure:
    """A figure that is good when it is no more than the bound."""
    return Measure(name, value, unit, f"<= {bound:g}", value <= bound)


def at_least(name: str, value: float, unit: str, bound: float) -> Measure:
    """A figure that is good when it is no less than the bound."""
    return Measure(name, value, unit, f">= {bound:g}", value >= bound)


def show(measure: Measure, *, as_json: bool) -> None:
    """Print a figure at once: one JSON object, or a line for people."""
    if as_json:
        print(json.dumps(asdict(measure)), flush=True)
        return
    met = {True: "met", False: "NOT MET", None: ""}[measure.met]
    value = "-" if measure.value is None else f"{measure.value:.2f}"
    print(f"{measure.name:<60} {value:>10} {measure.unit:<8} {measure.goal or '':<10} {met}", flush=True)
