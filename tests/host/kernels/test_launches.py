"""How kernels are launched on a card: programs, tiles, constants, warps."""

import numpy as np
import pytest
import torch
from graphs import GraphBuilder
from launches import boxes, numbers, recorded

from transept.golden.numerics.requantise import ONE
from transept.host.bench.gpu import linear_op
from transept.host.kernels import arithmetic, matmul, norm, rows
from transept.host.kernels.matmul import Blocks, LinearKernel
from transept.host.kernels.norm import NormKernel
from transept.host.kernels.rows import Rows, activated, copied, quantise_rows, rows_like

CPU = torch.device("cpu")


@pytest.fixture
def launches(monkeypatch):
    return recorded(monkeypatch)


def test_kernels_of_few_rows_start_early(monkeypatch):
    assert arithmetic.launch_options(1) == {} or not arithmetic.INTERPRETED
    monkeypatch.setattr(arithmetic, "INTERPRETED", False)
    told = {count: arithmetic.launch_options(count) for count in (1, 512, 513)}
    assert told == {count: {"launch_pdl": count <= 512} for count in told}


# --- rows
def test_rows_are_cut_into_as_few_columns_as_can_be():
    widths = {
        1: (1, 1),
        24: (1, 32),
        128: (1, 128),
        130: (1, 256),
        257: (3, 128),
        384: (3, 128),
        513: (5, 128),
        768: (3, 256),
        900: (1, 1024),
        3072: (3, 1024),
        5120: (5, 1024),
    }
    assert {width: rows.chunks_of(width) for width in widths} == widths
    assert (rows.MOST_CHUNKS, rows.SMALLEST, rows.ALIGNMENT) == (7, 128, 16)


@pytest.mark.parametrize(
    ("count", "columns", "elements", "at_once"),
    [
        (2047, 1, 2048, 1),
        (2048, 128, 2048, 16),
        (2048, 1024, 2048, 2),
        (2048, 1025, 2048, 1),
        (2048, 4096, 2048, 1),
        (2048, 600, 2048, 2),
    ],
)
def test_many_rows_share_programs(count, columns, elements, at_once):
    assert rows.rows_at_once(count, columns, elements) == at_once


