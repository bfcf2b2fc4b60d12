"""``bench perplexity``: what quantisation costs a language model, on real text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from transept.host.generation.decoder import Growth
from transept.host.generation.sampling import log_softmax
from transept.host.generation.session import LanguageSession
from transept.host.language.model import LanguageModel

__all__ = ["bench_perplexity"]


def bench_perplexity(
    model: LanguageModel,
    session: LanguageSession,
    texts: Sequence[str],
    *,
    tokens: int,
    window: int,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, float]:
    """Texts one behind the other, up to ``tokens`` tokens, in windows that know nothing of each
    other: perplexity of what follows, mean KL(float || quantised) in nats a token, and the share of
    places where both find the same token likeliest.

    Raises
    ------
    ValueError
        If the texts have fewer than two tokens, or a window exceeds the context.
    """
    ids = model.vocabulary.encode("\n\n".join(texts))[:tokens]
    if len(ids) < 2:
        raise ValueError(f"the texts have {len(ids)} tokens, at least 2 are needed")
    if not 2 <= window <= session.program.context:
        raise ValueError(f"a window of {window} tokens is outside 2 to {session.program.context}")
    found: list[np.ndarray] = []
    for part in _windows(ids, window):
        sequence = session.open()
        (logits,) = session.grow([Growth(sequence, part, len(part))])
        session.close(sequence)
        with torch.no_grad():
            wanted = model.module(torch.tensor([part]), use_cache=False).logits[0]
        found.append(_measures(log_softmax(wanted.double().numpy()), log_softmax(logits), part))
        progress(sum(len(measures) for measures in found))
    kl, same, lost, lost_float = np.concatenate(found).T
    known = ~np.isnan(lost)  # nothing follows the last token of a window
    return {
        "tokens": len(kl),
        "perplexity": float(np.exp(lost[known].mean())),
        "perplexity_float": float(np.exp(lost_float[known].mean())),
        "ratio": float(np.exp((lost - lost_float)[known].mean())),
        "kl_mean": float(kl.mean()),
        "top1": float(same.mean()),
    }


def _windows(ids: list[int], window: int) -> Iterator[list[int]]:
    return (ids[start : start + window] for start in range(0, len(ids), window))


def _measures(wanted: np.ndarray, found: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """float64[tokens, 4]: KL, whether the likeliest is the same, and what both lose."""
    kl = (np.exp(wanted) * (wanted - found)).sum(1)
    same = wanted.argmax(1) == found.argmax(1)
    follows = np.array([*ids[1:], 0])[:, None]
    lost, lost_float = (-np.take_along_axis(x, follows, 1)[:, 0] for x in (found, wanted))
    lost[-1] = lost_float[-1] = np.nan
    return np.stack([kl, same, lost, lost_float], 1)
