import pytest

from pipelines.accounts import describe_times


def test_describe_times_names_the_model_as_the_limit_when_it_seldom_waits() -> None:
    spent_s = {"read": 1.0, "decode": 2.0, "preprocess": 1.0, "model": 15.0, "write": 1.0, "wait": 1.0}
    assert describe_times(spent_s, "cuda") == (
        "work of all threads 20.0 s: read 5%, decode 10%, preprocess 5%, model 75%, write 5%; "
        "the model waited 6% of its time: limit is the model"
    )


def test_describe_times_names_what_the_model_waits_for() -> None:
    spent_s = {"read": 1.0, "decode": 6.0, "preprocess": 2.0, "model": 1.0, "write": 0.0, "wait": 3.0}
    assert describe_times(spent_s, "cuda").endswith("the model waited 75% of its time: limit is decode")
    assert describe_times(dict.fromkeys(spent_s, 0.0), "cuda").endswith("limit is the model")


@pytest.mark.parametrize(("preprocess_s", "limit"), [(5.0, "the model"), (20.0, "preprocess")])
def test_describe_times_names_what_took_the_most_on_a_cpu(preprocess_s: float, limit: str) -> None:
    """There the model waits while its own processors decode, and in a small run much of its time."""
    spent_s = {"read": 1.0, "decode": 2.0, "preprocess": preprocess_s, "model": 15.0, "write": 1.0, "wait": 7.0}
    assert describe_times(spent_s, "cpu").endswith(f"write {1 / (19 + preprocess_s):.0%}; limit is {limit}")
