"""The layers of networks that are built like BERT, all of them in one compiled loop that holds no lock of Python's.

Products are MKL's, and take nearly all of the time. What lies between them passes once over memory that is still in the
processor's caches. Each row, and each text's attention, is computed alike wherever it stands in a batch.

Legend: N row, a token of some text; B text; T token; D number; H head; E number of a head; L layer.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types

from features.compiling import Loop, compiled
from features.encoders.mkl import PACKED, PLAIN, ROW_MAJOR, TRANSPOSED, is_found

if not is_found():  # the process would end where loops are loaded that call it
    raise ImportError("torch brings no MKL here: ask features.encoders.mkl.is_found() first")

_I32, _ADDRESS, _F32 = types.int32, types.intp, types.float32
_multiply_packed: Any = types.ExternalFunction(
    "cblas_sgemm_compute",
    types.void(*[_I32] * 6, _ADDRESS, _I32, _ADDRESS, _I32, _F32, _ADDRESS, _I32),
)
_multiply_many: Any = types.ExternalFunction(
    "cblas_sgemm_batch",
    types.void(_I32, *[_ADDRESS] * 13, _I32, _ADDRESS),
)

# Sums may be taken in any order that is the same for each row.
_FAST: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz", "arcp"}}
_part: Callable[[Loop], Loop] = njit(**_FAST)
_LINE = 16  # float32 in a cache line, where what MKL multiplies is to begin
_HIDDEN = np.float32(-1e30)  # score of a token that is not to be seen
_HALF, _ONE = np.float32(0.5), np.float32(1)

_BIT_PER_E, _LN2, _LEAST = np.float32(np.log2(np.e)), np.float32(np.log(2)), np.float32(-87)
_T7, _T6, _T5, _T4, _T3 = (np.float32(1 / number) for number in (5040, 720, 120, 24, 6))

# The share of a normal distribution below x, less 1/2, over x, as a polynomial of 2 (x/5)^2 - 1 for x up to 5, fitted
# by weighted least squares. What x is multiplied by is off by 2.6e-7 at the most, beyond 5 too, where it stays.
_WIDEST, _PER_SQUARE = np.float32(5), np.float32(2 / 25)
_P0, _P1, _P2, _P3, _P4, _P5, _P6, _P7, _P8, _P9, _P10, _P11, _P12 = (
    np.float32(number)
    for number in (
        *(0.141363785, -0.0702962801, 0.0515205227, -0.0404426083, 0.0314421728, -0.0232686512, 0.0164021719),
        *(-0.0111643421, 0.00641051587, -0.00268557179, 0.00172279356, -0.00161326653, 0.000608729548),
    )
)


@_part
def _exp(x: np.float32) -> np.float32:
    """e^x for x up to 0, as a power of two times Taylor's series for what is left."""
    x = _LEAST if x < _LEAST else x
    power = np.floor(x * _BIT_PER_E + _HALF)
    rest = x - power * _LN2
    series = ((((_T7 * rest + _T6) * rest + _T5) * rest + _T4) * rest + _T3) * rest + _HALF
    series = (series * rest + _ONE) * rest + _ONE
    return series * np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)


@_part
def _in_order(bits: np.int32) -> np.int32:
    """The bits of a float32 as a number of the same order, and the other way round: processors' registers take the
    largest of many integers in any order, but of floats one after the other, lest one is NaN."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@_part
def _multiply(rows_NI: np.ndarray, packed: int, products_NO: np.ndarray) -> None:
    """packed: the address of weights that MKL has laid out."""
    num, width = rows_NI.shape
    num_out = products_NO.shape[1]
    rows, products = rows_NI.ctypes.data, products_NO.ctypes.data
    _multiply_packed(
        ROW_MAJOR, PLAIN, PACKED, num, num_out, width, rows, width, packed, width, np.float32(0), products, num_out
    )


@_part
def _multiply_pairs(
    first_B: np.ndarray, second_B: np.ndarray, products_B: np.ndarray, num: int, num_out: int, width: int, turn: bool
) -> Any:
    """Products of matrices at these addresses, [num, width] and [width, num_out], or if it is turned [num_out, width].
    Gives the numbers that MKL was told, by their addresses, so that they are kept until it has returned."""
    kinds = np.array([PLAIN, TRANSPOSED if turn else PLAIN, num, num_out, width, len(first_B)], np.int32)
    width_of_second = width if turn else num_out
    widths = np.array([width, width_of_second, num_out], np.int32)
    factors = np.array([1, 0], np.float32)
    kind, stride, factor = kinds.ctypes.data, widths.ctypes.data, factors.ctypes.data
    first, second, product = first_B.ctypes.data, second_B.ctypes.data, products_B.ctypes.data
    _multiply_many(
        ROW_MAJOR, kind, kind + 4, kind + 8, kind + 12, kind + 16,
        factor, first, stride, second, stride + 4, factor + 4, product, stride + 8, 1, kind + 20,
    )  # fmt: skip
    return kinds, widths, factors


@_part
def _split(
    joined_NJ: np.ndarray, bias_J: np.ndarray, scale: np.float32, num_tokens: int, heads_3PS: np.ndarray
) -> None:
    """Put the queries, scaled, the keys and the values of each text's heads [T, E] into a place of their own."""
    num_heads = heads_3PS.shape[1] * num_tokens // len(joined_NJ)
    length = joined_NJ.shape[1] // 3 // num_heads
    for row in range(len(joined_NJ)):
        text, token = divmod(row, num_tokens)
        for part in range(3):
            factor = scale if part == 0 else _ONE
            for head in range(num_heads):
                start = (part * num_heads + head) * length
                given_E, bias_E = joined_NJ[row, start : start + length], bias_J[start : start + length]
                place_E = heads_3PS[part, text * num_heads + head, token * length : (token + 1) * length]
                for e in range(length):
                    place_E[e] = (given_E[e] + bias_E[e]) * factor


