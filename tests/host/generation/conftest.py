"""Programs of small language models, compiled once."""

import pytest
from talkers import MODELS, program


@pytest.fixture(scope="session", params=MODELS)
def any_program(request, tmp_path_factory):
    """Of every kind."""
    return program(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """Of the Llama."""
    return program(tmp_path_factory.mktemp("llama"))
