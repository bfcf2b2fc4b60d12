"""``make notebooks UPDATE=1``: run notebooks and write their outputs into them."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

__all__ = ["write_outputs"]


def write_outputs(path: Path) -> None:
    """Run a notebook from top to bottom in its folder, with this Python; keep nothing of the run
    but the outputs.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails; the file stays as it was.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    # the version of the Python that ran it would change with every reader
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for place in sorted(map(Path, sys.argv[1:])):
        print(place)
        write_outputs(place)
