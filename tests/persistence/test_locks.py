"""One thread or process holds a lock at a time, and a lock ends with the work on its file."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tvb_jaxfit.persistence.locks import file_lock

ROOT = Path(__file__).parents[2]
FORKS = """
import os, sys, time, warnings
from pathlib import Path
from tvb_jaxfit.persistence.locks import file_lock
warnings.simplefilter("ignore")
with file_lock(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        os.close(1)
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    {while_held}
print("done", flush=True)
sys.stdin.read()
"""


RESULT = f"it-{'0' * 32}.npz"


def _forking(path, while_held="pass"):
    command = [sys.executable, "-c", FORKS.format(while_held=while_held), str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def forked(tmp_path):
    """Function: (process that has forked another while it held the lock, pid of the other one)."""
    ended = []

    def make(*arguments):
        process = _forking(tmp_path / RESULT, *arguments)
        child = int(process.stdout.readline())
        ended.append((process, child))
        return process, child

    yield make
    for process, child in ended:
        os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()


def test_a_forked_process_does_not_keep_a_lock(tmp_path, forked):
    process, child = forked()
    assert process.stdout.readline() == "done\n"
    os.kill(child, 0)
    began = time.monotonic()
    with file_lock(tmp_path / RESULT):
        assert time.monotonic() - began < 5.0
    assert list(tmp_path.iterdir()) == []


def test_the_process_that_forked_keeps_it(tmp_path, forked):
    process, child = forked("time.sleep(1.5)")
    os.kill(child, signal.SIGTERM)
    began = time.monotonic()
    with file_lock(tmp_path / RESULT):
        assert time.monotonic() - began > 0.5


def test_a_lock_of_a_killed_process_is_free(tmp_path, forked):
    process, child = forked("time.sleep(60)")
    process.kill()
    process.wait()
    with file_lock(tmp_path / RESULT):
        pass
    assert list(tmp_path.iterdir()) == []


def test_locks_of_killed_processes_are_removed_and_those_of_living_ones_are_not(tmp_path, forked):
    theirs = tmp_path / ".theirs.npz.lock"
    theirs.touch()
    process, child = forked("time.sleep(60)")
    with file_lock(tmp_path / "other"):
        assert len(list(tmp_path.iterdir())) == 3
        with file_lock(tmp_path / "another"):
            assert (tmp_path / ".other.lock").exists()
    process.kill()
    process.wait()
    with file_lock(tmp_path / "other"):
        pass
    assert list(tmp_path.iterdir()) == [theirs]


def test_of_many_threads_one_has_it(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(20):
            with file_lock(tmp_path / "file"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(1e-4)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 160


def test_another_file_has_another_lock(tmp_path):
    with file_lock(tmp_path / "file"), file_lock(tmp_path / "other"):
        assert len(list(tmp_path.iterdir())) == 2
