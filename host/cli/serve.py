"""``transept serve``."""

from __future__ import annotations

import importlib.util
from typing import Annotated

import typer

from transept.host.cli.options import (
    ConfigOption,
    DeviceName,
    DeviceOption,
    LanguageArgument,
    MemoryName,
    MemoryOption,
    SeedOption,
    WeightsName,
    WeightsOption,
    build_simulation,
    choose_config,
    device_options,
    language,
)
from transept.host.compiler.pages import PAGE_ROWS
from transept.host.generation.batch import MOST_TOGETHER
from transept.host.report import console

__all__ = ["serve"]

#: What the HTTP server is made of.
_PACKAGES = ("starlette", "uvicorn")


def serve(
    model: LanguageArgument,
    host: Annotated[
        str, typer.Option("--host", help="the default is for this machine alone")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one")] = 8000,
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.emulator,
    memory: MemoryOption = MemoryName.default,
    weights: WeightsOption = WeightsName.w8,
    seed: SeedOption = 1,
    pages: Annotated[
        int, typer.Option("--pages", min=1, help="of 16 tokens, for all texts together")
    ] = 512,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="of an answer, at most")] = 512,
    together: Annotated[
        int, typer.Option("--together", min=1, max=MOST_TOGETHER, help="answers of one step")
    ] = MOST_TOGETHER,
    queue: Annotated[int, typer.Option("--queue", min=1, help="requests that may wait")] = 64,
) -> None:
    """Answer OpenAI's clients: completions and conversations, until interrupted."""
    chosen = choose_config(config, memory)
    if device == DeviceName.auto:
        raise ValueError("device auto is for whole runs; serve takes one device")
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise ValueError(f"{', '.join(missing)} is not installed; pip install 'transept[serve]'")
    import uvicorn

    from transept.host.generation.session import LanguageSession
    from transept.host.serve.app import application
    from transept.host.serve.protocol import Limits
    from transept.host.serve.service import Service

    program = language(model, chosen, weights)
    build_simulation(chosen, device)
    options = device_options(device, memory, seed)
    session = LanguageSession(program, device.value, pages=pages, **options)
    service = Service(session, queue=queue, together=together)
    text = pages * PAGE_ROWS if session.counts_pages else None
    limits = Limits(min(tokens, program.context - 1), together, text)
    app = application(service, model, limits)
    server = uvicorn.Server(uvicorn.Config(app, host, port, log_level="warning"))
    console.print(
        f"{model} on {device.value} at http://{host}:{port}/v1, Ctrl-C ends", highlight=False
    )
    try:
        server.run()
    finally:
        service.close()
