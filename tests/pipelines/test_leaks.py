"""The same bytes on both sides of a split."""

from typing import Any

from pipelines.leaks import describe_leaks, find_leaks


def row(key: str, split: str, **files: str) -> dict[str, Any]:
    media = {column: {"uri": f"{name}.bin", "digest": name} for column, name in files.items()}
    return {"key": key, "split": split, "image": None, "audio": None, "video": None, **media}


def test_a_file_in_two_splits_is_a_leak_whatever_it_is_called() -> None:
    rows = [row("a", "train", image="x"), row("b", "test", image="x", audio="y"), row("c", "train", audio="z")]
    leaks = find_leaks(rows)
    assert leaks == ["image x.bin is in test (b) and train (a)"]
    assert "1 file is in more than one split" in describe_leaks(leaks)


def test_a_file_shared_within_a_split_is_none() -> None:
    assert find_leaks([row("a", "train", image="x"), row("b", "train", image="x"), row("c", "test")]) == []
