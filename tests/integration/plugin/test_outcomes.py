"""Supervised tests come to the outcome that they should, whatever they do to their process."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from textwrap import dedent, indent

import pytest

from tests.integration.plugin.conftest import RunTests, alive

ABBA = """
    C = ctypes.PyDLL(None)  # keeps the GIL, so that nothing in Python runs any more
    mutex = ctypes.create_string_buffer(64)
    C.pthread_mutex_lock(mutex)
    C.pthread_mutex_lock(mutex)
"""
LOCK = "lock = threading.Lock()\nlock.acquire()\nlock.acquire()"
CROSSED = """
    gate = threading.Barrier(2)
    def cross(one, two):
        with one:
            gate.wait()
            two.acquire()
    a, b = threading.Lock(), threading.Lock()
    threading.Thread(target=cross, args=(a, b)).start()
    cross(b, a)
"""

C_WITHOUT_CHECK = """
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
C = ctypes.CDLL(None)
C.malloc.restype = ctypes.c_void_p
C.malloc.argtypes = [ctypes.c_size_t]
ctypes.memset(C.malloc(2 << 30) or 0, 1, 1)
"""
STUCK_SETUP = """
@pytest.fixture
def stuck():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
@pytest.mark.supervised
def test_it(stuck): pass
"""
STUCK_TEARDOWN = """
@pytest.fixture
def stuck():
    yield
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
@pytest.mark.supervised
def test_it(stuck): pass
"""
GRANDCHILD = """
if os.fork() == 0: raise RuntimeError('in the grandchild')
os.wait()
os.kill(os.getpid(), signal.SIGKILL)
"""
SHM = """
file = open(f'/dev/shm/crashcart-test-{os.getpid()}', 'wb')
file.write(bytes(4096))
file.flush()
time.sleep(0.05)
"""
PARAMETRIZED = """
@pytest.mark.supervised
@pytest.mark.parametrize(('a', 'b'), [(1, 1), (2, 3)], ids=['same', 'other'])
def test_it(a, b): assert a == b
"""
UNITTEST = """
@pytest.mark.supervised
class TestIt(unittest.TestCase):
    def setUp(self): self.word = 'a'
    def test_it(self): self.assertEqual(self.word, 'b')
    def test_skip(self): self.skipTest('no')
"""
CAPFD = r"""
@pytest.mark.supervised
def test_it(capfd):
    os.system('echo hello')
    assert capfd.readouterr().out == 'hello\n'
