"""``transept generate``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from transept.golden.config import Config
from transept.host import report
from transept.host.cli.options import (
    ConfigOption,
    DeviceName,
    DeviceOption,
    JsonOption,
    LanguageArgument,
    MemoryName,
    MemoryOption,
    WeightsName,
    WeightsOption,
    build_simulation,
    choose_config,
    device_options,
    language,
)
from transept.host.files import check_writable
from transept.host.generation.generate import Generation
from transept.host.report import console

__all__ = ["generate"]

#: Characters of an answer beside its progress.
_TAIL = 40


def generate(
    model: LanguageArgument,
    prompts: Annotated[
        list[str], typer.Argument(metavar="PROMPT...", help="texts, answered together")
    ],
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.emulator,
    memory: MemoryOption = MemoryName.default,
    weights: WeightsOption = WeightsName.w8,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="of an answer, at most")] = 64,
    temperature: Annotated[
        float, typer.Option("--temperature", help="0: always the likeliest")
    ] = 0,
    top_k: Annotated[int, typer.Option("--top-k", help="draw from so many, 0: all")] = 0,
    top_p: Annotated[float, typer.Option("--top-p", help="draw from so much probability")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="of what is drawn")] = 0,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="a token that ends an answer")
    ] = None,
    speculate: Annotated[
        int, typer.Option("--speculate", help="check guesses of so many tokens in one step")
    ] = 0,
    raw: Annotated[
        bool, typer.Option("--raw", help="go on with the text, without the chat template")
    ] = False,
    fallback: Annotated[
        bool, typer.Option(" /--no-fallback", help="an error where a device fails, not another one")
    ] = True,
    json: JsonOption = None,
) -> None:
    """Let a language model answer, token by token."""
    chosen = choose_config(config, memory)
    check_writable(json)
    if device == DeviceName.auto:
        raise ValueError("device auto is for whole runs; generate takes one device")
    from transept.host.generation.generate import generate as answer
    from transept.host.generation.generate import prompt_ids
    from transept.host.generation.sampling import Sampling

    Sampling(temperature, top_k, top_p, seed)
    for prompt in prompts:
        if not prompt.strip():
            raise ValueError("the prompt is empty")
    program = language(model, chosen, weights)
    ids = [prompt_ids(program.vocabulary, prompt, False if raw else None) for prompt in prompts]
    for one in ids:
        program.check_ids(one)
    build_simulation(chosen, device)
    options = device_options(device, memory, seed)
    options.pop("seed", None)  # of the memory's jitter; the seed here is that of what is drawn
    streams = len(prompts) == 1 and device != DeviceName.rtl
    listening = _streamed() if streams else _counted(len(prompts), tokens, device, options)
    with listening as listen:
        found = answer(
            program,
            ids,
            device=device.value,
            tokens=tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            stop=stop or (),
            speculate=speculate,
            stream=listen,
            fallback=fallback,
            **options,
        )
    _show(prompts, found, chosen, memory, streamed=streams)
    report.write_json(json, _result(found, report.RATES[memory.value]))


@contextlib.contextmanager
def _streamed() -> Iterator[Callable[[int, str], None]]:
    """One answer as it comes."""
    yield lambda _, text: console.out(text, end="", highlight=False)
    console.print()


@contextlib.contextmanager
def _counted(
    prompts: int, tokens: int, device: DeviceName, options: dict[str, Any]
) -> Iterator[Callable[[int, str], None]]:
    """How far answers are, where steps are slow or there are several."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks = [progress.add_task(f"prompt {n + 1}", total=tokens) for n in range(prompts)]
        texts = [""] * prompts
        if device == DeviceName.rtl:
            simulated = progress.add_task("simulating", total=None)
            options["progress"] = lambda cycles: progress.update(
                simulated, description=f"{cycles:,} cycles of this run"
            )

        def listen(number: int, text: str) -> None:
            texts[number] += text
            tail = " ".join(texts[number].split())[-_TAIL:]
            progress.update(tasks[number], advance=1, description=f"{number + 1}: … {tail}")

        yield listen


def _result(found: Generation, rate: float) -> dict[str, Any]:
    cost = found.prefill + found.decode
    return {
        "prompts": [
            {
                "text": answer.text,
                "prompt_ids": answer.prompt_ids,
                "ids": answer.ids,
                "logprobs": answer.logprobs,
                "reason": answer.reason,
            }
            for answer in found.answers
        ],
        "device": found.device,
        "steps": cost.steps,
        "cycles": cost.cycles,
        "bytes_read": cost.bytes_read,
        "bytes_written": cost.bytes_written,
        "cycles_per_token": found.cycles_per_token,
        "bandwidth_share": found.bandwidth_share(rate),
        "accepted_per_step": found.accepted_per_step,
        "notes": list(found.notes),
    }


def _show(
    prompts: list[str], found: Generation, config: Config, memory: MemoryName, *, streamed: bool
) -> None:
    """Answers that were not shown as they came, and figures."""
    for prompt, answer in zip(prompts, found.answers, strict=True):
        if len(prompts) > 1:
            console.print(f"[bold]{prompt}[/bold]", highlight=False)
        if not streamed:
            console.out(answer.text, highlight=False)
    rate = report.RATES[memory.value]
    share, cycles = found.bandwidth_share(rate), found.cycles_per_token
    row: dict[str, Any] = {
        "device": found.device,
        "prompt": sum(len(answer.prompt_ids) for answer in found.answers),
        "tokens": sum(len(answer.ids) for answer in found.answers),
        "steps": found.prefill.steps + found.decode.steps,
        "per_step": found.accepted_per_step,
        "cycles_per_token": cycles or found.predicted_per_token,
        "memory_share": share,
        "tokens_per_s": found.tokens_per_second(config.clock_mhz),
    }
    if not cycles and found.predicted_per_token:
        row["cycles_per_token"] = f"{found.predicted_per_token:,.0f} predicted"
    report.show_rows(f"{config.name} at {config.clock_mhz} MHz, memory {memory.value}", [row])
    for note in found.notes:
        console.print(f"note: {note}", highlight=False)
