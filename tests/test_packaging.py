"""The wheel holds every package and what it needs beside Python."""

import zipfile
from pathlib import Path

import pytest
import tomllib
from setuptools import build_meta

ROOT = Path(__file__).parents[1]
LAYERS = ("golden", "rtl", "sim", "host")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages():
    return {
        ".".join(("transept", *path.parent.relative_to(ROOT).parts))
        for layer in LAYERS
        for path in (ROOT / layer).rglob("__init__.py")
    } | {"transept"}


def test_every_package_is_listed():
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages()


def test_every_folder_of_modules_is_a_package():
    for layer in LAYERS:
        for path in (ROOT / layer).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path


def test_the_board_needs_little():
    names = {name.split(">")[0] for name in PROJECT["project"]["dependencies"]}
    assert names <= {"numpy", "array-api-compat", "safetensors"}


def test_the_wheel(tmp_path, monkeypatch):
    """Built from a copy, because setuptools leaves folders behind."""
    for name in (*LAYERS, "transept", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    wheel = build_meta.build_wheel(str(tmp_path))
    found = set(zipfile.ZipFile(tmp_path / wheel).namelist())
    for layer in LAYERS:
        for path in (ROOT / layer).rglob("*"):
            if path.suffix in (".py", ".cpp", ".h"):
                assert f"transept/{path.relative_to(ROOT).as_posix()}" in found
    assert "transept/__init__.py" in found
    assert not [name for name in found if name.startswith("tests/")]


@pytest.mark.parametrize("name", ["rtl", "golden", "sim", "host"])
def test_folders_are_banned_as_top_level_names(name):
    assert name in PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
