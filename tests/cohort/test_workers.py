"""Threads, processes and Dask give the same numbers; whatever becomes of a worker, nothing is lost or done twice."""

import contextlib
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import tvb_jaxfit as tj
from tvb_jaxfit.cohort.status import Progress, read_status
from tvb_jaxfit.runtime.workers import ProcessWorkers

# What differs from run to run.
OF_A_RUN = ["seconds", "error"]
# Options of these tests that a fit through the simulation has.
_OF_SIMULATION = ("method", "max_steps", "evaluation", "progress")


@pytest.fixture(scope="module")
def stored_fit(small_cohort, tmp_path_factory):
    """File of a fit of subject 0: making fits takes seconds, and these tests are about what becomes of them."""
    _, values = small_cohort.subjects(1)[0]
    options = {name: value for name, value in small_cohort.OPTIONS.items() if name != "evaluation"}
    result = tj.fit(small_cohort.make_simulator(values), values["fc"], small_cohort.FREE, **options)
    return result.save(tmp_path_factory.mktemp("fit") / "fit.npz", simulate_fc=False)


@pytest.fixture(scope="module")
def dask_client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


class Study:
    """A cohort whose fits come from a file, and whose simulators are made by a function that things happen to.

    Parameters
    ----------
    happens : callable
        Of a subject, called in the worker before its simulator is made.
    """

    def __init__(self, small_cohort, stored_fit, folder, happens=lambda subject: None, n=3):
        self.module, self.folder, self.calls = small_cohort, folder / "study", folder / "calls.txt"
        values, calls, make = small_cohort.subjects(1)[0][1], self.calls, small_cohort.make_simulator
        self.subjects = [(f"{number:02d}", values) for number in range(n)]

        def make_simulator(subject):
            import tvb_jaxfit.cohort.job as job
            from tvb_jaxfit import FitResult

            with calls.open("a") as file:
                file.write(f"{subject.id}\n")
            happens(subject)
            job.fit = lambda sim, target, free, **options: FitResult.load(stored_fit, sim)
            return make(subject)

        self.make_simulator = make_simulator

    def run(self, **options):
        options = self.module.OPTIONS | {"evaluation": {"n_seeds": 1}} | options
        return tj.fit_cohort(self.make_simulator, self.subjects, self.module.FREE, self.folder, **options)

    @property
    def called(self):
        """Ids of the subjects whose simulators were made, in order."""
        return self.calls.read_text().split() if self.calls.exists() else []


def once(folder, name):
    """True at the first call with a name, in whatever process."""
    try:
        (folder / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.fixture(autouse=True)
def own_fit(monkeypatch):
    """The fit that tests exchange in this process, too."""
    import tvb_jaxfit.cohort.job as job

    monkeypatch.setattr(job, "fit", job.fit)


@pytest.fixture(scope="module")
def here(small_cohort, tmp_path_factory):
    """Two fits in this process."""
    return tj.fit_cohort(
        small_cohort.make_simulator,
        small_cohort.subjects(2),
        small_cohort.FREE,
        tmp_path_factory.mktemp("here"),
        n_workers=0,
        **small_cohort.OPTIONS,
    )


def assert_same_numbers(one, other):
    assert one.done == other.done != []
    assert one.scores.drop(columns=OF_A_RUN).astype(str).equals(other.scores.drop(columns=OF_A_RUN).astype(str))
    for name in one.done:
        for file in ("values.npz", "fc.npy", "history.csv", "targets.npz"):
            assert (one.folder / name / file).read_bytes() == (other.folder / name / file).read_bytes(), (name, file)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["threads", "processes", "dask"])
def test_the_numbers_are_the_same_everywhere(kind, here, small_cohort, tmp_path, request):
    options = small_cohort.OPTIONS
    subjects = small_cohort.make_simulator, small_cohort.subjects(2), small_cohort.FREE, tmp_path
    if kind == "threads":
        with ThreadPoolExecutor(2) as executor:
            found = tj.fit_cohort(*subjects, executor=executor, **options)
    elif kind == "processes":
        found = tj.fit_cohort(*subjects, n_workers=2, **options)
    else:
        client = request.getfixturevalue("dask_client")
        found = tj.fit_cohort(*subjects, executor=client.get_executor(pure=False), **options)
    assert_same_numbers(here, found)
    # Negative control: another seed has other numbers.
    other = tj.fit_cohort(*subjects[:3], tmp_path / "other", n_workers=0, **options | {"seed": 1})
    assert not np.array_equal(other.values("model.w"), found.values("model.w"))


