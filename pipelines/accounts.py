"""What embedding a view took: how much was encoded, where the time went, and what set the pace."""

import sys
from collections.abc import Sequence

from features.encoders.timing import ACTIVITIES
from pipelines.job import ShardRecord
from pipelines.view_plan import ViewPlan

_WORK = tuple(activity for activity in ACTIVITIES if activity != "wait")
_OTHER_WORK = tuple(activity for activity in _WORK if activity != "model")
_MUCH_WAITING = 0.1  # of a model's time: less is the end of a queue, not its speed


def say_account(plan: ViewPlan, written: Sequence[ShardRecord]) -> None:
    """Print a line on how a view was brought up to date, and one on where the time of its threads went.

    written: the records of what this run made of the plan; the rest was made by a run that published nothing.
    """
    num_rows = sum(record.num_in for record in written)
    encoded = sum(record.account.get("num_encoded", 0) for record in written)
    name, num_found = plan.defined.view.name, len(plan.tasks) - len(written)
    shards = f"{len(written)} of {len(plan.files)} files written"
    found = f"; {num_found} found, written by a run that published nothing" if num_found else ""
    sys.stderr.write(f"embed {name}: {shards}, {encoded} of their {num_rows} samples encoded{found}\n")
    if encoded:
        spent_s = {name: sum(record.account.get(name, 0.0) for record in written) for name in ACTIVITIES}
        sys.stderr.write(f"  {describe_times(spent_s, plan.defined.device)}\n")


def describe_times(spent_s: dict[str, float], device: str) -> str:
    """Seconds of all threads together by activity in words, as shares of their work, and what was the limit.

    On a CPU it is what took the most, since the same processors do all of it; a GPU's is told by how long it waited.
    """
    total_s = sum(spent_s[activity] for activity in _WORK) or 1.0
    shares = ", ".join(f"{activity} {spent_s[activity] / total_s:.0%}" for activity in _WORK)
    work = f"work of all threads {total_s:.1f} s: {shares}"
    slowest = max(_OTHER_WORK, key=lambda activity: spent_s[activity])
    if device == "cpu":
        return f"{work}; limit is {slowest if spent_s[slowest] > spent_s['model'] else 'the model'}"
    waited = spent_s["wait"] / ((spent_s["wait"] + spent_s["model"]) or 1.0)
    limit = slowest if waited > _MUCH_WAITING else "the model"
    return f"{work}; the model waited {waited:.0%} of its time: limit is {limit}"


def num_halvings(records: Sequence[ShardRecord]) -> int:
    """How often batches were halved, for want of memory."""
    return max((record.account.get("num_halvings", 0) for record in records), default=0)
