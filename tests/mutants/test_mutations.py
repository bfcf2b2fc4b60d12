"""Faults of a text: which there are, which lines are left alone, where they stand."""

import pytest
from mutants.mutations import MODULE, mutations, same_code


def after(text):
    """The lines that the faults make, of all kinds."""
    return {fault.after for fault in mutations(text)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a < b", {"a <= b", "a >= b"}),
        ("a == b", {"a != b"}),
        ("0 <= a < b", {"0 < a < b", "0 > a < b", "0 <= a <= b", "0 <= a >= b", "1 <= a < b"}),
        ("a is None", {"a is not None"}),
        ("a not in b", {"a in b"}),
        ("a + 2", {"a - 2", "a + 3", "a + 1"}),
        ("(a) << (b)", {"(a) >> (b)"}),
        ("a // b % c", {"a * b % c", "a // b // c"}),
        ("'text' + a", set()),
        ("a * [b]", set()),
        ("x = 0x0F", {"x = 0x10", "x = 0xe"}),
        ("x = -1", {"x = (1)", "x = -2", "x = -0"}),
        ("x = True", {"x = False"}),
        ("x = 0.5", {"x = 1.0"}),
        ("a and b", {"a or b"}),
        ("not (a or b)", {"(a or b)", "not (a and b)"}),
        ("~a", {"(a)"}),
        ("a if b else c", {"a if (not (b)) else c"}),
        ("f(a, b)", {"f(b, a)", "pass"}),
        ("f(a, x=b, y=c)", {"f(a, x=c, y=b)", "pass"}),
        ("f(m, a)", {"pass"}),
        ("f(a, *b)", {"pass"}),
        ("min(a, b)", {"max(a, b)", "pass"}),
        ("x.any()", {"x.all()", "pass"}),
        ("a[b:]", {"a[(b) - 1:]", "a[:b]"}),
        ("a[1:b]", {"a[2:b]", "a[0:b]", "a[1:(b) - 1]"}),
        ("y = x.as_signed()", {"y = x"}),
        ("y = signed(n)", {"y = signed((n) - 1)"}),
        ("y = Out(3)", {"y = Out(2)"}),
        ("y = StructLayout({'a': 2})", {"y = StructLayout({'a': 1})"}),
        ("y = f({'a': 2})", {"y = f({'a': 3})", "y = f({'a': 1})"}),
        ("y = signed(8)", {"y = signed(7)"}),
        ("Const(1, 8)", {"Const(2, 8)", "Const(0, 8)", "Const(8, 1)", "Const(1, 7)", "pass"}),
        ("a += b", {"a -= b", "pass"}),
        ("m.d.sync += a", {"pass"}),
        ("m.d.comb += [a, b]", {"pass", "m.d.comb += [b]", "m.d.comb += [a]"}),
        ("with m.If(a): f()", {"with m.If((a) == 0): f()", "pass", "with m.If(a): pass"}),
        ("self.a = f()", {"pass"}),
        ("self._a = a", set()),
        ("a = f()", set()),
        ("raise ValueError(a + 1)", {"pass"}),
        ("for x in y: continue", {"for x in y: break", "for x in y: pass"}),
    ],
)  # fmt: skip
def test_faults_of_a_line(line, expected):
    assert after(line) == expected - ({"pass"} if line.startswith("with") else set())


@pytest.mark.parametrize(
    "line",
    [
        '"""1 < 2"""',
        "__all__ = [1]",
        "x: Array[3]",
        "def f(x: A | B) -> list[4]: ...",
        "@cache(3)\nclass A(B | C): ...",
        "console.print(a + 1)",
        "table.add_row(a < b)",
        'x = f"{a + 1}"',
        "assert a < b",
        "def __repr__(self): return a + 1",
        "if TYPE_CHECKING: f(1)",
        "y = f(a, strict=True, reset_less=True, help=3 * b)",
    ],
)
def test_lines_left_alone(line):
    assert after(line) == set()


SAMPLE = '''\
LIMIT = 3


class Counter:
    """Counts."""

    start: int = 4

    def count(self, n):
        if n > LIMIT:
            raise ValueError(f"{n} exceeds {LIMIT}")

        def inner(é):
            return "é" + é, é - 1  # - 2

        return inner(
            n  # first
            + self.start
        )
'''


def test_every_fault_is_one_edit_that_compiles():
    faults = mutations(SAMPLE)
    texts = [fault.apply(SAMPLE) for fault in faults]
    assert len({*texts, SAMPLE}) == len(texts) + 1
    for fault, text in zip(faults, texts, strict=True):
        compile(text, "sample", "exec")
        same = [a == b for a, b in zip(SAMPLE.split("\n"), text.split("\n"), strict=False)]
        assert same.index(False) + 1 == fault.line


def test_faults_know_where_they_stand():
    scopes = {(fault.after, fault.scope) for fault in mutations(SAMPLE)}
    assert ("LIMIT = 4", MODULE) in scopes
    assert ("start: int = 5", MODULE) in scopes
    assert ("if n >= LIMIT:", "Counter.count") in scopes
    assert ('return "é" + é, é + 1 # - 2', "Counter.count.<locals>.inner") in scopes
    assert ("- self.start", "Counter.count") in scopes


def test_errors_and_their_conditions_are_guards():
    guards = {fault.after for fault in mutations(SAMPLE) if fault.guard}
    assert guards == {"if n >= LIMIT:", "if n <= LIMIT:", "pass"}
    text = "if a:\n    raise b"
    guards = {fault.after for fault in mutations(text) if fault.guard}
    assert guards == {"if (not (a)):", "pass"}
    text = "if a:\n    b.c = 3\n    raise d"
    assert [fault.before for fault in mutations(text) if fault.guard] == ["raise d"]


def test_what_is_compiled_for_another_machine_is_known():
    text = (
        "@triton.jit\ndef f():\n    x = 3\n    def h():\n        z = 3\n@cache\ndef g():\n    y = 3"
    )
    assert {fault.before for fault in mutations(text) if fault.compiled} == {"x = 3", "z = 3"}


def test_same_code():
    assert same_code("x = 6 - 0", "x = 6 + 0  # other")
    assert same_code("def f():\n    return 1", "\ndef f():\n\n    return 1")
    assert not same_code("x = 6 - 0", "x = 6 - 1")
    assert not same_code("def f(a): return a < 1", "def f(a): return a <= 1")
    assert not same_code("x = 1", "x = True")
    assert not same_code("def f(a=1): ...", "def f(a=2): ...")
