from hypothesis import given
from hypothesis import strategies as st

from pipelines.differences import Difference, describe, differences

LEAVES = st.none() | st.integers(0, 3) | st.text("ab", max_size=2)
DEFINITIONS = st.dictionaries(
    st.sampled_from("abc"), LEAVES | st.dictionaries(st.sampled_from("xyz"), LEAVES, min_size=1), max_size=3
)


@given(DEFINITIONS, DEFINITIONS)
def test_differences_are_empty_for_equal_definitions_alone(before: dict[str, object], after: dict[str, object]) -> None:
    assert (differences(before, after) == []) == (before == after)


def test_differences_name_each_part_with_its_values() -> None:
    before = {"size": {"px": 128, "s": 1}, "device": "cpu", "gone": 0}
    after = {"size": {"px": 96, "s": 1}, "device": "cpu", "new": [1, 2]}

    assert differences(before, after) == [
        Difference("gone", 0, None),
        Difference("new", None, [1, 2]),
        Difference("size.px", 128, 96),
    ]


def test_describe_calls_parts_by_name_and_counts_modules_once() -> None:
    digests = ["0" * 32, "f" * 64]
    found = [
        Difference("settings.size_px", 128, 96),
        Difference("weights", *digests),
        Difference("pooling", "mean", None),
        *(Difference(f"code.module_{name}", *digests) for name in "dcba"),
        Difference("worker.module_a", None, digests[0]),
    ]
    names = {"settings": "option", "weights": "weights", "code": "code", "worker": "code"}

    assert describe(found, names) == [
        "option size_px 128 -> 96",
        f"weights {'0' * 12} -> {'f' * 12}",
        "pooling mean -> none",
        "code of module_a, module_b, module_c and 1 more",
    ]
    assert describe([Difference("min_s", 0.1, 0.2)], {"": "parameter"}) == ["parameter min_s 0.1 -> 0.2"]
