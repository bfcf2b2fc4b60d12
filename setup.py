"""Packages: the folders of this repository, each as transept.<folder>. The rest: pyproject.toml."""

from setuptools import find_packages, setup

LAYERS = ("golden", "hls", "rtl", "bitstreams", "sim", "host")
found = find_packages(include=[pattern for name in LAYERS for pattern in (name, f"{name}.*")])

setup(
    packages=["transept", *(f"transept.{name}" for name in found)],
    package_dir={"transept": "transept", **{f"transept.{name}": name for name in LAYERS}},
)
