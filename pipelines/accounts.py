"""What embedding a view took: how much was encoded, where the time went, and what set the pace."""

import sys
from collections.abc import Sequence

from features.encoders.timing import ACTIVITIES
from pipelines.job import ShardRecord
from pipelines.view_plan import ViewPlan

_WORK = tuple(activity for activity in ACTIVITIES if activity != "wait")
_OTHER_WORK = tuple(activity for activity in _WORK if activity != "model")
_MUCH_WAITING = 0.1  # of a model's time: less is the end of a queue, not its speed


def say_account(plan: ViewPlan, records: Sequence[ShardRecord]) -> None:
    """Print a line on how a view was brought up to date, and one on where the time of its threads went."""
    num_rows = sum(task.num_rows for task in plan.tasks)
    encoded = sum(record.account.get("num_encoded", 0) for record in records)
    name = plan.defined.view.name
    shards = f"{len(plan.tasks)} of {len(plan.files)} files written"
    sys.stderr.write(f"embed {name}: {shards}, {encoded} of their {num_rows} samples encoded\n")
    if encoded:
        spent_s = {name: sum(record.account.get(name, 0.0) for record in records) for name in ACTIVITIES}
        sys.stderr.write(f"  {describe_times(spent_s)}\n")


def describe_times(spent_s: dict[str, float]) -> str:
    """Seconds of all threads together by activity in words, as shares of their work, and what was the limit."""
    total_s = sum(spent_s[activity] for activity in _WORK) or 1.0
    shares = ", ".join(f"{activity} {spent_s[activity] / total_s:.0%}" for activity in _WORK)
    waited = spent_s["wait"] / ((spent_s["wait"] + spent_s["model"]) or 1.0)
    slowest = max(_OTHER_WORK, key=lambda activity: spent_s[activity])
    limit = slowest if waited > _MUCH_WAITING else "the model"
    return f"work of all threads {total_s:.1f} s: {shares}; the model waited {waited:.0%} of its time: limit is {limit}"


def num_halvings(records: Sequence[ShardRecord]) -> int:
    """How often batches were halved, for want of memory."""
    return max((record.account.get("num_halvings", 0) for record in records), default=0)
