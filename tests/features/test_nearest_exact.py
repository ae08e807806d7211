import numpy as np
import pytest
import torch
from building import build_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features import nearest_exact, nearest_rows
from features.nearest_exact import exact_neighbours
from features.nearest_rows import ViewRows
from features.store import open_store


def view_of(folder, vectors, *, dtype="float16", shard_rows=8, dim=None) -> ViewRows:
    keys = [{"key": f"{row:06}"} for row in range(len(vectors))]
    build_store(folder, keys, {"image": {"vectors": vectors, "dtype": dtype, "dim": dim}}, shard_rows=shard_rows)
    return ViewRows(open_store(folder).reader, "image")


def brute_force(vectors, queries_QD, rows, k, metric) -> list[list[tuple[int, np.float32]]]:
    answers = []
    for query_D in queries_QD:
        scored = []
        for row in rows:
            if vectors[row] is not None:
                vector_D = np.asarray(vectors[row], np.float64)
                score = vector_D @ query_D
                if metric == "cosine":
                    lengths = np.sqrt(vector_D @ vector_D) * np.sqrt(query_D @ query_D)
                    score = score / lengths if lengths else 0.0
                scored.append((int(row), np.float32(score)))
        answers.append(sorted(scored, key=lambda found: (-found[1], found[0]))[:k])
    return answers


def answers_of(found, num_queries) -> list[list[tuple[int, np.float32]]]:
    answers = [[] for _ in range(num_queries)]
    for query, row, score in zip(found.query_P, found.row_P, found.score_P, strict=True):
        answers[query].append((int(row), score))
    return answers


@st.composite
def searches(draw):
    """Small whole numbers: many equal scores, equal embeddings, and vectors of length 0."""
    dim, num_rows = draw(st.integers(1, 6)), draw(st.integers(1, 40))
    numbers = st.lists(st.integers(-2, 2), min_size=dim, max_size=dim).map(lambda values: np.array(values, np.float64))
    vectors = draw(st.lists(st.none() | numbers, min_size=num_rows, max_size=num_rows))
    queries = np.stack(draw(st.lists(numbers, min_size=1, max_size=4)))
    rows = np.flatnonzero(draw(st.lists(st.booleans(), min_size=num_rows, max_size=num_rows)))
    return vectors, queries, rows, draw(st.integers(1, 50)), draw(st.sampled_from(["cosine", "dot"]))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(search=searches(), dtype=st.sampled_from(["float16", "float32"]), block=st.integers(1, 9))
def test_exact_neighbours_are_those_of_brute_force_whatever_the_blocks(tmp_path_factory, search, dtype, block):
    vectors, queries_QD, rows, k, metric = search
    view = view_of(tmp_path_factory.mktemp("store"), vectors, dtype=dtype, shard_rows=4, dim=queries_QD.shape[1])
    expected = brute_force(vectors, queries_QD, rows, k, metric)
    for _ in range(2):  # the second time the lengths are remembered
        found = exact_neighbours(view, queries_QD, rows, k=k, metric=metric)
        assert answers_of(found, len(queries_QD)) == expected
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "_PIECE_BYTES",
            "_SCORES_BYTES",
            "_BLOCK_ROWS",
            "_QUERIES_AT_ONCE",
            "_MOST_UNSETTLED",
            "_ROWS_A_THREAD",
        ):
            patch.setattr(nearest_exact, name, block)
        in_small_blocks = exact_neighbours(view, queries_QD, rows, k=k, metric=metric)
    assert answers_of(in_small_blocks, len(queries_QD)) == expected