def kill(subject):
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["linear", "simulate"])
def test_a_simulator_that_diverges_costs_nobody_else_anything(method, small_cohort, tmp_path):
    from tvb.simulator.lab import models

    def make_simulator(subject):
        sim = small_cohort.make_simulator(subject)
        if subject.id == "00":
            sim.model = models.Linear(gamma=np.array([0.5]))
        return sim

    options = small_cohort.OPTIONS | {"method": method} | ({"max_steps": 1} if method == "simulate" else {})
    options = {name: value for name, value in options.items() if method == "linear" or name in _OF_SIMULATION}
    free = {"coupling.a": tj.Parameter()}
    cohort = tj.fit_cohort(make_simulator, small_cohort.subjects(2), free, tmp_path, n_workers=0, **options)
    assert cohort.done == ["sub-01"]
    assert list(cohort.failures) == ["sub-00"]
    assert re.search("NoStableFixedPoint|FitFailed", cohort.failures["sub-00"])


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_own_task_alone(small_cohort, stored_fit, tmp_path):
    def happens(subject):
        if subject.id == "01" and once(tmp_path, "died"):
            kill(subject)

    study = Study(small_cohort, stored_fit, tmp_path, happens)
    cohort = study.run(n_workers=1)
    assert cohort.done == ["sub-00", "sub-01", "sub-02"]
    assert sorted(study.called) == ["00", "01", "01", "02"]


@pytest.mark.slow
def test_a_subject_that_kills_every_worker_is_lost_and_the_next_call_makes_it(small_cohort, stored_fit, tmp_path):
    flag = tmp_path / "mended"

    def happens(subject):
        if subject.id == "01" and not flag.exists():
            kill(subject)

    study = Study(small_cohort, stored_fit, tmp_path, happens, n=2)
    with pytest.warns(UserWarning, match="1 fits were not completed by any worker"):
        cohort = study.run(n_workers=1)
    assert cohort.done == ["sub-00"]
    assert list(cohort.lost) == ["sub-01"]
    assert "WorkerDied" in cohort.lost["sub-01"]
    flag.touch()
    before = read_status(study.folder / "sub-00")
    assert study.run(n_workers=1).done == ["sub-00", "sub-01"]
    assert read_status(study.folder / "sub-00") == before
    assert study.called.count("00") == 1


@pytest.mark.slow
def test_dask_gives_the_task_of_a_killed_worker_to_another(small_cohort, stored_fit, tmp_path, dask_client):
    def happens(subject):
        if subject.id == "01" and once(tmp_path, "died"):
            kill(subject)

    study = Study(small_cohort, stored_fit, tmp_path, happens)
    cohort = study.run(executor=dask_client.get_executor(pure=False))
    assert cohort.done == ["sub-00", "sub-01", "sub-02"]
    # The task that waited at the killed worker may have begun there, too.
    assert study.called.count("01") == 2


@pytest.mark.slow
def test_a_scheduler_that_goes_loses_nothing(small_cohort, stored_fit, tmp_path):
    distributed = pytest.importorskip("distributed")

    def happens(subject):
        if subject.id == "01" and once(tmp_path, "waiting"):
            time.sleep(60.0)

    study = Study(small_cohort, stored_fit, tmp_path, happens)
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)
    client = distributed.Client(cluster)

    def end():
        while not (tmp_path / "waiting").exists():
            time.sleep(0.1)
        cluster.close()
        client.close()

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.warns(UserWarning, match="not completed by any worker"):
        cohort = study.run(executor=client.get_executor(pure=False))
    thread.join()
    assert cohort.done == ["sub-00"]
    assert set(cohort.lost) == {"sub-01", "sub-02"}
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as other,
        distributed.Client(other) as client,
    ):
        cohort = study.run(executor=client.get_executor(pure=False))
    assert cohort.done == ["sub-00", "sub-01", "sub-02"]
    assert study.called == ["00", "01", "01", "02"]