@_part
def _weigh(scores_PS: np.ndarray, hides_BT: np.ndarray, totals_PT: np.ndarray) -> None:
    """Make scores [T, T] of each text's heads weights, still to be divided by their totals."""
    num_tokens = totals_PT.shape[1]
    num_heads = len(scores_PS) // len(hides_BT)
    for pair in range(len(scores_PS)):
        hides_T = hides_BT[pair // num_heads]
        for query in range(num_tokens):
            scores_T = scores_PS[pair, query * num_tokens : (query + 1) * num_tokens]
            most = np.int32(-(1 << 31))
            for token in range(num_tokens):
                scores_T[token] += hides_T[token]
            for token in range(num_tokens):
                most = max(most, _in_order(np.float32(scores_T[token]).view(np.int32)))
            largest = np.int32(_in_order(most)).view(np.float32)
            for token in range(num_tokens):
                scores_T[token] -= largest
        weights_W = scores_PS[pair, : num_tokens * num_tokens]
        for place in range(len(weights_W)):
            weights_W[place] = _exp(weights_W[place])
        for query in range(num_tokens):
            totals_PT[pair, query] = weights_W[query * num_tokens : (query + 1) * num_tokens].sum()


@_part
def _join(seen_PS: np.ndarray, totals_PT: np.ndarray, seen_ND: np.ndarray) -> None:
    """Put what each text's heads saw [T, E] side by side, divided by the total of the weights."""
    num_tokens = totals_PT.shape[1]
    num_heads = len(seen_PS) * num_tokens // len(seen_ND)
    length = seen_ND.shape[1] // num_heads
    for row in range(len(seen_ND)):
        text, token = divmod(row, num_tokens)
        for head in range(num_heads):
            pair = text * num_heads + head
            factor = _ONE / totals_PT[pair, token]
            seen_E = seen_PS[pair, token * length : (token + 1) * length]
            place_E = seen_ND[row, head * length : (head + 1) * length]
            for e in range(length):
                place_E[e] = seen_E[e] * factor


@_part
def _activate(wide_NW: np.ndarray, bias_W: np.ndarray) -> None:
    """GELU of the numbers and their bias, in place: x times the share of a normal distribution that is below x."""
    for row in range(len(wide_NW)):
        for w in range(len(bias_W)):
            x = wide_NW[row, w] + bias_W[w]
            near = min(max(x, -_WIDEST), _WIDEST)
            u = near * near * _PER_SQUARE - _ONE
            share = (((((_P12 * u + _P11) * u + _P10) * u + _P9) * u + _P8) * u + _P7) * u + _P6
            share = (((((share * u + _P5) * u + _P4) * u + _P3) * u + _P2) * u + _P1) * u + _P0
            wide_NW[row, w] = x * (_HALF + near * share)


@_part
def _add_and_norm(
    given_ND: np.ndarray, bias_D: np.ndarray, norm_2D: np.ndarray, epsilon: np.float32, units_ND: np.ndarray
) -> None:
    """Add what is given and its bias to the units, then norm each row. norm_2D: factor and what is added to it."""
    dim = units_ND.shape[1]
    for row in range(len(units_ND)):
        total, square = np.float32(0), np.float32(0)
        for d in range(dim):
            number = units_ND[row, d] + (given_ND[row, d] + bias_D[d])
            units_ND[row, d] = number
            total += number
        mean = total / np.float32(dim)
        for d in range(dim):
            away = units_ND[row, d] - mean
            square += away * away
        factor = _ONE / np.sqrt(square / np.float32(dim) + epsilon)
        for d in range(dim):
            units_ND[row, d] = (units_ND[row, d] - mean) * factor * norm_2D[0, d] + norm_2D[1, d]


@_part
def _whole_lines(num: int) -> int:
    return -(-num // _LINE) * _LINE


@_part
def _attend(
    joined_NJ: np.ndarray, bias_J: np.ndarray, hides_BT: np.ndarray, num_heads: int, scale: np.float32, room: np.ndarray
) -> None:
    """Attention of each text; what its tokens see [N, D] takes the place of the first third of the joined numbers."""
    num_texts, num_tokens = hides_BT.shape
    num_pairs, dim = num_texts * num_heads, joined_NJ.shape[1] // 3
    length = dim // num_heads
    unit, square = _whole_lines(num_tokens * length), _whole_lines(num_tokens * num_tokens)
    heads_3PS = room[: 3 * num_pairs * unit].reshape(3, num_pairs, unit)
    scores_PS = room[heads_3PS.size : heads_3PS.size + num_pairs * square].reshape(num_pairs, square)
    totals_PT = np.empty((num_pairs, num_tokens), np.float32)
    queries_P = np.int64(heads_3PS.ctypes.data) + 4 * unit * np.arange(num_pairs)
    keys_P, values_P = queries_P + 4 * unit * num_pairs, queries_P + 8 * unit * num_pairs
    scores_P = np.int64(scores_PS.ctypes.data) + 4 * square * np.arange(num_pairs)
    _split(joined_NJ, bias_J, scale, num_tokens, heads_3PS)
    _multiply_pairs(queries_P, keys_P, scores_P, num_tokens, num_tokens, length, True)
    _weigh(scores_PS, hides_BT, totals_PT)
    _multiply_pairs(scores_P, values_P, queries_P, num_tokens, length, num_tokens, False)
    _join(heads_3PS[0], totals_PT, joined_NJ.reshape(-1)[: len(joined_NJ) * dim].reshape(-1, dim))


_VECTORS = types.Array(types.float32, 2, "C")


@compiled(
    (
        _VECTORS,
        types.Array(types.boolean, 2, "C"),
        types.int64,
        types.float32,
        types.float32,
        types.Tuple((types.Array(types.int64, 2, "C"), *[_VECTORS] * 4, types.Array(types.float32, 4, "C"))),  # type: ignore[no-untyped-call]  # numba leaves it untyped
        types.Array(types.float32, 1, "C"),
    ),
    **_FAST,
)
def run_layers(
    units_ND: np.ndarray,
    is_seen_BT: np.ndarray,
    num_heads: int,
    scale: np.float32,
    epsilon: np.float32,
    layers: tuple[np.ndarray, ...],
    room: np.ndarray,
) -> None:
    """Let the layers change the units, which are all texts' tokens.

    is_seen_BT: whether others may look at a token; scale: of attention's scores; epsilon: of norms; layers: int64
    [layer, 4], the addresses of its weights as MKL has them, the biases of these [layer, number], and the norms [layer,
    2, (factor, what is added), number]; room: float32, as much as room_of() says.
    """
    weights_L4, looks_LJ, gathers_LD, widens_LW, narrows_LD, norms_L22D = layers
    num, dim = units_ND.shape
    joined_NJ = room[: 3 * num * dim].reshape(num, 3 * dim)
    seen_ND, given_ND = room[: num * dim].reshape(num, dim), room[num * dim : 2 * num * dim].reshape(num, dim)
    rest = room[3 * num * dim :]
    wide_NW = rest[: num * widens_LW.shape[1]].reshape(num, -1)
    hides_BT = np.where(is_seen_BT, np.float32(0), _HIDDEN).astype(np.float32)
    for layer in range(len(weights_L4)):
        weights_4, norms_22D = weights_L4[layer], norms_L22D[layer]
        _multiply(units_ND, weights_4[0], joined_NJ)
        _attend(joined_NJ, looks_LJ[layer], hides_BT, num_heads, scale, rest)
        _multiply(seen_ND, weights_4[1], given_ND)
        _add_and_norm(given_ND, gathers_LD[layer], norms_22D[0], epsilon, units_ND)
        _multiply(units_ND, weights_4[2], wide_NW)
        _activate(wide_NW, widens_LW[layer])
        _multiply(wide_NW, weights_4[3], given_ND)
        _add_and_norm(given_ND, narrows_LD[layer], norms_22D[1], epsilon, units_ND)


def room_of(num_texts: int, num_tokens: int, num_heads: int, dim: int, width: int) -> int:
    """Numbers that run_layers() wants room for; width: of the layers between."""
    num_rows = num_texts * num_tokens
    # Four places begin anew for each head of a text.
    attention = 3 * num_rows * dim + num_texts * num_heads * (num_tokens**2 + 4 * _LINE)
    return 3 * num_rows * dim + max(attention, num_rows * width)
