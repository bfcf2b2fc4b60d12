"""Servers of a small language model."""

import contextlib

import pytest
from servers import Served
from talkers import program


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """The program of a Llama."""
    return program(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def serve(llama):
    """Makes servers."""
    with contextlib.ExitStack() as stack:

        def make(device="cpu", **options):
            served = Served(llama, device, **options)
            stack.callback(served.close)
            return served

        yield make


@pytest.fixture(scope="module")
def client(llama):
    """Of a server that stays."""
    served = Served(llama, "cpu")
    yield served.client()
    served.close()
