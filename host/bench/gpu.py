"""``bench gpu``: the kernels on a GPU: whether they are exact, and their time beside torch's.

Times are medians of many launches, all of a row in one process, so that ratios hold whatever the
clock does. Parameters are those that quantisation gives random weights.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from transept.golden.filters import Dense, KeyFilter
from transept.golden.graph import Value
from transept.golden.numerics.requantise import ChannelParameters
from transept.golden.ops import Attention, Linear
from transept.host.backends.gpu.tune import ATTENTION_BLOCKS
from transept.host.bench.gpu_cards import bench_cards
from transept.host.bench.gpu_models import bench_models
from transept.host.front.quantise.attention import quantise_attention
from transept.host.front.quantise.linear import quantise_linear
from transept.host.kernels import INTERPRETED
from transept.host.kernels.attention import AttentionBlocks, AttentionKernel
from transept.host.kernels.matmul import Blocks, LinearKernel
from transept.host.kernels.rows import quantise_rows, rows_like
from transept.host.kernels.tiles import KeptTiles
from transept.host.reasons import first_line

__all__ = ["ATTENTIONS", "GEMMS", "attention_op", "bench_gpu", "linear_op"]

#: Rows, columns, depth: a square product, and the layers of BERT-base on 65,536 tokens.
GEMMS = ((8192, 8192, 8192), (65536, 768, 768), (65536, 3072, 768), (65536, 768, 3072))
#: Sequences, heads, tokens, width of a head.
ATTENTIONS = ((1, 16, 16384, 64), (128, 12, 512, 64), (128, 12, 512, 32))
#: Shares of the 64 x 64 tiles of the first attention that are kept.
SHARES = (0.25, 0.12)
#: What is tried for each shape; the fastest counts.
BLOCKS = tuple(Blocks(group=group) for group in (8, 16, 32))
TILE = 64
#: Rows of a result that are compared with the golden model.
SAMPLED = 128


def bench_gpu(progress: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Every row, and on what it was measured.

    Raises
    ------
    RuntimeError
        If there is no CUDA device.
    """
    if INTERPRETED:
        raise RuntimeError("bench gpu needs a CUDA device, torch finds none")
    torch.manual_seed(0)
    rows = []
    for product in GEMMS:
        progress(f"linear {'x'.join(map(str, product))}")
        rows.append(_linear(*product))
    for shape in ATTENTIONS:
        progress(f"attention {'x'.join(map(str, shape))}")
        rows.append(_attention(*shape))
    for share in SHARES:
        progress(f"attention, {share:.0%} of the tiles")
        rows.append(_sparse(*ATTENTIONS[0], share=share))
    rows += bench_models(_milliseconds, progress)
    rows += bench_cards(progress)
    return {
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": importlib.metadata.version("triton"),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "command": "transept bench gpu",
        "rows": rows,
    }


def _milliseconds(run: Callable[[], object]) -> float:
    from triton.testing import do_bench

    run()
    return do_bench(run, warmup=25, rep=100, return_mode="median")


def _fastest(runs: Iterable[tuple[Any, Callable[[], object]]]) -> tuple[float, Any]:
    timed = [(_milliseconds(run), blocks) for blocks, run in runs]
    return min(timed, key=lambda found: found[0])


def _row(
    work: str,
    shape: tuple[int, ...],
    best: tuple[float, Any],
    operations: int,
    mismatches: int,
    baselines: Iterator[tuple[str, Callable[[], object]]],
) -> dict[str, Any]:
    ours, blocks = best
    row: dict[str, Any] = {
        "work": work,
        "shape": "x".join(map(str, shape)),
        "ms": ours,
        "tops": operations / ours / 1e9,
        "mismatches": mismatches,
    }
    for name, run in baselines:
        other = _milliseconds(run)
        row |= {f"{name}_ms": other, f"against_{name}": other / ours}
    return row | {"blocks": dataclasses.asdict(blocks)}


# --- linear layers
def linear_op(n: int, k: int, bits: int = 16) -> Linear:
    """A layer with random weights from int16 rows to ``bits``, as quantisation makes it."""
    generator = torch.Generator().manual_seed(n)
    match = SimpleNamespace(
        name="linear",
        inputs=("x",),
        outputs=("y",),
        weight=torch.randn(n, k, generator=generator) * k**-0.5,
        bias=torch.randn(n, generator=generator) / 10,
    )
    out = 8 / 32767 if bits == 16 else 4 / 127
    return quantise_linear(match, None, np.full(k, 8 / 32767), np.full(n, out))  # type: ignore[arg-type]


