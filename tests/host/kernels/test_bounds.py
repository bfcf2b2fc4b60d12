"""Kernels read and write the rows that they were given, and nothing beside them."""

import numpy as np
import pytest
import torch
from graphs import GraphBuilder

from transept.golden.filters import Causal, Dense, TileThreshold, Window
from transept.host.bench.gpu import attention_op, linear_op
from transept.host.kernels import INTERPRETED, elementwise
from transept.host.kernels import rows as module
from transept.host.kernels.attention import AttentionBlocks, AttentionKernel
from transept.host.kernels.elementwise import multiplied, rotated
from transept.host.kernels.matmul import Blocks, LinearKernel
from transept.host.kernels.norm import NormKernel
from transept.host.kernels.rows import Rows, activated, copied, quantise_rows

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
#: Rows before and behind, and columns behind.
ROWS, COLUMNS = 3, 16
INT8, INT16, INT32 = torch.int8, torch.int16, torch.int32


class Yard:
    """Tensors with a fence of a loud number around each."""

    def __init__(self):
        self._fenced, self._rng = [], torch.Generator().manual_seed(0)

    def rows(self, rows, width, dtype, columns=COLUMNS, fill=None):
        """[rows, width]; random if nothing is told."""
        whole = torch.full((rows + 2 * ROWS, width + columns), 101, dtype=dtype, device=DEVICE)
        x = whole[ROWS : ROWS + rows, :width]
        x[:] = (
            torch.randint(-100, 101, (rows, width), generator=self._rng, dtype=dtype)
            if fill is None
            else fill
        )
        self._fenced.append((whole, x))
        return x

    def check(self):
        """Nothing has been written beside the tensors."""
        for whole, x in self._fenced:
            rows, width = x.shape
            inside = torch.zeros(whole.shape, dtype=torch.bool, device=DEVICE)
            inside[ROWS : ROWS + rows, :width] = True
            assert bool((whole[~inside] == 101).all())


@pytest.fixture
def yard():
    found = Yard()
    yield found
    found.check()


@pytest.fixture(params=[False, True], ids=["a row", "rows"])
def programs(request, monkeypatch):
    """Whether programs have a row each, or several and room for more than there are."""
    if request.param:
        monkeypatch.setattr(module, "FEW", 1)


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("width", [5, 130])
def test_rows_are_quantised_alone(yard, width):
    x, keep = yard.rows(3, width, INT16), yard.rows(3, width, INT8)
    table = torch.arange(-32768, 32768, device=DEVICE).clamp(-32767, 32767).to(INT16)
    q, multiplier = yard.rows(3, width, INT8), yard.rows(3, 1, INT32, 0)
    quantise_rows(x, Rows(q, multiplier[:, 0]), table, keep)
    largest = x.long().abs().amax(1).clip(256)
    assert torch.equal(keep.long(), x.long())
    assert torch.equal(multiplier[:, 0].long(), largest)
    wanted = (x.double() * 127 / largest[:, None]).round()
    assert (q.double() - wanted).abs().max() <= 1


def test_elements_are_moved_alone(yard):
    x, y, z = yard.rows(3, 7, INT16), yard.rows(3, 7, INT16), yard.rows(3, 7, INT8)
    copied(x, y)
    activated(x, (-torch.arange(-32768, 32768, device=DEVICE)).clamp(-500, 500).to(INT16), z)
    assert torch.equal(x, y)
    assert torch.equal(z.long(), -x.long())


@pytest.mark.parametrize("bits", [8, 16])
def test_products_of_elements_are_alone(yard, monkeypatch, bits):
    """Of 45 elements, in programs of 16."""
    monkeypatch.setattr(elementwise, "BLOCK", 16)
    y, x, out = (
        yard.rows(5, 9, kind, columns)
        for kind, columns in ((INT16, 3), (INT16, 5), (INT8 if bits == 8 else INT16, 7))
    )
    multiplied(y, x, out, 6)
    limit = (1 << bits - 1) - 1
    wanted = (y.long() * x.long() + 32 >> 6).clamp(-limit, limit)
    assert torch.equal(out.long(), wanted)
    assert (bits == 16) or bool((wanted.abs() == 127).any())


