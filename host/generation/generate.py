"""Text from prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transept.host.generation.batch import MOST_TOGETHER, Batch
from transept.host.generation.decoder import Cost
from transept.host.generation.request import Request
from transept.host.generation.sampling import Sampling
from transept.host.generation.session import LanguageSession
from transept.host.generation.stream import TextStream
from transept.host.language.kept import language_program
from transept.host.language.program import LanguageProgram
from transept.host.language.tokenizer import Vocabulary

__all__ = ["Answer", "Generation", "generate", "prompt_ids"]

#: Hears of new text: the number of the prompt, and the text.
Listener = Callable[[int, str], None]


@dataclass(frozen=True)
class Answer:
    """What follows a prompt; reason: why it ended, ``stop`` or ``length``; logprobs: of each token,
    among all."""

    text: str
    prompt_ids: list[int]
    ids: list[int]
    logprobs: list[float]
    reason: str


@dataclass(frozen=True)
class Generation:
    """Answers in the order of the prompts, and what they took.

    prefill, decode: costs; accepted_per_step: tokens that a sequence got in a step behind its
    prompt, on average; device: where it ended.
    """

    answers: tuple[Answer, ...]
    prefill: Cost
    decode: Cost
    accepted_per_step: float
    device: str
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        """Of the first answer."""
        return self.answers[0].text

    @property
    def decoded(self) -> int:
        """Tokens of all answers but the first of each, which its prompt's steps give."""
        return sum(len(answer.ids) - 1 for answer in self.answers)

    @property
    def cycles_per_token(self) -> float | None:
        """Of ``decoded``; None where no cycles are counted."""
        return self.decode.cycles / self.decoded if self.decoded and self.decode.cycles else None

    @property
    def predicted_per_token(self) -> float | None:
        """Cycles that the compiler expects; None off the accelerator."""
        predicted = self.decode.predicted
        return predicted / self.decoded if self.decoded and predicted else None

    def bandwidth_share(self, rate: float) -> float | None:
        """Of the memory's time, what the bytes of ``decode`` take at ``rate`` bytes a cycle."""
        return self.decode.nbytes / rate / self.decode.cycles if self.decode.cycles else None

    def tokens_per_second(self, clock_mhz: float) -> float | None:
        """Of all sequences together, at a clock; by predicted cycles where none are counted."""
        cycles = self.cycles_per_token or self.predicted_per_token
        return clock_mhz * 1e6 / cycles if cycles else None


def prompt_ids(vocabulary: Vocabulary, prompt: str | Sequence[int], chat: bool | None) -> list[int]:
    """Tokens of a prompt: a question of a conversation if the model has them, unless told
    otherwise; tokens stay what they are.

    Raises
    ------
    ValueError
        If the prompt is empty, or a conversation is asked for that the model does not have.
    """
    if not isinstance(prompt, str):
        return list(prompt)
    if not prompt.strip():
        raise ValueError("the prompt is empty")
    if chat is None:
        chat = vocabulary.chats
    if chat:
        return vocabulary.chat([{"role": "user", "content": prompt}])
    return vocabulary.encode(prompt)


def generate(
    program: LanguageProgram | str,
    prompt: str | Sequence[int] | Sequence[str] | Sequence[Sequence[int]],
    *,
    device: str = "emulator",
    tokens: int = 64,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: Sequence[str] = (),
    speculate: int = 0,
    chat: bool | None = None,
    stream: Listener | None = None,
    together: int = MOST_TOGETHER,
    session: LanguageSession | None = None,
    **options: Any,
) -> Generation:
    """Let a language model go on with a prompt, or with several at once.

    program: or a model's name (``language_program``); prompt: a text, its tokens, or a list of
    either; device: ``rtl``, ``emulator``, ``pynq``, ``cpu`` or ``golden``: all give the same
    tokens; tokens: of an answer, at most; temperature, top_k, top_p, seed: of ``Sampling``;
    stop: tokens that end an answer, beside the model's own; speculate: tokens that are guessed from
    the text so far and checked in one step, which changes no token; chat: whether a text is a
    question of a conversation, by default if the model has a template for them; stream: called with
    the number of a prompt and new text of its answer; together: answers that grow in one step;
    session: one that is open, in place of a device; options: of the device.

    Raises
    ------
    ValueError
        If a prompt is empty or too long, a token unknown, or a number outside its limits.
    DeviceError
        If the device's memory is too small, or it fails and ``fallback`` is False.
    """
    if session is not None:
        program = session.program
    elif isinstance(program, str):
        program = language_program(program)
    vocabulary = program.vocabulary
    sampling = Sampling(temperature, top_k, top_p, seed)
    stops = vocabulary.stops | {vocabulary.token(text) for text in stop}
    requests = [
        Request(number, prompt_ids(vocabulary, one, chat), tokens, sampling, stops, speculate)
        for number, one in enumerate(_prompts(prompt))
    ]
    for request in requests:
        program.check_ids(request.ids)
        request.tokens = min(tokens, program.context - len(request.ids))
    if session is None:
        pages = sum(sorted(request.pages for request in requests)[-together:])
        session = LanguageSession(program, device, pages=pages, **options)
    batch = Batch(session, together)
    for request in requests:
        batch.add(request)
    streams = {request: TextStream(vocabulary, request) for request in requests}
    try:
        while batch:
            for request in batch.step():
                if stream is not None and (new := streams[request].new()):
                    stream(request.number, new)
    finally:  # a session that was given stays open
        for request in requests:
            batch.cancel(request)
    return _generation(requests, batch, session, vocabulary)


def _prompts(prompt: Any) -> list[Any]:
    """One prompt or several as several."""
    if isinstance(prompt, str):
        return [prompt]
    found = list(prompt)
    if not found:
        raise ValueError("there is no prompt")
    return found if isinstance(found[0], str | Sequence) else [found]


def _generation(
    requests: Sequence[Request], batch: Batch, session: LanguageSession, vocabulary: Vocabulary
) -> Generation:
    answers = tuple(
        Answer(
            vocabulary.decode(request.answer),
            request.ids,
            request.answer,
            request.logprobs,
            request.reason,
        )
        for request in requests
    )
    later = sum(request.steps - 1 for request in requests)
    tokens = sum(len(request.answer) - 1 for request in requests)
    notes = tuple(dict.fromkeys([*session.program.notes, *session.notes]))
    return Generation(
        answers,
        batch.prefill,
        batch.decode,
        tokens / later if later else 0.0,
        session.device,
        notes,
    )