@pytest.mark.slow
def test_a_worker_that_is_cut_off_does_not_make_a_fit_twice(small_cohort, stored_fit, tmp_path):
    """The stopped worker holds the lock of its fit, which the scheduler gives to another worker."""
    import signal

    distributed, dask = pytest.importorskip("distributed"), pytest.importorskip("dask")

    def happens(subject):
        if subject.id == "00" and once(tmp_path, "stopped"):
            (tmp_path / "pid").write_text(str(os.getpid()))
            time.sleep(2.0)

    study = Study(small_cohort, stored_fit, tmp_path, happens)
    with dask.config.set({"distributed.scheduler.worker-ttl": "3s"}):
        cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)

    def stop_and_go_on():
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.05)
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        time.sleep(12.0)
        # Dask has ended it, or lets it go on.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=stop_and_go_on)
    thread.start()
    with cluster, distributed.Client(cluster) as client:
        cohort = study.run(executor=client.get_executor(pure=False))
        thread.join()
        time.sleep(3.0)
    assert cohort.done == ["sub-00", "sub-01", "sub-02"]
    statuses = [read_status(study.folder / f"sub-0{number}") for number in range(3)]
    assert all(status.progress is Progress.DONE for status in statuses)
    assert [study.called.count(f"0{number}") for number in (1, 2)] == [1, 1]


@pytest.mark.slow
def test_two_calls_at_the_same_time_make_each_fit_once(small_cohort, stored_fit, tmp_path):
    study = Study(small_cohort, stored_fit, tmp_path, lambda subject: time.sleep(0.3), n=4)
    found = []
    with ProcessWorkers(1) as one, ProcessWorkers(1) as other:
        threads = [
            threading.Thread(target=lambda used=used: found.append(study.run(executor=used))) for used in (one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [cohort.n_done for cohort in found] == [4, 4]
    assert sorted(study.called) == ["00", "01", "02", "03"]


@pytest.mark.slow
def test_a_full_disk_loses_nothing_that_was_complete(small_cohort, stored_fit, tmp_path):
    """The worker may write no file above a size, as on a full disk."""
    resource, full = pytest.importorskip("resource"), tmp_path / "full"

    def happens(subject):
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096 if subject.id == "01" and full.exists() else hard, hard))

    study = Study(small_cohort, stored_fit, tmp_path, happens, n=2)
    full.touch()
    with pytest.warns(UserWarning, match="File too large"):
        cohort = study.run(n_workers=1)
    assert cohort.done == ["sub-00"]
    assert {path.name for path in (study.folder / "sub-01").iterdir()} <= {".status.json.lock"}
    full.unlink()
    assert study.run(n_workers=1).done == ["sub-00", "sub-01"]
    before = {path.name: path.read_bytes() for path in (study.folder / "sub-01").iterdir()}
    full.touch()
    with pytest.warns(UserWarning, match="File too large"):
        cohort = study.run(n_workers=1, evaluation={"n_seeds": 2})
    # What was there before the disk was full is there, and complete.
    after = {path.name: path.read_bytes() for path in (study.folder / "sub-01").iterdir()}
    assert {name: after[name] for name in before} == before


@pytest.mark.slow
def test_a_fit_through_the_simulation_continues_where_it_was_killed(small_cohort, tmp_path):
    steps = tmp_path / "steps.txt"

    def callback(step, state, loss, gradients):
        with steps.open("a") as file:
            file.write(f"{step} {float(loss)!r}\n")
        if step == 13 and once(tmp_path, "died"):
            kill(None)

    options = {"method": "simulate", "max_steps": 15, "evaluation": {"n_seeds": 1}, "progress": False}
    subjects = small_cohort.make_simulator, small_cohort.subjects(1), {"coupling.a": tj.Parameter()}
    cohort = tj.fit_cohort(*subjects, tmp_path / "killed", callback=callback, n_workers=1, **options)
    found = [line.split() for line in steps.read_text().splitlines()]
    assert cohort.done == ["sub-00"]
    # Every tenth step is stored.
    steps = [int(step) for step, _ in found]
    assert steps == [*range(14), *range(steps[14], 16)]
    assert steps[14] >= 10
    whole = tj.fit_cohort(*subjects, tmp_path / "whole", n_workers=0, **options)
    assert cohort.values("coupling.a").tobytes() == whole.values("coupling.a").tobytes()
    assert (cohort.folder / "sub-00" / "history.csv").read_text() == (
        whole.folder / "sub-00" / "history.csv"
    ).read_text()
    assert not list((cohort.folder / "sub-00").glob(".checkpoint*"))


@pytest.mark.slow
def test_a_worker_with_other_settings_refuses(small_cohort, stored_fit, tmp_path):
    from tvb_jaxfit.cohort.job import OtherEnvironment, Worker
    from tvb_jaxfit.cohort.recipe import versions_and_settings

    other = versions_and_settings() | {"versions": {"jax": "0.0.1"}}
    with pytest.raises(
        OtherEnvironment, match=r"the worker on .* has .*the process that asks for the fits has .*0\.0\.1"
    ):
        Worker(None, str(tmp_path), other)(None, True)
    assert not list(Path(tmp_path).glob("sub-*"))
