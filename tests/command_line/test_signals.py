"""SIGTERM, SIGINT and SIGKILL leave results or a checkpoint, from which a fit is resumed bit for bit."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tvb_jaxfit
from tests.command_line.conftest import N_NODE
from tvb_jaxfit.command import fit as command
from tvb_jaxfit.command.folder import read_summary
from tvb_jaxfit.command.main import main
from tvb_jaxfit.command.signals import interruptible
from tvb_jaxfit.fitting.linear import fit as linear_fit

SIMULATOR = (
    *("--speed", "inf", "--dt", "4", "--nsig", "1e-5", "--bold-period", "500", "--simulation-length", "26000"),
    *("--set", "coupling.a=0.05"),
)
FREE = ("--free", "coupling.a", "--free", "model.w:regional:0:1")


def _arguments(files, out, *more):
    made = ("--connectivity", files.connectome, *SIMULATOR, "--fc", files.fc, *FREE, "--quiet", "--out", str(out))
    return ["fit", *made, "--method", "simulate", *more]


def _values(folder):
    with np.load(folder / "values.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture
def without_a_page(monkeypatch):
    """Replace the report, which takes longer than the rest and is tested elsewhere."""
    monkeypatch.setattr(command, "write_report", lambda path, *_, **__: path)


def test_sigterm_writes_what_was_reached_and_the_resumed_fit_has_the_same_end(
    files, tmp_path, monkeypatch, without_a_page
):
    def end(step, state, loss, gradients):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    real, handler, steps = command.fit, signal.getsignal(signal.SIGTERM), ("--steps", "4")
    with monkeypatch.context() as patch:
        patch.setattr(command, "fit", lambda *a, run, **options: real(*a, run=replace(run, callback=end), **options))
        assert main(_arguments(files, tmp_path / "out", *steps)) == 143
    assert signal.getsignal(signal.SIGTERM) is handler
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"values.npz", "history.csv", "fit.npz", "fc.npy"}
    assert str(read_summary(tmp_path / "out").stages["Simulation"].stop_reason) == "interrupted after 3 evaluations"
    assert main(_arguments(files, tmp_path / "out", *steps, "--resume")) == 0
    assert main(_arguments(files, tmp_path / "whole", *steps)) == 0
    for path, values in _values(tmp_path / "whole").items():
        np.testing.assert_array_equal(_values(tmp_path / "out")[path], values)
    assert (tmp_path / "out" / "history.csv").read_bytes() == (tmp_path / "whole" / "history.csv").read_bytes()


@pytest.mark.slow
def test_sigterm_in_the_sweep_of_a_linear_fit_writes_its_best_point(files, tmp_path, monkeypatch, without_a_page):
    """An interrupted sweep keeps its best start."""
    real, evaluations = linear_fit.Objective._result, []

    def counted(self, *arguments):
        evaluations.append(real(self, *arguments))
        if len(evaluations) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluations[-1]

    monkeypatch.setattr(linear_fit.Objective, "_result", counted)
    assert main(_arguments(files, tmp_path / "out", "--method", "linear")) == 143
    (history,) = read_summary(tmp_path / "out").stages.values()
    assert str(history.stop_reason).startswith("interrupted in the sweep of starts; linear response: r ")
    best = min((seen for seen, *_ in evaluations[:5] if seen.is_stable), key=lambda seen: seen.value)
    assert history.loss[-1] == best.loss
    assert _values(tmp_path / "out")["model.w"].shape == (N_NODE,)


ROOT = Path(tvb_jaxfit.__file__).parents[1]


@pytest.fixture(autouse=True)
def default_handler():
    """Default handler of SIGINT, as at a terminal: a shell lets processes in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _process(code, **options):
    """A Python process that prints when it is ready."""
    started = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    assert started.stdout.readline() == "ready\n"
    return started


def _cpu_time(pid):
    """Processor time of a process [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


IN_C = """
import hashlib
from tvb_jaxfit.command.signals import interruptible

with interruptible():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


@pytest.mark.parametrize("first,second", list(itertools.product([signal.SIGTERM, signal.SIGINT], repeat=2)))
def test_a_second_signal_ends_at_once_while_compiled_code_runs(first, second):
    started = _process(IN_C)
    began = _cpu_time(started.pid)
    # Wait until it runs the compiled code.
    while _cpu_time(started.pid) - began < 0.1:
        time.sleep(0.01)
    try:
        started.send_signal(first)
        assert started.stderr.readline() == "\n"
        told = f"tvb-jaxfit: {first.name}: what was reached is written; a second signal ends at once\n"
        assert started.stderr.readline() == told
        assert started.poll() is None
        started.send_signal(second)
        assert started.wait(timeout=20) == 128 + second
    finally:
        started.kill()
        started.stdout.close(), started.stderr.close()


DROPPED = """
import gc, os, signal, time
from tvb_jaxfit.command.signals import interruptible

def collected(phase, info):
    gc.callbacks.clear()
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass

with interruptible() as received:
    print("ready", flush=True)
    try:
        gc.callbacks.append(collected)
        gc.collect()
        time.sleep(10)
        print("dropped")
    except KeyboardInterrupt:
        print(received.exit_code(130))
"""


def test_an_interrupt_that_python_drops_is_raised_again():
    started = _process(DROPPED)
    out, error = started.communicate(timeout=20)
    assert out == "143\n" and started.returncode == 0 and "Exception ignored" not in error


def test_ignored_signals_other_threads_and_other_handlers_are_unchanged():
    def elsewhere():
        with interruptible() as received:
            handlers.append((signal.getsignal(signal.SIGTERM), received.number))

    before, handlers = signal.getsignal(signal.SIGTERM), []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [(before, None)]
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with interruptible():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not before
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert signal.getsignal(signal.SIGTERM) is before and signal.set_wakeup_fd(-1) == -1


STEPS = ("--steps", "30", "--learning-rate", "0.02", "--evaluate", "2")


def _begun(files, out, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "tvb_jaxfit", *_arguments(files, out, *STEPS, *more)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def undisturbed(files, tmp_path_factory):
    """Folder and duration [s] of a fit without a signal."""
    folder, began = tmp_path_factory.mktemp("undisturbed") / "out", time.perf_counter()
    process = _begun(files, folder)
    _, error = process.communicate(timeout=900)
    assert process.returncode == 0, error
    return folder, time.perf_counter() - began


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("seed", range(4))
def test_signals_at_random_times_leave_results_or_a_checkpoint(files, undisturbed, tmp_path, number, seed):
    (whole, duration), out = undisturbed, tmp_path / "out"
    process = _begun(files, out)
    time.sleep(duration * np.random.default_rng([seed, number]).uniform(0.1, 1.0))
    process.send_signal(number)
    _, error = process.communicate(timeout=900)
    # The signal came before Python had set a handler, or after the end of the fit.
    assert process.returncode in (128 + number, -number, 0), error
    # After the end of the fit, it may interrupt what JAX does at the exit of Python.
    assert "Traceback" not in error.partition("Exception ignored in atexit callback")[0]
    has_checkpoint, has_results = (out / "checkpoint.npz").exists(), (out / "fit.npz").exists()
    if process.returncode == 128 + number and has_checkpoint:
        assert has_results
    if has_results:
        assert read_summary(out).stages and set(_values(out)) == {"coupling.a", "model.w"}
    if process.returncode != 0:
        again = _begun(files, out, *(["--resume"] if has_checkpoint else ["--force"]))
        _, error = again.communicate(timeout=900)
        assert again.returncode == 0, error
    for path, values in _values(whole).items():
        np.testing.assert_array_equal(_values(out)[path], values)
    assert (out / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
