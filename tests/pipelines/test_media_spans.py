from features.sample import SPAN
from pipelines.media.spans import by_time, span


def test_span_has_every_field() -> None:
    one = span(1.0, 2.0, text="hi")
    assert list(one) == [SPAN.field(index).name for index in range(SPAN.num_fields)]
    assert (one["text"], one["label"], one["key"]) == ("hi", None, None)


def test_by_time_keeps_the_order_of_ties() -> None:
    spans = [span(2, 3), span(1, 3), span(1, 2, text="a"), span(1, 2, text="b")]
    assert [(one["start_s"], one["end_s"], one["text"]) for one in by_time(spans)] == [
        (1, 2, "a"),
        (1, 2, "b"),
        (1, 3, None),
        (2, 3, None),
    ]