def _linear(m: int, n: int, k: int) -> dict[str, Any]:
    """A product with the requantiser and row maxima, from int8 rows to int16."""
    device = torch.device("cuda")
    op = linear_op(n, k)
    kernel = LinearKernel([op], 16, device)
    x = (torch.randn(m, k, device=device) * 6000).clamp(-32767, 32767).to(torch.int16)
    operands = rows_like(x)
    quantise_rows(x, operands)
    y = torch.empty(m, n, dtype=torch.int16, device=device)
    maxima = torch.zeros(m, dtype=torch.int32, device=device)

    def run(blocks: Blocks) -> Callable[[], None]:
        return lambda: kernel(operands, y, dynamic=True, maxima=maxima, blocks=blocks)

    run(BLOCKS[0])()
    some = _some(m)
    values = {"x": Value("x", "rows", k), "y": Value("y", "rows", n)}
    wanted = op.evaluate(values, {"x": x[some].long()[None]}, {})["y"][0]
    wrong = int((y[some] != wanted).sum()) + int((maxima[some] != wanted.abs().amax(1)).sum())
    best = _fastest((blocks, run(blocks)) for blocks in BLOCKS)
    others = _linear_baselines(op, operands.elements, kernel.weights, operands.multiplier)
    return _row("linear", (m, n, k), best, 2 * m * n * k, wrong, others)


def _linear_baselines(
    op: Linear, x: torch.Tensor, weights: torch.Tensor, multiplier: torch.Tensor
) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "int_mm", lambda: torch._int_mm(x, weights.T)
    channel = ChannelParameters(
        *(
            torch.as_tensor(np.ascontiguousarray(part)).cuda()
            for part in (op.channel.multiplier, op.channel.shift, op.channel.bias)
        )
    )

    row_shift, out_shift, limit = int(op.row_shift), int(op.out_shift), (1 << 24) - 1
    half, half_out = (1 << row_shift) >> 1, (1 << out_shift) >> 1
    shift, half_channel = channel.shift, (1 << channel.shift) >> 1

    @functools.partial(torch.compile, dynamic=False)
    def requantised() -> tuple[torch.Tensor, torch.Tensor]:
        """The same bits, as torch would write it."""
        acc = torch._int_mm(x, weights.T).long()
        v = ((acc * channel.multiplier + half_channel) >> shift).clip(-limit, limit)
        z = ((v * multiplier[:, None] + half) >> row_shift).clip(-limit, limit)
        y = ((z + channel.bias + half_out) >> out_shift).clip(-32767, 32767)
        return y.to(torch.int16), y.abs().amax(1)

    yield "compiled", requantised
    (m, k), n = x.shape, len(weights)
    a = torch.randn(m, k, dtype=torch.bfloat16, device="cuda")
    b = torch.randn(n, k, dtype=torch.bfloat16, device="cuda")
    yield "bfloat16", lambda: a @ b.T