@st.composite
def near_ties(draw):
    """Few queries, and vectors of lengths from the smallest that float16 has to the largest, many all but equal."""
    dim, num_rows = draw(st.integers(1, 40)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    num_directions, noise = draw(st.integers(1, 4)), 10.0 ** draw(st.integers(-6, 0))
    directions_ND = rng.standard_normal((num_directions, dim))[rng.integers(0, num_directions, num_rows)]
    lengths_N = 2.0 ** rng.integers(draw(st.integers(-26, 13)), 14, num_rows)
    vectors_ND = (directions_ND + noise * rng.standard_normal((num_rows, dim))) * lengths_N[:, None]
    stored_ND = vectors_ND.clip(-65504, 65504).astype(np.float16)
    stored = [None if rng.random() < 0.1 else vector_D for vector_D in stored_ND]
    queries_QD = directions_ND[:3] + noise * rng.standard_normal((min(3, num_rows), dim))
    return stored, queries_QD, draw(st.integers(1, 12)), draw(st.sampled_from(["cosine", "dot"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(search=near_ties(), block=st.integers(1, 70), loop_queries=st.sampled_from([0, 8]))
def test_exact_neighbours_by_the_compiled_loops_are_those_of_brute_force(tmp_path_factory, search, block, loop_queries):
    stored, queries_QD, k, metric = search
    view = view_of(tmp_path_factory.mktemp("store"), stored, shard_rows=7, dim=queries_QD.shape[1])
    rows = np.arange(len(stored))
    expected = brute_force(stored, queries_QD, rows, k, metric)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest_rows, "_LOOP_PAYS_OFF", 0)
        patch.setattr(nearest_rows, "_LOOP_QUERIES", loop_queries)  # with more, torch multiplies what a loop widens
        patch.setattr(nearest_exact, "_BLOCK_ROWS", block)
        patch.setattr(nearest_exact, "_PIECE_BYTES", 400)
        for _ in range(2):  # the loops take over once the lengths are known
            found = exact_neighbours(view, queries_QD, rows, k=k, metric=metric)
            assert answers_of(found, len(queries_QD)) == expected


@pytest.mark.parametrize("length", [1e-42, 1e-25, 1e20, 1e30])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_exact_neighbours_among_float32_embeddings_of_any_length(tmp_path, metric, length):
    rng = np.random.default_rng(0)
    vectors_ND = rng.standard_normal((120, 16)).astype(np.float32)
    vectors_ND[::2] *= np.float32(length)
    view = view_of(tmp_path, list(vectors_ND), dtype="float32", shard_rows=50)
    queries_QD = rng.standard_normal((3, 16))
    expected = brute_force(vectors_ND, queries_QD, np.arange(120), 5, metric)
    assert answers_of(exact_neighbours(view, queries_QD, np.arange(120), k=5, metric=metric), 3) == expected


@pytest.mark.parametrize("loop_queries", [0, 8])
def test_exact_neighbours_by_the_compiled_loops_leave_out_what_is_not_finite(tmp_path, monkeypatch, loop_queries):
    monkeypatch.setattr(nearest_rows, "_LOOP_PAYS_OFF", 0)
    monkeypatch.setattr(nearest_rows, "_LOOP_QUERIES", loop_queries)
    vectors = [np.array([np.inf, 1.0]), np.array([1.0, np.nan]), np.array([0.5, 0.5]), None, np.array([-np.inf, 0.0])]
    view = view_of(tmp_path, vectors)
    for metric in ("cosine", "cosine", "dot"):
        found = exact_neighbours(view, np.ones((1, 2)), np.arange(5), k=5, metric=metric)
        assert found.row_P.tolist() == [2]


@pytest.fixture(scope="module")
def normal(tmp_path_factory) -> tuple[ViewRows, list[np.ndarray], np.ndarray]:
    """3,000 vectors of lengths from 0.01 to 100, and 20 queries near some of them."""
    rng = np.random.default_rng(0)
    vectors_ND = rng.standard_normal((3000, 48)) * 10 ** rng.uniform(-2, 2, (3000, 1))
    stored = list(vectors_ND.astype(np.float16))
    queries_QD = vectors_ND[:20] + 0.3 * rng.standard_normal((20, 48))
    return view_of(tmp_path_factory.mktemp("normal"), stored, shard_rows=500), stored, queries_QD


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("k", [1, 10, 700])
def test_exact_neighbours_of_many_vectors(normal, monkeypatch, metric, k):
    monkeypatch.setattr(nearest_exact, "_BLOCK_ROWS", 256)
    view, stored, queries_QD = normal
    rows = np.arange(0, 3000, 3)
    found = exact_neighbours(view, queries_QD, rows, k=k, metric=metric)
    assert answers_of(found, 20) == brute_force(stored, queries_QD, rows, k, metric)


def test_exact_neighbours_do_not_depend_on_how_torch_rounds_products(normal):
    view, _, queries_QD = normal
    exact = exact_neighbours(view, queries_QD, np.arange(3000), k=10, metric="cosine")
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        rough = exact_neighbours(view, queries_QD, np.arange(3000), k=10, metric="cosine")
    finally:
        torch.set_float32_matmul_precision(before)
    assert answers_of(rough, 20) == answers_of(exact, 20)


def test_exact_neighbours_among_equal_embeddings_are_the_first_by_key(tmp_path, monkeypatch):
    monkeypatch.setattr(nearest_exact, "_BLOCK_ROWS", 300)
    monkeypatch.setattr(nearest_exact, "_MOST_UNSETTLED", 50)
    rng = np.random.default_rng(1)
    same = rng.standard_normal(24).astype(np.float16)
    other = rng.standard_normal(24).astype(np.float16)
    view = view_of(tmp_path, [other if row in (7, 900) else same for row in range(1000)], shard_rows=90)
    found = exact_neighbours(view, np.stack([same, other]).astype(float), np.arange(1000), k=4, metric="cosine")
    assert [[row for row, _ in answer] for answer in answers_of(found, 2)] == [[0, 1, 2, 3], [7, 900, 0, 1]]


def test_exact_neighbours_leave_out_what_float32_cannot_measure(tmp_path):
    vectors = [np.full(3, 3e38, np.float32), np.ones(3, np.float32), None]
    view = view_of(tmp_path, vectors, dtype="float32")
    for metric in ("cosine", "dot"):
        found = exact_neighbours(view, np.ones((1, 3)), np.arange(3), k=3, metric=metric)
        assert found.row_P.tolist() == [1]


def test_exact_neighbours_of_no_rows_and_of_no_queries(tmp_path):
    view = view_of(tmp_path, [np.ones(2)])
    assert len(exact_neighbours(view, np.ones((2, 2)), np.arange(0), k=3, metric="dot")) == 0
    assert len(exact_neighbours(view, np.empty((0, 2)), np.arange(1), k=3, metric="dot")) == 0


@pytest.mark.parametrize("num_threads", [1, 3])
def test_exact_neighbours_are_the_same_with_any_number_of_threads(normal, monkeypatch, num_threads):
    monkeypatch.setattr(nearest_exact, "_BLOCK_ROWS", 200)
    monkeypatch.setattr(nearest_exact, "_ROWS_A_THREAD", 300)
    view, stored, queries_QD = normal
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(num_threads)
        found = exact_neighbours(view, queries_QD, np.arange(3000), k=10, metric="cosine")
        assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    assert answers_of(found, 20) == brute_force(stored, queries_QD, np.arange(3000), 10, "cosine")
