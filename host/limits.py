"""What the command line accepts: more than this is refused by name before any work."""

from __future__ import annotations

from transept.golden.config import Config
from transept.host.driver import RUN_TIMEOUT_CYCLES

__all__ = ["MAX_TOKENS", "check_cycles", "check_sequences"]

#: Tokens of all sequences of one program.
MAX_TOKENS = 8_192


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
    if tokens * batch > MAX_TOKENS:
        raise ValueError(f"{batch} x {tokens} tokens exceed {MAX_TOKENS:,}, the limit of a program")


def check_cycles(what: str, cycles: int, config: Config, limit: int = RUN_TIMEOUT_CYCLES) -> None:
    """Refuse what keeps the array busy for longer than a run may take.

    Raises
    ------
    ValueError
        The message names the cycles and the limit.
    """
    if cycles > limit:
        raise ValueError(
            f"{what} needs {cycles:,} cycles or more on {config.name}, the limit is {limit:,}"
        )
