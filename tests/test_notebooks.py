"""Notebooks read well as a page, and what is kept of their outputs is what they give today."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import v4
from notebook_outputs import write_outputs

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: Of whoever ran the notebook.
MACHINE = re.compile(r"/(?:home|root|tmp|usr|work|Users)/|site-packages|\.venv|0x[0-9a-f]{6}")
#: What make notebooks gives to pytest, besides the folder.
OPTIONS = re.search(r"^NOTEBOOKS := \S+ (.*) notebooks$", (ROOT / "Makefile").read_text(), re.M)[1]

EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


@EACH
def test_every_cell_ran_once_from_top_to_bottom(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@EACH
def test_outputs_are_kept_and_clean(path):
    kept = [output for cell in code_cells(path) for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in kept)
    for output in kept:
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        shown = output.get("text", "") + str(
            {kind: data for kind, data in output.get("data", {}).items() if kind != "image/png"}
        )
        assert not MACHINE.search(shown), shown


@EACH
def test_nothing_of_the_run_is_kept_but_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.language_info == {"name": "python"}
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert not set(cell.metadata) - {"tags"}


@EACH
def test_a_notebook_is_a_page(path):
    """It begins with its title, which no other part has; its links lead somewhere; the README has
    it."""
    cells = nbformat.read(path, as_version=4).cells
    text = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert cells[0].source.startswith("# ")
    assert not any(line.startswith("# ") for part in text[1:] for line in part.splitlines())
    for target in re.findall(r"\]\(([^)#]+)", "\n".join(text)):
        assert "://" in target or (path.parent / target).exists(), target
    assert f"(notebooks/{path.name})" in (ROOT / "README.md").read_text()


# --- what make notebooks notices ------------------------------------------------------------------


def cell(source, *outputs, tags=()):
    return v4.new_code_cell(
        source, execution_count=1, outputs=list(outputs), metadata={"tags": list(tags)}
    )


def printed(text):
    return v4.new_output("stream", name="stdout", text=text)


def picture(data):
    shown = {"image/png": data, "text/plain": "<a picture>"}
    return v4.new_output("display_data", data=shown)


def show(data):
    return (
        "from IPython.display import display\n"
        f"display({{'image/png': '{data}', 'text/plain': '<a picture>'}}, raw=True)"
    )


CELLS = {
    "as it was": cell("print(1 + 1)", printed("2\n")),
    "another number": cell("print(1 + 1)", printed("3\n")),
    "an output less": cell("print(1 + 1)"),
    "an output more": cell("", printed("2\n")),
    "measured": cell("print(1 + 1)", printed("3\n"), tags=["nbval-ignore-output"]),
    "an error": cell("1 / 0"),
    "an error where it is measured": cell("1 / 0", tags=["nbval-ignore-output"]),
    "a warning": cell("import warnings; warnings.warn('soon')"),
    "another picture": cell(show("QUJD"), picture("QUJE")),
    "a picture less": cell(show("QUJD")),
}
FINE = {"as it was", "measured", "another picture"}


@pytest.fixture
def notebook(tmp_path):
    """A place with these cells."""

    def write(cells):
        path = tmp_path / "some.ipynb"
        nbformat.write(v4.new_notebook(cells=cells), path)
        return path

    return write


def failures(path):
    """Numbers of the cells that make notebooks complains about."""
    command = [sys.executable, "-m", "pytest", *OPTIONS.split(), path.name]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
    found = re.findall(r"FAILED .*::Cell (\d+)", done.stdout)
    assert done.returncode == (1 if found else 0), done.stdout + done.stderr
    return [int(number) for number in found]


def test_a_stale_output_and_an_error_are_noticed(notebook):
    """Measured outputs may change, and a picture need only be there."""
    found = failures(notebook(list(CELLS.values())))
    assert {name for index, name in enumerate(CELLS) if index not in found} == FINE


def test_what_is_written_is_what_is_wanted(notebook):
    """With nothing of the run but outputs."""
    path = notebook(
        [
            cell("x = 1 + 1\nprint(x)"),
            cell("print(x, end=' ', flush=True)\nprint(3, flush=True)"),
            cell("x"),
        ]
    )
    write_outputs(path)
    assert failures(path) == []
    cells = code_cells(path)
    assert [len(part.outputs) for part in cells] == [1, 1, 1]
    assert [part.execution_count for part in cells] == [1, 2, 3]
    assert cells[1].outputs[0].text == "2 3\n"
    assert not any("execution" in part.metadata for part in cells)
    assert nbformat.read(path, as_version=4).metadata.language_info == {"name": "python"}


def test_a_notebook_that_fails_stays_as_it_was(notebook):
    path = notebook([CELLS["another number"], CELLS["an error"]])
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        write_outputs(path)
    assert path.read_bytes() == before