"""
TMP_PATH = """
@pytest.mark.supervised
@pytest.mark.parametrize('n', [1, 2])
def test_it(tmp_path, monkeypatch, n):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'x').write_text('x')
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One module of tests, the outcomes that are right for it, and what the report must say and must not."""

    name: str
    source: str
    outcomes: dict[str, int]
    says: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    junit: dict[str, list[str]] = field(default_factory=dict)


def body(text: str, mark: str = "@pytest.mark.supervised") -> str:
    """Return a module with one supervised test."""
    return f"{mark}\ndef test_it():\n{indent(dedent(text).strip(), '    ')}\n"


CASES = (
    Case("passes", body("assert True"), {"passed": 1}, hides=("crashcart report",), junit={"test_it": []}),
    Case(
        "assertion_rewriting",
        body("left = [1, 2]\nassert left == [1, 3]"),
        {"failed": 1},
        says=(
            "assert [1, 2] == [1, 3]",
            "At index 1 diff: 2 != 3",
            "FAILED test_it.py::test_it - assert [1, 2] == [1, 3]",
        ),
        junit={"test_it": ["failure"]},
    ),
    Case(
        "chained_traceback",
        body("try:\n    {}['key']\nexcept KeyError as error:\n    raise ValueError('outer') from error"),
        {"failed": 1},
        says=("KeyError: 'key'", "The above exception was the direct cause", "ValueError: outer"),
    ),
    Case(
        "skip",
        body("pytest.skip('not here')"),
        {"skipped": 1},
        says=("not here",),
        args=("-rs",),
        junit={"test_it": ["skipped"]},
    ),
    Case(
        "skip_mark",
        body("raise SystemExit", "@pytest.mark.supervised\n@pytest.mark.skip(reason='why')"),
        {"skipped": 1},
    ),
    Case("importorskip", body("pytest.importorskip('no_such_module')"), {"skipped": 1}),
    Case("xfail", body("assert False", "@pytest.mark.supervised\n@pytest.mark.xfail"), {"xfailed": 1}),
    Case("xpass", body("pass", "@pytest.mark.supervised\n@pytest.mark.xfail"), {"xpassed": 1}),
    Case(
        "xpass_strict",
        body("pass", "@pytest.mark.supervised\n@pytest.mark.xfail(strict=True)"),
        {"failed": 1},
        says=("XPASS(strict)",),
    ),
    Case(
        "xfail_crash",
        body("ctypes.string_at(0)", "@pytest.mark.supervised\n@pytest.mark.xfail(reason='known')"),
        {"xfailed": 1},
    ),
    Case(
        "xfail_raises_is_no_crash",
        body("ctypes.string_at(0)", "@pytest.mark.supervised\n@pytest.mark.xfail(raises=ValueError)"),
        {"failed": 1},
        says=("died of SIGSEGV",),
    ),
    Case(
        "segv",
        body("print('last words')\nctypes.string_at(0)"),
        {"failed": 1},
        says=(
            "its process died of SIGSEGV (in call)",
            "Fatal Python error: Segmentation fault",
            "last words",
            "crashcart report",
        ),
        junit={"test_it": ["failure"]},
    ),
    Case("abort", body("os.abort()"), {"failed": 1}, says=("died of SIGABRT", "in test_it")),
    Case("killed", body("os.kill(os.getpid(), signal.SIGKILL)"), {"failed": 1}, says=("died of SIGKILL",)),
    Case(
        "memory_limit",
        body("resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\nbytearray(2 << 30)"),
        {"failed": 1},
        says=("MemoryError", "bytearray(2 << 30)"),
    ),
    Case(
        "memory_limit_in_c",
        body(C_WITHOUT_CHECK),
        {"failed": 1},
        says=("died of SIGSEGV",),
    ),
    Case(
        "deadlock_in_c",
        body(ABBA),
        {"failed": 1},
        says=(
            "hang: deadlock (proved) (in call)",
            "waits for a lock or condition",
            "merged stacks:",
            "pthread_mutex_lock",
        ),
    ),
    Case("lock_twice", body(LOCK), {"failed": 1}, says=("hang: deadlock (proved) (in call)", "test_it (test_it.py")),
    Case("deadlock_of_threads", body(CROSSED), {"failed": 1}, says=("hang: deadlock (proved)", "cross (test_it.py")),
    Case(
        "hang_in_setup",
        STUCK_SETUP,
        {"errors": 1},
        says=("hang: deadlock (proved) (in setup)",),
        junit={"test_it": ["error"]},
    ),
    Case(
        "hang_in_teardown",
        STUCK_TEARDOWN,
        {"passed": 1, "errors": 1},
        says=("hang: deadlock (proved) (in teardown)",),
        junit={"test_it": ["error"]},
    ),
    Case(
        "hang_at_exit",
        body("lock = threading.Lock()\nlock.acquire()\natexit.register(lock.acquire)"),
        {"passed": 1, "errors": 1},
        says=("hang: deadlock (proved) (at its exit)",),
    ),
    Case(
        "thread_that_never_ends",
        body("threading.Thread(target=threading.Event().wait).start()"),
        {"passed": 1, "errors": 1},
        says=("hang: deadlock (proved) (at its exit)",),
    ),
    Case(
        "crash_at_exit",
        body("atexit.register(ctypes.string_at, 0)"),
        {"passed": 1, "errors": 1},
        says=("died of SIGSEGV (at its exit)",),
    ),
    Case(
        "silent_end",
        body("os._exit(0)"),
        {"failed": 1},
        says=("ended with exit code 0 before the test was over (in call)", "a child that said nothing has not passed"),
    ),
    Case(
        "silent_end_in_setup",
        "@pytest.fixture\ndef gone(): os._exit(0)\n@pytest.mark.supervised\ndef test_it(gone): pass\n",
        {"errors": 1},
        says=("(in setup)",),
    ),
    Case(
        "a_grandchild_has_no_say",
        body(GRANDCHILD),
        {"failed": 1},
        says=("died of SIGKILL",),
    ),
    Case("a_grandchild_that_fails_is_not_the_test", body("if os.fork() == 0: assert False\nos.wait()"), {"passed": 1}),
    Case(
        "leaked_child",
        body("subprocess.Popen(['sleep', '61234'], start_new_session=True)"),
        {"passed": 1, "errors": 1},
        says=("left behind: process", "sleep 61234 outlived the test", "ended by SIGTERM"),
        junit={"test_it": ["error"]},
    ),
    Case(
        "leaked_orphan",
        body("subprocess.run(['setsid', 'sh', '-c', 'sleep 61235 &'])"),
        {"passed": 1, "errors": 1},
        says=("sleep 61235 outlived the test",),
    ),
    Case(
        "leaked_child_reported",
        body(
            "subprocess.Popen(['sleep', '61236'], start_new_session=True)", "@pytest.mark.supervised(orphans='report')"
        ),
        {"passed": 1},
    ),
    Case(
        "leaked_shm",
        body(SHM),
        {"passed": 1, "errors": 1},
        says=("left behind: /dev/shm/crashcart-test-", "4096 bytes, removed"),
    ),
    Case(
        "leaked_shm_reported",
        body(
            SHM,
            "@pytest.mark.supervised(shm='report')",
        ),
        {"passed": 1},
    ),
    Case(
        "timeout",
        body("ctypes.PyDLL(None).sleep(60)", "@pytest.mark.supervised(timeout=2)"),
        {"failed": 1},
        says=("timeout: still running after 2 s (in call)", "merged stacks:"),
    ),
    Case(
        "limit_of_pytest_timeout",
        body("ctypes.PyDLL(None).sleep(60)", "@pytest.mark.supervised\n@pytest.mark.timeout(2)"),
        {"failed": 1},
        says=("timeout: still running after 2 s (in call)",),
    ),
    Case(
        "limit_for_all",
        body("time.sleep(60)"),
        {"failed": 1},
        says=("still running after 2 s",),
        args=("--crashcart-timeout=2",),
    ),
    Case(
        "hang_after_waiting_for_a_peer",
        body("subprocess.run(['sleep', '60'])", "@pytest.mark.supervised(hang_after=3)"),
        {"failed": 1},
        says=("hang: waiting for peer (in call)", "nothing has moved for 3 s"),
    ),
    Case(
        "hang_after_spinning",
        body("while True: pass", "@pytest.mark.supervised(hang_after=3)"),
        {"failed": 1},
        says=("hang: livelock (in call)",),
    ),
    Case("a_sleep_is_no_hang", body("time.sleep(7)", "@pytest.mark.supervised(hang_after=3)"), {"passed": 1}),
    Case(
        "a_child_that_dies_is_named",
        body("subprocess.run([sys.executable, '-c', 'import os; os.abort()'])\nos.abort()"),
        {"failed": 1},
        says=("also died:", "died of SIGABRT"),
    ),
    Case(
        "parametrized",
        PARAMETRIZED,
        {"passed": 1, "failed": 1},
        says=("test_it.py::test_it[other]",),
        junit={"test_it[same]": [], "test_it[other]": ["failure"]},
    ),
    Case(
        "unittest_case",
        UNITTEST,
        {"failed": 1, "skipped": 1},
        says=("AssertionError: 'a' != 'b'",),
    ),
    Case(
        "exit_first",
        "@pytest.mark.supervised\ndef test_one(): os.abort()\n@pytest.mark.supervised\ndef test_two(): pass\n",
        {"failed": 1},
        args=("-x",),
        says=("stopping after 1 failures",),
    ),
    Case("system_exit", body("sys.exit(0)"), {"failed": 1}, says=("SystemExit: 0",)),
    Case(
        "capture_of_a_pass_is_not_shown",
        body("print('quiet'); os.system('echo loud')"),
        {"passed": 1},
        hides=("quiet", "loud"),
    ),
    Case(
        "capture_of_a_failure",
        body("print('mine'); os.system('echo and my child'); assert False"),
        {"failed": 1},
        says=("mine", "and my child"),
    ),
    Case("no_capture", body("print('straight out')"), {"passed": 1}, says=("straight out",), args=("-s",)),
    Case(
        "capfd",
        CAPFD,
        {"passed": 1},
    ),
    Case(
        "warnings",
        body("warnings.warn('mind the gap')"),
        {"passed": 1},
        says=("UserWarning: mind the gap", "1 warning"),
    ),
    Case("warning_as_error", body("warnings.warn('mind the gap')"), {"failed": 1}, args=("-Werror",)),
    Case(
        "monkeypatch_and_tmp_path",
        TMP_PATH,
        {"passed": 2},
    ),
    Case(
        "supervise_all",
        "def test_it(): os.abort()\ndef test_next(): pass\n",
        {"failed": 1, "passed": 1},
        args=("--crashcart-supervise=all",),
        says=("SIGABRT",),
    ),
    Case(
        "supervise_off",
        body("assert os.getppid() != 1"),
        {"passed": 1},
        args=("--crashcart-supervise=off",),
        says=("supervision is off (--crashcart-supervise=off): 1 tests run unprotected",),
    ),
    Case(
        "pdb_turns_it_off",
        body("pass"),
        {"passed": 1},
        args=("--pdb",),
        says=("supervision is off (--pdb and --trace need the test in this process)",),
    ),
    Case(
        "a_supervisor_that_is_killed",
        body("os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(61237)"),
        {"errors": 1},
        says=("crashcart itself failed: the supervisor ended with -9",),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_has_its_outcome_and_a_valid_junit_file(case: Case, run_tests: RunTests) -> None:
    ran = run_tests(case.source, *case.args)
    assert ran.outcomes.items() >= case.outcomes.items(), ran.text
    assert {
        name for name in ran.outcomes if name in {"passed", "failed", "errors", "skipped", "xfailed", "xpassed"}
    } == set(case.outcomes), ran.text
    for text in case.says:
        assert text in ran.text, ran.text
    for text in case.hides:
        assert text not in ran.text, ran.text
    assert ran.cases().items() >= case.junit.items()
    assert [line for number in re.findall(r"6123\d", case.source) for line in alive(number)] == []
