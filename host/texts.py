"""Texts for calibration, accuracy and demo: our own, real English ones that every Python
installation carries, and degenerate ones that are made here."""

from __future__ import annotations

import pydoc_data.topics
import random
import re
import string
from importlib import resources
from pathlib import Path

__all__ = [
    "DEMO_SENTENCES",
    "calibration_texts",
    "degenerate_texts",
    "passages",
    "read_passages",
]

MIN_WORDS = 25

DEMO_SENTENCES = (
    (
        "A systolic array multiplies two matrices while the data flows through a grid of small "
        "processing elements, each number used many times."
    ),
    (
        "Matrix products are computed by streaming the operands across many multipliers, so that "
        "each number read from memory is used over and over again."
    ),
    (
        "The old cat slept all afternoon on the warm windowsill, and neither the rain nor the "
        "neighbour's barking dog could wake her up."
    ),
    (
        "Quantised neural networks give up a little of their accuracy, and in return they run "
        "faster, need less memory and use far less energy."
    ),
)

#: "All human beings are born free and equal in dignity and rights", by script.
_OTHER_SCRIPTS = (
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "人人生而自由,在尊严和权利上一律平等。",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
)

_CODE = (
    "def f{n}(x):\n    return [y ** {n} for y in x if y % {n} == 0]\n",
    "for (int i{n} = 0; i{n} < {n}; ++i{n}) {{ *p++ = a[i{n}] << {n} | 0x{n:02X}; }}\n",
    "assign out[{n}] = (sel == 4'd{n}) ? in[{n}] : 1'bz;\n",
    "L{n}: ldr r{n}, [sp, #{n}]\n    add r0, r0, r{n}, lsl #2\n    bne L{n}\n",
    '{{"id": {n}, "tags": ["a{n}", null, true], "at": {{"x": -{n}.5e-3, "y": []}}}},\n',
    '<tr class="row{n}"><td>&nbsp;{n}</td><td><a href="#{n}">&lt;{n}&gt;</a></td></tr>\n',
    "SELECT t{n}.a, COUNT(*) FROM t{n} WHERE t{n}.b <> {n} GROUP BY 1;\n",
    r"\frac{{\partial^{{{n}}} f}}{{\partial x_{{{n}}}^{{{n}}}}} + \sum_{{i={n}}}^{{\infty}} ",
    r"^(?:[a-z]{{{n},}}|\d+\.\d*|[^\\{n}-9])*?$ ",
    "https://example.org/a{n}/b?c={n}&d=%2F{n}#e{n} ",
)


def calibration_texts() -> list[str]:
    """52 paragraphs of 30 to 130 words: prose of many kinds, reference documentation, science.

    They are kept here, because another text makes other scales, and so other bits of a model.
    Rules, tables and the like are not among them: they widen the scales of all other text.
    """
    text = resources.files("transept.host").joinpath("data/calibration.txt").read_text("utf-8")
    return text.splitlines()


def passages(count: int | None = None) -> list[str]:
    """Paragraphs of at least 25 words from the topics of Python's language reference.

    count: so many, evenly spread; all by default.
    """
    found: dict[str, None] = {}
    for topic in pydoc_data.topics.topics.values():
        for paragraph in re.split(r"\n\s*\n", topic):
            text = " ".join(paragraph.split())
            if len(text.split()) >= MIN_WORDS:
                found.setdefault(text)
    texts = list(found)
    return texts if count is None else texts[:: max(1, len(texts) // count)][:count]


def degenerate_texts() -> list[str]:
    """Text far from the prose that calibration sees: drawn rules, one token repeated up to the
    longest sequence, next to nothing, tables, code, other scripts, and noise. Always the same.
    """
    numbers = range(2, 60)
    generator = random.Random(1)
    rules = [character * 126 for character in "=-_*#~.+|"]
    broken_rules = ["================== ===== " * 6, "=-" * 63, "+-----" * 21, "--- " * 32]
    words = [f"{word} " * 126 for word in ("the", "a", "0", "data", "not", "i", "\U0001f600")]
    alternating = ["yes no " * 63, "0 1 " * 63, "( ) " * 63, "the end . " * 42]
    short = ["", "a", "=", "...", "42", "hello", "\U0001f600", "What?"]
    columns = "\n".join(f"{n:<10}{n * n:<10}{n % 3 == 0!s:<10}" for n in numbers)
    tables = [
        f"{'=' * 9} {'=' * 9} {'=' * 9}\n{columns}",
        "| n | square | cube |\n|---|---|---|\n"
        + "\n".join(f"| {n} | {n**2} | {n**3} |" for n in numbers),
        "".join(f"+-----+-----+\n| {n:3} | {-n:3} |\n" for n in numbers),
        ",".join(f"{n},{n / 7:.3f}" for n in numbers),
        "".join(
            f"{16 * n:08x}  {' '.join(f'{n * k & 255:02x}' for k in range(16))}\n" for n in numbers
        ),
        "│ ─ ┼ " * 21,
        " ".join(str(n) for n in numbers),
        "\n".join(f"{n}. ............ {n * 3}" for n in numbers),
    ]
    code = ["".join(line.format(n=n) for n in numbers) for line in _CODE]
    noise = [
        "".join(generator.choices(string.ascii_letters + string.digits + "+/", k=400)),
        " ".join("".join(generator.choices(string.ascii_lowercase, k=5)) for _ in range(60)),
        "".join(generator.choices(string.punctuation, k=126)),
        "".join(generator.choices("01", k=300)),
        "x" * 400,
        "A" * 90,
    ]
    return [
        *(rules + broken_rules + words + alternating + short),
        *(tables + code + list(_OTHER_SCRIPTS) + noise),
    ]


def read_passages(path: Path) -> list[str]:
    """One passage a line, empty lines left out.

    Raises
    ------
    ValueError
        If the file is missing or holds none.
    """
    if not path.is_file():
        raise ValueError(f"no file {path}")
    texts = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not texts:
        raise ValueError(f"{path} holds no passage")
    return texts
