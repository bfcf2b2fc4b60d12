"""What the command line accepts: more than this is refused by name before any work."""

from __future__ import annotations

from transept.golden.config import Config
from transept.host.driver import RUN_TIMEOUT_CYCLES

__all__ = ["MAX_ROWS", "check_cycles", "check_sequences"]

#: Rows of one program: tokens of all its sequences, or M of a GEMM.
MAX_ROWS = 65_536


def check_sequences(config: Config, *, tokens: int, batch: int) -> None:
    """Refuse sequences that are too long for the accelerator, or too many.

    Raises
    ------
    ValueError
        The message names the value and the limit.
    """
    limit = config.geometry.max_tokens
    if tokens > limit:
        raise ValueError(f"sequence length {tokens} exceeds {limit} of {config.name}")
    if tokens * batch > MAX_ROWS:
        raise ValueError(f"{batch} x {tokens} tokens exceed {MAX_ROWS:,}, the most of one program")


def check_cycles(what: str, macs: int, config: Config, limit: int = RUN_TIMEOUT_CYCLES) -> None:
    """Refuse what keeps the array busy for longer than a run may take.

    Raises
    ------
    ValueError
        The message names the cycles and the limit.
    """
    cycles = -(-macs // config.macs)
    if cycles > limit:
        raise ValueError(
            f"{what} needs {cycles:,} cycles or more on {config.name}, the limit is {limit:,}"
        )
