"""Faults planted in a project in miniature: seen, hung, equivalent or overlooked."""

import importlib
import json
from dataclasses import replace

import pytest
from mutants import watch
from mutants.__main__ import BUILDER, ROOT, _cache
from mutants.campaign import Campaign, Records, Results
from mutants.equivalents import Equivalent
from mutants.mutations import MODULE
from mutants.project import Project
from mutants.testmap import batches, relevant, runs
from mutants.trial import CAUGHT, EQUIVALENT, SURVIVED
from mutants.workers import Workers
from toy_project import BUILD_SECONDS, FILES, mutant, toy_project

from transept.sim.cache import cache_dir

LAYERS = tuple(f"transept.{name}" for name in ("golden", "hls", "rtl", "bitstreams", "sim", "host"))
COUNT, CORE = "golden/count.py", "rtl/core.py"
TESTS = "tests/golden/test_count.py::test_"
SIMULATION = "tests/rtl/test_core.py::test_simulation"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return toy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def records(project, tmp_path_factory):
    found = Records(tmp_path_factory.mktemp("records"), project)
    wanted = ["elaboration", "tests/golden/test_count.py", "tests/rtl/test_core.py"]
    assert found.missing == wanted
    with Workers(project, 2) as workers:
        assert sorted(found.find(workers)) == wanted
    assert found.missing == []
    return found


def test_the_build_cache_of_this_project_is_known():
    """The tool stands before what keeps builds, and looks where they are kept."""
    assert set(Project.of(ROOT).packages) == {"transept", *LAYERS}
    assert callable(importlib.import_module(BUILDER).Recipe.make)
    assert _cache() == cache_dir()


def test_what_each_test_calls(records):
    tests = {test.name.removeprefix(TESTS): test for test in records.map().tests}
    assert f"{COUNT}::down" in tests["down"].calls
    assert f"{COUNT}::clamp" not in tests["down"].calls
    assert f"{COUNT}::square" in tests["square"].calls, "subprocesses count"
    simulated = tests[SIMULATION]
    assert simulated.accelerators == {"tiny"}
    assert not any(call.startswith(CORE) for call in simulated.calls), "made by the cache"
    assert f"{CORE}::mask" in records.map().elaboration
    assert set(records.map().texts) == {"tiny", "pynq_z2"}


def test_a_file_of_constants_is_loaded_though_nothing_of_it_is_called(records):
    seeing = {test.module for test in records.map().tests if "golden/limits.py" in test.files}
    assert seeing == {"tests/golden/test_count.py"}


def test_failing_and_slow_tests_are_left_out(records):
    assert records.failing == [TESTS + "wrong"]
    names = {test.name for test in records.map().tests}
    assert not names & {TESTS + "wrong", TESTS + "slow"}
    assert TESTS + "clamp[3-3]" in names


def test_records_last_until_a_file_changes(project, records, tmp_path):
    again = Records(records._folder, project)
    assert again.missing == []
    assert again.map() == records.map()
    path = project.root / CORE
    text = path.read_text()
    path.write_text(text + "\n")
    changed = Records(records._folder, project)
    path.write_text(text)
    assert changed.missing == ["elaboration", "tests/rtl/test_core.py"]


def test_those_that_call_the_function_come_first(project, records):
    tests = records.map()
    fault = mutant(project.root, COUNT, "return min(n, 0)")
    chosen = [test.name.removeprefix(TESTS) for test in relevant(tests, fault)]
    assert set(chosen[:2]) == {"clamp[-3-0]", "clamp[3-3]"}
    assert set(chosen[2:]) == {"down", "square", "signal"}
    outside = mutant(project.root, COUNT, "STEP = 2")
    assert outside.mutation.scope == MODULE
    assert {test.module for test in relevant(tests, outside)} == {"tests/golden/test_count.py"}
    hardware = mutant(project.root, CORE, "return (1 << width % 64) + 1")
    assert [test.module for test in relevant(tests, hardware)] == ["tests/rtl/test_core.py"]


def test_what_is_compiled_is_run_by_those_that_import_it(project, records):
    fault = mutant(project.root, COUNT, "return n - 7")
    compiled = replace(fault, mutation=replace(fault.mutation, compiled=True))
    assert {t.name for t in records.map().tests if runs(t, fault)} == set()
    assert {t.name for t in records.map().tests if runs(t, compiled)} == {TESTS + "square"}


