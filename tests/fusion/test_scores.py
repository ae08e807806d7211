import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.scores import paired_gain, score


def test_score_averages_classes_not_samples() -> None:
    scores = score(["a", "a", "a", "b"], ["a", "a", "a", "a"])
    assert scores == {"accuracy": 0.75, "precision": 0.375, "recall": 0.5, "f1": pytest.approx(3 / 7, abs=1e-6)}


def test_score_counts_a_class_that_never_occurs_as_zero() -> None:
    assert score(["a", "a"], ["a", "c"])["recall"] == 0.25


@settings(max_examples=15)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from("stuvw")), min_size=1, max_size=30))
def test_paired_gain_lies_in_its_interval_and_turns_with_the_models(rows: list[tuple[bool, bool, str]]) -> None:
    right, before, groups = zip(*rows, strict=True)
    gain, loss = paired_gain(right, before, groups), paired_gain(before, right, groups)
    assert gain.gain == -loss.gain
    assert gain.num_groups == len(set(groups))
    if gain.low is not None and gain.high is not None:
        assert -1 <= gain.low <= gain.high <= 1
        assert (gain.low, gain.high) == (pytest.approx(-(loss.high or 0)), pytest.approx(-(loss.low or 0)))


def test_paired_gain_is_surer_of_independent_samples_than_of_one_loud_group() -> None:
    right, before = [True] * 10 + [False] * 30, [False] * 40
    spread = paired_gain(right, before, [f"g{row}" for row in range(40)])
    one_speaker = paired_gain(right, before, ["loud"] * 10 + [f"g{row // 10}" for row in range(30)])
    assert spread.gain == one_speaker.gain == 0.25
    assert (spread.low or 0) > 0.1
    assert one_speaker.low == 0.0


def test_paired_gain_gives_no_interval_for_one_group() -> None:
    gain = paired_gain([True, True], [True, False], ["g", "g"])
    assert (gain.gain, gain.low, gain.high) == (0.5, None, None)