@pytest.mark.parametrize(
    ("count", "width", "programs", "at_once", "chunks", "warps"),
    [
        (5, 24, 5, 1, (1, 32), 4),
        (2048, 24, 32, 64, (1, 32), 1),
        (2049, 1024, 1025, 2, (1, 1024), 1),
        (2048, 4096, 2048, 1, (1, 4096), 1),
        (2048, 4097, 2048, 1, (5, 1024), 4),
    ],
)
def test_rows_are_quantised(launches, count, width, programs, at_once, chunks, warps):
    x = torch.zeros(count, width, dtype=torch.int16)
    into = rows_like(x)
    assert into.elements.shape == (count, -(-width // 16) * 16)
    assert (into.elements.dtype, into.multiplier.dtype) == (torch.int8, torch.int32)
    quantise_rows(x, into)
    (launch,) = launches
    assert numbers(launch) == {
        "grid": (programs,),
        "count": count,
        "width": width,
        "x_stride": width,
        "y_stride": 0,
        "q_stride": into.elements.shape[1],
        "ACTIVATE": False,
        "KEEP": False,
        "BITS": 16,
        "ROWS": at_once,
        "CHUNKS": chunks[0],
        "BLOCK": chunks[1],
        "num_warps": warps,
        "launch_pdl": count <= 512,
    }
    assert launch["x_ptr"] is x
    assert (launch["q_ptr"], launch["multiplier_ptr"]) == (into.elements, into.multiplier)


@pytest.mark.parametrize(("kind", "bits"), [(torch.int8, 8), (torch.int16, 16)])
def test_activations_are_kept_and_moved(launches, kind, bits):
    x, table = torch.zeros(5, 24, dtype=torch.int16), torch.zeros(1 << 16, dtype=torch.int16)
    y = torch.zeros(5, 32, dtype=kind)[:, :24]
    quantise_rows(x, rows_like(x), table, y)
    activated(torch.zeros(600, 24, dtype=torch.int16), table, y)
    copied(y, y)
    quantised, moved, copy = map(numbers, launches)
    told = {name: quantised[name] for name in ("ACTIVATE", "KEEP", "BITS", "y_stride")}
    assert told == {"ACTIVATE": True, "KEEP": True, "BITS": bits, "y_stride": 32}
    assert (launches[0]["y_ptr"], launches[0]["lookup_ptr"]) == (y, table)
    facts = {"width": 24, "y_stride": 32, "BITS": bits}
    assert moved == facts | {
        "grid": (4,),
        "size": 600 * 24,
        "x_stride": 24,
        "ACTIVATE": True,
        "BLOCK": 4096,
        "launch_pdl": False,
    }
    assert copy == facts | {
        "grid": (1,),
        "size": 120,
        "x_stride": 32,
        "ACTIVATE": False,
        "BLOCK": 1024,
        "launch_pdl": True,
    }
    assert launches[1]["lookup_ptr"] is table


# --- norms
@pytest.mark.parametrize(
    ("count", "width", "programs", "at_once", "chunks", "warps"),
    [
        (5, 24, 5, 1, (1, 32), 4),
        (2048, 384, 256, 8, (3, 128), 8),
        (2048, 64, 32, 64, (1, 64), 32),  # a GPU has no more warps
        (2049, 4096, 2049, 1, (1, 4096), 4),
    ],
)
def test_norms_of_few_rows_have_programs_of_their_own(
    launches, count, width, programs, at_once, chunks, warps
):
    build = GraphBuilder(1)
    y, x = build.value(width), build.value(width)
    build.norm_and_sum(y, x)
    (op,) = build.ops
    y, x, out, total = (torch.zeros(count, width + pad, dtype=torch.int16) for pad in range(4))
    kernel, into = NormKernel(op, CPU), rows_like(out)
    kernel(y, x, out, total, into)
    kernel(y, None, None, None)
    both, alone = map(numbers, launches)
    shape = {"grid": (programs,), "count": count, "width": width, "epsilon": 1000}
    shape |= {"inverse": kernel._inverse, "BITS": (width - 1).bit_length(), "OUT_SHIFT": 18}
    shape |= {"OUT_LEFT": kernel._out_left, "CENTRE": True, "NORMALISE": True}
    shape |= {"ROWS": at_once, "CHUNKS": chunks[0], "BLOCK": chunks[1], "num_warps": warps}
    shape |= {"launch_pdl": count <= 512}
    asked = dict.fromkeys(("RESIDUAL", "SUM", "KEEP", "QUANTISE"))
    strides = {"y_stride": width, "x_stride": width + 1, "out_stride": width + 2}
    strides |= {"sum_stride": width + 3, "q_stride": into.elements.shape[1]}
    assert both == shape | strides | dict.fromkeys(asked, True)
    assert alone == shape | dict.fromkeys(strides, width) | dict.fromkeys(asked, False)


def test_a_sum_is_no_norm(launches):
    build = GraphBuilder(1)
    build.add(build.value(24), build.value(24))
    y, total = (torch.zeros(5, 24, dtype=torch.int16) for _ in range(2))
    NormKernel(build.ops[0], CPU)(y, y, None, total)
    told = numbers(launches[0])
    names = ("epsilon", "OUT_SHIFT", "CENTRE", "NORMALISE", "RESIDUAL", "SUM", "KEEP")
    assert [told[name] for name in names] == [0, 0, False, False, True, True, False]


def test_how_far_a_norm_is_shifted():
    """A product's upper half has room for 31 bits of gamma."""
    beta = np.array([3, -5])
    for out_shift, gamma, left in ((18, 1 << 16, 14), (24, 1 << 16, 8), (3, 1 << 15, 14)):
        found, scaled, added = norm._output(out_shift, np.array([gamma, -1]), beta)
        right = 32 - out_shift - left
        wanted = (left, [gamma << right, -1 << right])
        if right + gamma.bit_length() > 31:
            wanted = (-1, [gamma, -1])
        assert (found, scaled.tolist()) == wanted
        more = 0 if found < 0 else 32 - out_shift
        assert added.tolist() == [(256 * b + (1 << out_shift) // 2) << more for b in beta.tolist()]
    assert norm._output(18, np.array([1 << 30]), beta)[0] == 14
    assert norm._output(18, np.array([1 << 31]), beta)[0] == -1
    assert norm._output(0, np.array([1]), beta)[2].tolist() == [3 << 40, -5 << 40]


# --- products
def test_products_are_launched_in_tiles(launches):
    op = linear_op(70, 40)
    kernel, known = LinearKernel([op], 16, CPU), matmul.merged([op], 16)
    x = Rows(torch.zeros(300, 48, dtype=torch.int8), torch.zeros(300, dtype=torch.int32))
    y = torch.zeros(300, 80, dtype=torch.int16)
    maxima = torch.zeros(300, dtype=torch.int32)
    kernel(x, y, dynamic=True)
    kernel(x, y, dynamic=False, maxima=maxima, blocks=Blocks(64, 32, 16, 8, 2, 5))
    assert kernel.weights.shape == (70, 48)
    shape = {"m": 300, "n": 70, "k": 48, "one": ONE, "LEFT": known.left}
    shape |= {"ROW_LEFT": known.row_left, "VALUE_LEFT": int(known.value_left[0])}
    shape |= {"UNLIKE": False, "CLIP": known.clip, "MERGED": True, "BITS": 16}
    shape |= {"ROW_SHIFT": op.row_shift, "OUT_SHIFT": op.out_shift, "launch_pdl": True}
    first, second = map(numbers, launches)
    tile = {"BM": 128, "BN": 128, "BK": 128, "GROUP": 8, "num_warps": 4, "num_stages": 3}
    assert first == shape | tile | {"grid": (3,), "DYNAMIC": True, "MAXIMA": False}
    tile = {"BM": 64, "BN": 32, "BK": 16, "GROUP": 5, "num_warps": 8, "num_stages": 2}
    assert second == shape | tile | {"grid": (15,), "DYNAMIC": False, "MAXIMA": True}
    sizes = boxes(launches[1], "x_desc", "w_desc", "y_desc")
    assert sizes == [[64, 16], [32, 16], [64, 32]]
    assert [launch["maxima_ptr"] for launch in launches] == [x.multiplier, maxima]
    assert launches[0]["row_ptr"] is x.multiplier


def test_constants_of_products_that_do_not_merge(launches):
    build = GraphBuilder(1)
    build.linear(build.value(40), 70)
    (op,) = build.ops
    assert matmul.merged([op], 16) is None
    kernel = LinearKernel([op], 16, CPU)
    x = Rows(torch.zeros(3, 48, dtype=torch.int8), torch.zeros(3, dtype=torch.int32))
    kernel(x, torch.zeros(3, 80, dtype=torch.int16), dynamic=True)
    told = numbers(launches[0])
    names = ("LEFT", "ROW_LEFT", "VALUE_LEFT", "UNLIKE", "CLIP", "MERGED")
    assert [told[name] for name in names] == [0, 0, 0, False, True, False]
    constants = (launches[0][f"{name}_ptr"].tolist() for name in ("multiplier", "shift", "addend"))
    channel = op.channel
    wanted = [x.tolist() for x in (channel.multiplier, channel.shift, channel.bias)]
    assert list(constants) == wanted