def _some(rows: int) -> torch.Tensor:
    """Rows from both ends."""
    half = min(SAMPLED // 2, rows // 2)
    return torch.cat([torch.arange(half), torch.arange(rows - half, rows)]).cuda()


# --- attention
def attention_op(
    heads: int, width: int, keys: int, rule: KeyFilter | None = None, kv_heads: int | None = None
) -> Attention:
    """An attention on int8 values of +-4 with at most so many keys, as quantisation makes it."""
    kv_heads = kv_heads or heads
    match = SimpleNamespace(
        name="attention",
        inputs=("q", "k", "v"),
        outputs=("out",),
        heads=heads,
        kv_heads=kv_heads,
        scale=width**-0.5,
        filter=rule or Dense(),
    )
    q, k, v = (np.full(count * width, 4 / 127) for count in (heads, kv_heads, kv_heads))
    out = np.full(heads * width, 4 / 32767)
    return quantise_attention(match, q, k, v, out, block=16, most_keys=keys)  # type: ignore[arg-type]


class _Heads:
    """Random queries, keys and values, and the kernel on them."""

    def __init__(self, batch: int, heads: int, tokens: int, width: int) -> None:
        device, size = torch.device("cuda"), (batch, tokens, heads * width)
        self.op, self.width, self.tokens = attention_op(heads, width, tokens), width, tokens
        self.q, self.k, self.v = (
            (torch.randn(size, device=device) * 30).clamp(-127, 127).to(torch.int8)
            for _ in range(3)
        )
        self.out = torch.empty(size, dtype=torch.int16, device=device)
        self.keys = torch.full((batch,), tokens, dtype=torch.int32, device=device)
        self.kernel = AttentionKernel(self.op, device)
        shape = (batch, heads, tokens, width)
        self.real = torch.randn((3, *shape), dtype=torch.bfloat16, device=device)

    def run(self, blocks: AttentionBlocks, kept: KeptTiles | None = None) -> Callable[[], None]:
        """A launch."""
        return lambda: self.kernel(
            self.q, self.k, self.v, self.out, self.keys, kept, blocks, whole=True
        )

    def mismatches(self, seen: torch.Tensor | None = None) -> int:
        """Of some rows of the last head of the first sequence; seen: bool[tokens, tokens]."""
        head, some = self.op.heads - 1, _some(self.tokens)
        part = slice(head * self.width, (head + 1) * self.width)
        one = _one_head(self.op, head, part)
        q, k, v = self.q[0, some, part], self.k[0, :, part], self.v[0, :, part]
        if seen is not None:
            one = dataclasses.replace(one, filter=_Given(seen[some]))
        wanted = one._sequence(q.long(), k.long(), v.long(), self.tokens)
        return int((self.out[0, some, part] != wanted).sum())

    def baselines(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """torch's own attention in bfloat16."""
        q, k, v = self.real
        for name, backend in (
            ("cudnn", SDPBackend.CUDNN_ATTENTION),
            ("flash", SDPBackend.FLASH_ATTENTION),
        ):
            with sdpa_kernel(backend):
                yield name, lambda: functional.scaled_dot_product_attention(q, k, v)


class _Given(Dense):
    """A filter that sees what it is told, for rows that are given."""

    def __init__(self, seen: torch.Tensor) -> None:
        object.__setattr__(self, "seen", seen)

    def sees(self, query: Any, key: Any) -> Any:
        """As told."""
        return self.seen  # type: ignore[attr-defined]


def _one_head(op: Attention, head: int, part: slice) -> Attention:
    channel = op.context
    return dataclasses.replace(
        op,
        heads=1,
        kv_heads=1,
        score_multiplier=op.score_multiplier[head : head + 1],
        score_shift=op.score_shift[head : head + 1],
        context=ChannelParameters(
            channel.multiplier[part].copy(), channel.shift[part].copy(), channel.bias[part].copy()
        ),
    )


def _attention(batch: int, heads: int, tokens: int, width: int) -> dict[str, Any]:
    """Dense attention."""
    work = _Heads(batch, heads, tokens, width)
    work.run(ATTENTION_BLOCKS[0])()
    wrong = work.mismatches()
    best = _fastest((blocks, work.run(blocks)) for blocks in ATTENTION_BLOCKS)
    operations = 4 * batch * heads * tokens**2 * width
    shape = (batch, heads, tokens, width)
    return _row("attention", shape, best, operations, wrong, work.baselines())


def _sparse(batch: int, heads: int, tokens: int, width: int, *, share: float) -> dict[str, Any]:
    """The same with a mask of tiles, drawn by lot, the same for all heads."""
    work, tiles = _Heads(batch, heads, tokens, width), tokens // TILE
    kept = torch.rand(tiles, tiles, device="cuda") < share
    kept |= torch.eye(tiles, dtype=torch.bool, device="cuda")
    listed = KeptTiles.of(kept.expand(batch, heads, tiles, tiles))
    blocks = AttentionBlocks(TILE, TILE, registers=128)
    run = work.run(blocks, listed)
    run()
    seen = kept.repeat_interleave(TILE, 0).repeat_interleave(TILE, 1)
    wrong = work.mismatches(seen)
    dense, _ = _fastest((choice, work.run(choice)) for choice in ATTENTION_BLOCKS)
    operations = int(4 * batch * heads * kept.sum() * TILE**2 * width)
    best = (_milliseconds(run), blocks)
    name = f"attention, {share:.0%} of {TILE} x {TILE} tiles"
    row = _row(name, (batch, heads, tokens, width), best, operations, wrong, work.baselines())
    try:
        flex = _milliseconds(_flex(work.real, kept))
        row |= {"flex_ms": flex, "against_flex": flex / best[0]}
    except RuntimeError as error:  # what torch cannot compile here
        row["flex"] = first_line(error)
    return row | {"dense_ms": dense, "against_dense": dense / best[0]}


def _flex(real: torch.Tensor, kept: torch.Tensor) -> Callable[[], object]:
    """FlexAttention in bfloat16 with the same tiles."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    q, k, v = real
    tokens = q.shape[2]

    def seen(_batch: Any, _head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return kept[query // TILE, key // TILE]

    mask = create_block_mask(seen, None, None, tokens, tokens, BLOCK_SIZE=TILE)
    compiled = torch.compile(flex_attention, dynamic=False)
    tile: Any = {"BLOCK_M": TILE, "BLOCK_N": TILE}
    return lambda: compiled(q, k, v, block_mask=mask, kernel_options=tile)