def test_rotary_embeddings_are_alone(yard, monkeypatch):
    """Of two heads of six elements in five rows, in programs of 16."""
    monkeypatch.setattr(elementwise, "BLOCK", 16)
    x, cos, sin = (yard.rows(5, width, INT16, pad) for width, pad in ((12, 3), (6, 5), (6, 7)))
    out = yard.rows(5, 12, INT8, 9)
    for factor in (cos, sin):
        factor *= 200
    rotated(x, cos, sin, out, 1)
    heads = x.long().unflatten(1, (2, 6))
    direct, crossed = (
        part * factor.long()[:, None] + (1 << 13) >> 14
        for part, factor in ((heads, cos), (heads.roll(3, -1), sin))
    )
    wanted = (direct + crossed + 1 >> 1).clamp(-127, 127).flatten(1)
    assert torch.equal(out.long(), wanted)


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("width", [5, 130])
def test_norms_and_sums_are_alone(yard, width):
    build = GraphBuilder(1)
    build.norm_and_sum(build.value(width), build.value(width))
    (op,) = build.ops
    y, x = yard.rows(3, width, INT16), yard.rows(3, width, INT16)
    out, total = yard.rows(3, width, INT16), yard.rows(3, width, INT16)
    rows = Rows(yard.rows(3, width, INT8), yard.rows(3, 1, INT32, 0)[:, 0])
    NormKernel(op, DEVICE)(y, x, out, total, rows)
    found = op.evaluate(build.values, {op.y: y.long()[None], op.x: x.long()[None]}, {})
    assert torch.equal(out.long(), found[op.out][0])
    assert torch.equal(total.long(), found[op.sum][0])
    assert torch.equal(rows.multiplier.long(), out.long().abs().amax(1).clip(256))


def test_products_are_alone(yard):
    """Of 5 rows and 20 columns in tiles of 16 and 32, with sums of 40 in tiles of 32."""
    op = linear_op(20, 40)
    kernel = LinearKernel([op], 16, DEVICE)
    x = yard.rows(5, 48, INT8)
    x[:, 40:] = 0
    multiplier, maxima = (yard.rows(5, 1, INT32, 0, fill) for fill in (20_000, 0))
    y = yard.rows(5, 24, INT16, 0)
    blocks = Blocks(16, 32, 32)  # a GPU multiplies 32 columns at least
    kernel(Rows(x, multiplier[:, 0]), y, dynamic=True, maxima=maxima[:, 0], blocks=blocks)
    acc = x[:, :40].long().cpu() @ torch.as_tensor(op.weight).long().T
    channel = op.channel
    v = acc * torch.as_tensor(channel.multiplier) + (1 << torch.as_tensor(channel.shift) >> 1)
    v = v >> torch.as_tensor(channel.shift)
    z = v * 20_000 + (1 << op.row_shift >> 1) >> op.row_shift
    wanted = z + torch.as_tensor(channel.bias) + (1 << op.out_shift >> 1) >> op.out_shift
    assert torch.equal(y[:, :20].long().cpu(), wanted.clamp(-32767, 32767))
    assert torch.equal(maxima[:, 0].long(), y[:, :20].long().abs().amax(1))


@pytest.mark.parametrize(
    ("rule", "parts"),
    [(Dense(), 0), (Dense(), 1), (Causal(), 0), (Window(2, 1), 0), (TileThreshold(40), 0)],
)
def test_attentions_are_alone(yard, rule, parts):
    """Of two sequences of 9 and 4 keys among 18 of neither, for 7 queries each."""
    op = attention_op(2, 32, 20, rule, kv_heads=1)
    q, k, v = yard.rows(14, 64, INT8), yard.rows(18, 32, INT8), yard.rows(18, 32, INT8)
    out, keys = yard.rows(14, 64, INT16), yard.rows(2, 1, INT32, 0, torch.tensor([[9], [4]]))
    q, k, v, out = (x.unflatten(0, (2, -1)) for x in (q, k, v, out))
    lengths = keys[:, 0].tolist()
    blocks = AttentionBlocks(64, 64, parts=parts)
    AttentionKernel(op, DEVICE)(q, k, v, out, keys[:, 0], None, blocks)
    rows = zip(q.long(), k.long(), v.long(), lengths, strict=True)
    wanted = torch.stack([op._sequence(*row) for row in rows])
    assert np.array_equal(out.cpu().long().numpy(), wanted.cpu().numpy())
