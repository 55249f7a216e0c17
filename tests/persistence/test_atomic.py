"""Files are complete or unchanged whenever a writer is killed, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tvb_jaxfit.persistence import atomic as files
from tvb_jaxfit.persistence.atomic import atomic_write, atomic_write_all, recover

ROOT = Path(__file__).parents[2]
WRITER = """
import sys, time
from pathlib import Path
from tvb_jaxfit.persistence.atomic import atomic_write, atomic_write_all
folder = Path(sys.argv[1])
{work}
"""
ENDLESS = """
import itertools, numpy as np
print("ready", flush=True)
for i in itertools.count():
    with atomic_write(folder / "f.npy") as file:
        np.save(file, np.full(200_000, i))
"""
HALFWAY = """
with atomic_write(folder / "f.npy") as file:
    file.write(b"half")
    file.flush()
    print("ready", flush=True)
    time.sleep(60)
"""
HALFWAY_OF_TWO = """
with atomic_write_all(folder) as file:
    file("a").write(b"new")
    file("b").write(b"new")
    print("ready", flush=True)
    time.sleep(60)
"""
BETWEEN_TWO = """
import os
replace = os.replace
def replaced_once(*paths):
    replace(*paths)
    print("ready", flush=True)
    time.sleep(60)
os.replace = replaced_once
with atomic_write_all(folder, remove=["c"]) as file:
    file("a").write(b"new")
    file("b").write(b"new")
"""


@pytest.fixture
def writing(tmp_path):
    """Function: process that writes into a folder, started and ready."""
    running = []

    def begin(work):
        command = [sys.executable, "-c", WRITER.format(work=work), str(tmp_path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        running.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def _killed(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def _there(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_writer_leaves_whole_files_and_the_next_one_removes_the_rest(tmp_path, writing):
    random = np.random.default_rng(3)
    for _ in range(4):
        process = writing(ENDLESS)
        time.sleep(random.uniform(0.05, 0.3))
        _killed(process)
        array = np.load(tmp_path / "f.npy")
        assert np.all(array == array[0]) and len(_there(tmp_path)) <= 2
    with atomic_write(tmp_path / "other") as file:
        file.write(b"")
    assert _there(tmp_path) == ["f.npy", "other"]


def test_what_a_living_writer_writes_stays_alone(tmp_path, writing):
    process = writing(HALFWAY)
    before = _there(tmp_path)
    with atomic_write(tmp_path / "f.npy") as file:
        file.write(b"mine")
    assert len(before) == 1 and set(before) < set(_there(tmp_path))
    _killed(process)
    recover(tmp_path)
    assert _there(tmp_path) == ["f.npy"] and (tmp_path / "f.npy").read_bytes() == b"mine"


def test_also_one_in_another_thread(tmp_path):
    written, done = threading.Event(), threading.Event()

    def write():
        with atomic_write(tmp_path / "one") as file:
            file.write(b"one")
            written.set()
            done.wait(10)

    thread = threading.Thread(target=write)
    thread.start()
    written.wait(10)
    recover(tmp_path)
    with atomic_write_all(tmp_path) as file:
        file("two").write(b"two")
    done.set()
    thread.join()
    assert (tmp_path / "one").read_bytes() == b"one" and _there(tmp_path) == ["one", "two"]


def test_hidden_files_of_others_stay(tmp_path):
    others = [".f.npy", ".f.npy.0123456789abcdef0123456789abcdef", ".tvb_jaxfit", "f.tvb_jaxfit", ".f.swp"]
    (tmp_path / ".tvb_jaxfit").mkdir()
    for name in set(others) - {".tvb_jaxfit"}:
        (tmp_path / name).write_text("theirs")
    with atomic_write(tmp_path / "f.npy") as file:
        file.write(b"")
    assert _there(tmp_path) == sorted([*others, "f.npy"])


@pytest.fixture
def former(tmp_path):
    """Folder with the files of an earlier run."""
    for name in "abc":
        (tmp_path / name).write_bytes(b"old")
    return tmp_path


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_several_files_take_their_names_together(former):
    with atomic_write_all(former, remove=["b", "c", "absent"]) as file:
        file("a").write(b"new")
        file("b").write(b"new")
        assert {name: (former / name).read_bytes() for name in "abc"} == dict.fromkeys("abc", b"old")
    assert _contents(former) == {"a": b"new", "b": b"new"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_none_of_several_files_is_there_after_an_error(former, error):
    with pytest.raises(error):
        with atomic_write_all(former, remove=["c"]) as file:
            file("a").write(b"new")
            raise error
    assert _contents(former) == dict.fromkeys("abc", b"old")


def test_a_writer_of_several_that_is_killed_leaves_all_as_it_was(former, writing):
    process = writing(HALFWAY_OF_TWO)
    recover(former)
    assert len(_there(former)) == 5
    _killed(process)
    assert {name: (former / name).read_bytes() for name in "abc"} == dict.fromkeys("abc", b"old")
    recover(former)
    assert _contents(former) == dict.fromkeys("abc", b"old")


def test_one_that_is_killed_between_two_names_is_finished(former, writing):
    _killed(writing(BETWEEN_TWO))
    assert (former / "a").read_bytes() == b"new" and (former / "b").read_bytes() == b"old"
    recover(former)
    assert _contents(former) == {"a": b"new", "b": b"new"}
    recover(former)
    assert _contents(former) == {"a": b"new", "b": b"new"}


def test_where_there_are_no_locks_files_are_written_and_nothing_is_removed(former, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    (former / ".f.0.tvb_jaxfit").write_bytes(b"")
    with atomic_write(former / "a") as file:
        file.write(b"new")
    with atomic_write_all(former) as file:
        file("b").write(b"new")
    assert _contents(former) == {"a": b"new", "b": b"new", "c": b"old", ".f.0.tvb_jaxfit": b""}


def test_a_long_name_has_room(tmp_path):
    with atomic_write(tmp_path / ("n" * 250)) as file:
        file.write(b"")
    assert [len(os.fsencode(name)) for name in _there(tmp_path)] == [250]
