"""``bench accuracy``: embeddings of real passages against torch's float32."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch

from transept.golden.config import Config
from transept.host.models import TextModel

__all__ = ["bench_accuracy"]

TOKENS = 128


def bench_accuracy(
    model: TextModel,
    texts: list[str],
    config: Config,
    *,
    device: str = "emulator",
    progress: Callable[[int], None] = lambda done: None,
) -> dict:
    """Cosine of every passage, and the largest error of any pair's similarity.

    Passages are cut at 128 tokens and padded to whole tiles, which changes no result; one program
    runs them all.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for index, text in enumerate(texts):
        length = model.longest([text], min(TOKENS, config.geometry.max_tokens))
        groups[-(-length // config.tile) * config.tile].append(index)
    found: dict[int, torch.Tensor] = {}
    wanted: dict[int, torch.Tensor] = {}
    program = model.compile(config, tokens=max(groups), batch=1)
    with torch.no_grad():
        for tokens, indices in sorted(groups.items()):
            for index in indices:
                inputs = model.tokens([texts[index]], tokens)
                found[index] = program.run(*inputs, device=device)[0]
                wanted[index] = model.module(*inputs)[0]
                progress(len(found))
    got = torch.stack([found[index] for index in range(len(texts))]).double()
    want = torch.stack([wanted[index] for index in range(len(texts))]).double()
    cosine = (got * want).sum(1) / got.norm(dim=1) / want.norm(dim=1)
    return {
        "passages": len(texts),
        "cosine_mean": cosine.mean().item(),
        "cosine_min": cosine.min().item(),
        "similarity_error_max": (got @ got.T - want @ want.T).abs().max().item(),
    }