def test_the_first_process_has_the_cheapest_tests(project, records):
    fault = mutant(project.root, COUNT, "return min(n, 0)")
    cheap, dear = relevant(records.map(), fault)[:2]
    slow = [type(test)(**(vars(test) | {"seconds": 30.0})) for test in (dear, dear, dear)]
    assert [len(batch) for batch in batches([cheap, *slow], fault)] == [1, 1, 2]


#: File, faulty line, and what becomes of it: status, why, test.
TRIALS = [
    (COUNT, "return min(n, 0)", CAUGHT, "failed", TESTS + "clamp"),
    (COUNT, "STEP = 2", CAUGHT, "failed", TESTS + "down"),
    # the subprocess of a test uses the copy
    (COUNT, "return n + n if n < 6 - 0 else n**2", CAUGHT, "failed", TESTS + "square"),
    (COUNT, "n += STEP", CAUGHT, "hung", TESTS + "down"),
    (COUNT, "return 9 if n >= 3 else 0", CAUGHT, "died", TESTS + "signal"),
    (COUNT, "LAST = (10, 20)[2]", CAUGHT, "failed", "tests/golden/test_count.py"),
    # met by what a folder of tests shares
    ("golden/limits.py", "MOST = (3, 5)[2]", CAUGHT, "failed", "import"),
    # the simulation takes longer to build than a test may
    (CORE, "return (2 << width % 64) - 1", CAUGHT, "failed", SIMULATION),
    (COUNT, "if n >= 100:", SURVIVED, "tests run: 5", ""),
    # called by no test, so left to the quick ones of its floor
    (COUNT, "return n - 7", SURVIVED, "tests run: 5", ""),
    # no accelerator of the map is made with it
    (CORE, "return width - 4", SURVIVED, "tests run: 0", ""),
    # an error is no hardware
    (CORE, "if width > 33:", SURVIVED, "tests run: 1", ""),
    (COUNT, "return n * n if n < 6 + 0 else n**2", EQUIVALENT, "the same code", ""),
    (CORE, "return (1 << width % 65) - 1", EQUIVALENT, "the same Verilog of tiny, pynq_z2", ""),
    (COUNT, "return n + 8", EQUIVALENT, "nobody asks", ""),
]
LISTED = [Equivalent(COUNT, "return n + 7", "return n + 8", "nobody asks")]


@pytest.fixture(scope="module")
def results(project, records, tmp_path_factory):
    """All trials, with little patience."""
    mutants = [mutant(project.root, file, after) for file, after, *_ in TRIALS]
    found = Results(tmp_path_factory.mktemp("results") / "results", mutants, resume=False)
    with pytest.MonkeyPatch.context() as patch, Workers(project, 2) as workers:
        patch.setattr(watch, "FACTOR", 0)
        patch.setattr(watch, "SLACK", BUILD_SECONDS - 1)
        for _ in Campaign(records.map(), LISTED, found).run(workers):
            pass
    return found


@pytest.mark.parametrize("index", range(len(TRIALS)), ids=[after for _, after, *_ in TRIALS])
def test_trials(results, index):
    verdict = results.verdicts[index]
    found = (verdict.status, verdict.why, verdict.test.split("[")[0])
    assert found == TRIALS[index][2:]


def test_what_a_fault_builds_is_thrown_away(project, results):
    texts = [path.read_text() for path in project.cache.glob("native/*/*.v")]
    assert texts == ["assign y = x & 15;"]


def test_the_source_is_as_it_was(project, results):
    assert {name: (project.root / name).read_text() for name in FILES} == FILES


def test_results_can_be_continued(project, records, tmp_path):
    path = tmp_path / "results.jsonl"
    after = ("STEP = 2", "LAST = (10, 20)[2]", "n += STEP")
    mutants = [mutant(project.root, COUNT, text) for text in after]
    results = Results(path, mutants[:2], resume=False)
    with Workers(project, 1) as workers:
        first, _ = next(Campaign(records.map(), [], results).run(workers))
    index = mutants.index(first)
    header, line = map(json.loads, path.read_text().splitlines())
    assert header["mutants"] == 2
    assert (line["index"], line["file"], line["status"]) == (index, COUNT, CAUGHT)
    assert (line["before"], line["after"]) == (first.mutation.before, first.mutation.after)
    again = Results(path, mutants[:2], resume=True)
    assert again.missing == [1 - index]
    assert again.verdicts == {index: results.verdicts[index]}
    with pytest.raises(ValueError, match="is of other mutants, or the source has changed since"):
        Results(path, mutants[1:], resume=True)
