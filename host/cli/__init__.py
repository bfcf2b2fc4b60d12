"""The command line: one file a command or group, each a few lines over the package."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; an error is one line, with exit status 1, or 2 for wrong usage."""
    try:
        from transept.host.cli.app import call
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"error: {error.name} missing; run: pip install transept")
    sys.exit(call())
