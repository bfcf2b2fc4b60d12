"""Runs first in every interpreter of a test run, simulators included.

The packages of the project are those of the copy under test, not those that are installed; and
where a test is to be traced, what its subprocesses call is written down.
"""

import json
import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path


class CopyUnderTest:
    """Finds the packages named in $MUTANTS_PACKAGES, a JSON object of folders by name."""

    def __init__(self, folders: dict[str, str]) -> None:
        self._folders = folders

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The package of that name; what is inside is found by its ``__path__``."""
        if name not in self._folders:
            return None
        folder = self._folders[name]
        return spec_from_file_location(
            name, Path(folder, "__init__.py"), submodule_search_locations=[folder]
        )


if "MUTANTS_PACKAGES" in os.environ:
    sys.meta_path.insert(0, CopyUnderTest(json.loads(os.environ["MUTANTS_PACKAGES"])))
if "MUTANTS_CALLS" in os.environ:
    import mutants_tracer

    mutants_tracer.write_calls(os.environ["MUTANTS_CALLS"])
