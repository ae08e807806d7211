import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.rev import digest_bytes, digest_code, digest_file, digest_json, feature_key, library_versions, seed_of


# Stored revs, feature keys, shard names and random draws follow from these values: if one changes, everybody's
# features are computed again. So they may change only on purpose.
def test_digests_are_pinned() -> None:
    assert digest_bytes(b"a", b"bc") == "9a8acca1b6c6c0befd3fbc756aed625d"
    assert digest_json({"b": [1, 2.5, None], "a": "é"}) == "0940ec85811412849c2d2bc446e99f8a"
    assert feature_key("rev", "digest") == "479df2b9d6c7ef4e639ef9ee0fac6986"
    assert seed_of(0, "rec7/0003~1", "text") == 9826061666383694045


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_digest_bytes_tells_where_parts_end(left: list[bytes], right: list[bytes]) -> None:
    assert (digest_bytes(*left) == digest_bytes(*right)) == (left == right)


def test_digest_bytes_takes_views_of_memory() -> None:
    assert digest_bytes(memoryview(b"abc")) == digest_bytes(b"abc")


def test_digest_json_ignores_the_order_of_keys_but_not_of_lists() -> None:
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
    assert digest_json([1, 2]) != digest_json([2, 1])
    assert digest_json((1, 2)) == digest_json([1, 2])


def test_digest_json_refuses_what_json_cannot_hold() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_json({"a": math.nan})
    with pytest.raises(TypeError):
        digest_json({"a": {1, 2}})


def test_digest_file_is_the_sha256_that_other_tools_print(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")

    assert digest_file(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(st.integers(0, 3), st.lists(st.text(max_size=3), max_size=3), st.lists(st.text(max_size=3), max_size=3))
def test_seed_of_differs_by_name(seed: int, left: list[str], right: list[str]) -> None:
    assert (seed_of(seed, *left) == seed_of(seed, *right)) == (left == right)
    assert 0 <= seed_of(seed, *left) < 2**64
    assert seed_of(seed, *left) != seed_of(seed + 1, *left)


def test_feature_key_of_an_absent_input_is_none_of_a_text() -> None:
    assert feature_key("rev", None) != feature_key("rev", "None")


def test_library_versions_are_sorted_by_name() -> None:
    assert list(library_versions(["pyarrow", "numpy"])) == ["numpy", "pyarrow"]


_CODE = '''
"""A module."""
def double(x: int) -> int:
    """Twice."""
    return x * 2
'''
_REWORDED = '''
# Another comment.
"""The module, described otherwise."""


def double(
    x: int,
) -> int:
    """Two times
    of it."""
    return (x * 2)  # doubled
'''


@pytest.mark.parametrize(
    ("edited", "same"),
    [
        (_REWORDED, True),
        (_CODE.replace("\n", "\r\n"), True),
        (_CODE.replace("x * 2", "x * 3"), False),
        (_CODE.replace("x * 2", "x + x"), False),
        (_CODE + "LIMIT = 3\n", False),
        (_CODE.replace("return x * 2", '"a string"\n    return x * 2'), False),  # not a docstring: it stands second
    ],
)
def test_digest_code_sees_logic_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: str, same: bool) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "doubling.py"
    digests = []
    for code in (_CODE, edited):
        module.write_bytes(code.encode())
        digest_code.cache_clear()
        digests.append(digest_code("doubling"))

    assert (digests[0] == digests[1]) == same


def test_digest_code_covers_all_modules_in_any_order() -> None:
    both = digest_code("features.rev", "features.view")

    assert list(both) == list(digest_code("features.view", "features.rev")) == sorted(both)
    assert {"features.rev", "features.sample", "features.view"} <= both.keys()
    assert digest_code("features.rev") == {"features.rev": both["features.rev"]}


def test_digest_code_needs_a_module() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no module 'features\.nothing'"):
        digest_code("features.nothing")


def test_digest_code_follows_imports_of_its_own_package_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "growing"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "top.py").write_text(
        "import json\nfrom growing import middle\n\ndef f():\n    from growing.left_out import g\n"
    )
    (package / "middle.py").write_text("from growing.bottom import x\n")
    (package / "left_out.py").write_text("g = 1\n")

    def digest(bottom: str, left_out: str = "g = 1\n") -> dict[str, str]:
        (package / "bottom.py").write_text(bottom)
        (package / "left_out.py").write_text(left_out)
        digest_code.cache_clear()
        return digest_code("growing.top", without=frozenset({"growing.left_out"}))

    before = digest("x = 1\n")
    assert digest("x = 1  # why\n") == before
    assert digest("x = 2\n") != before
    assert digest("x = 1\n", "g = 2\n") == before
