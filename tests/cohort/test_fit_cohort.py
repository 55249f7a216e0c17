"""A cohort has the numbers of `fit`, does what is missing or has changed, and loses nothing of what is done."""

import copy
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

import tvb_jaxfit as tj
import tvb_jaxfit.cohort.job as job
from tvb_jaxfit.cohort.job import RESULT
from tvb_jaxfit.cohort.status import STATUS, Progress, read_status
from tvb_jaxfit.reporting.result_files import stored_summary


@pytest.fixture(scope="module")
def cohort(small_cohort, tmp_path_factory):
    """Two subjects with two recordings each."""
    folder = tmp_path_factory.mktemp("cohort")
    return tj.fit_cohort(
        small_cohort.make_simulator,
        small_cohort.subjects(2, ("a", "b")),
        small_cohort.FREE,
        folder,
        n_workers=0,
        **small_cohort.OPTIONS,
    )


@pytest.fixture(autouse=True, scope="module")
def each_fit_once():
    """A fit of the same simulator, target and parameters is made once, whatever its options: it takes seconds."""
    fit, made = job.fit, {}

    def once(sim, target, free, **options):
        key = sim.connectivity.weights.tobytes(), np.asarray(target).tobytes(), *free
        if key not in made:
            made[key] = fit(sim, target, free, **options)
        return copy.copy(made[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "fit", once)
        yield


@pytest.fixture
def fits(monkeypatch):
    """Targets of the fits that are asked for."""
    asked, fit = [], job.fit

    def counted(sim, target, free, **options):
        asked.append(np.asarray(target))
        return fit(sim, target, free, **options)

    monkeypatch.setattr(job, "fit", counted)
    return asked


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_each_fit_has_the_numbers_of_fit(cohort, small_cohort):
    label, values = "sub-01/ses-b", small_cohort.subjects(2, ("a", "b"))[3][1]
    options = {name: value for name, value in small_cohort.OPTIONS.items() if name != "evaluation"}
    sim = small_cohort.make_simulator(values)
    alone = tj.fit(sim, values["fc"], small_cohort.FREE, **options)
    loaded = cohort.load(label, small_cohort.make_simulator(values))
    for path, parameter in tj.parameters.parameters_of(alone.best).items():
        found = tj.parameters.parameters_of(loaded.best)[path].value
        assert np.asarray(found).tobytes() == np.asarray(parameter.value).tobytes()
        assert np.array_equal(cohort.values(path)[3], np.asarray(parameter.value))
    judged = alone.evaluate(
        {"ses-b": alone.target, "ses-a": small_cohort.subjects(2, ("a", "b"))[2][1]["fc"]},
        training_sessions=["ses-b"],
        n_seeds=2,
        progress=False,
    )
    row = cohort.scores.iloc[3]
    assert (row["r"], row["rmse"], row["judged_on"]) == (judged.mean("r"), judged.mean("rmse"), "held out")
    assert row["reliability"] == judged.noise_ceiling["trained on"]
    assert row["structure"] == judged.structural_baseline["held out"]


def test_tables(cohort):
    scores = cohort.scores
    assert scores["participant_id"].tolist() == ["sub-00", "sub-00", "sub-01", "sub-01"]
    assert scores["session_id"].tolist() == ["a", "b", "a", "b"]
    assert scores["status"].tolist() == ["done"] * 4
    assert scores["age"].astype(int).tolist() == [20, 20, 21, 21]
    assert np.isfinite(scores[["r", "r_training", "structure", "group", "reliability"]].to_numpy(float)).all()
    parameters = cohort.parameters
    assert len(parameters) == 4 * 6
    one = parameters[(parameters["participant_id"] == "sub-01") & (parameters["session_id"] == "a")]
    assert one[one["path"] == "model.w"]["region"].tolist() == [f"r{i}" for i in range(5)]
    np.testing.assert_array_equal(one[one["path"] == "model.w"]["value"], cohort.values("model.w")[2])
    regional = cohort.regional("model.w")
    np.testing.assert_allclose(regional["sd"], cohort.values("model.w").std(axis=0, ddof=1), rtol=1e-14)
    assert "r on fresh noise" in repr(cohort)


def test_group_baseline_is_that_of_the_other_subject(cohort, small_cohort):
    fc = [values["fc"] for _, values in small_cohort.subjects(2, ("a", "b"))]
    upper = np.triu_indices(5, 1)
    # The fit of the first recording of subject 0 is judged on the second one.
    expected = np.corrcoef(((fc[2] + fc[3]) / 2)[upper], fc[1][upper])[0, 1]
    assert cohort.scores["group"].iloc[0] == pytest.approx(expected, abs=1e-12)
    wrong = np.corrcoef(((fc[2] + fc[3]) / 2)[upper], fc[0][upper])[0, 1]
    assert abs(cohort.scores["group"].iloc[0] - wrong) > 1e-6


def test_reliability_over_sessions(cohort):
    table = cohort.reliability("session_id")
    values = cohort.values("model.w").reshape(2, 2, 5)
    expected = tj.cohort.reliability.intraclass_correlation(values)
    np.testing.assert_array_equal(table[table["path"] == "model.w"]["icc"], expected)
    with pytest.raises(ValueError, match="two values of seed"):
        cohort.reliability("seed")
    with pytest.raises(ValueError, match="give 'session_id' or 'seed'"):
        cohort.reliability("sex")


def test_the_folder_of_a_fit_is_complete(cohort):
    folder = cohort.folder / "sub-00" / "ses-a"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("values.json", "values.npz", "fc.npy", "history.csv", "fit.npz"),
        *("result.npz", "targets.npz", "status.json", "log.txt"),
    }
    assert "ReducedWongWang" in (folder / "log.txt").read_text()
    assert stored_summary(folder).evaluation is not None
    assert json.loads((folder / "status.json").read_text())["progress"] == "done"


def test_a_cohort_is_read_from_its_folder(cohort):
    found = tj.Cohort.read(cohort.folder)
    assert found.scores.astype(str).equals(cohort.scores.astype(str))
    assert found.parameters.equals(cohort.parameters)
    with pytest.raises(FileNotFoundError, match="no cohort"):
        tj.Cohort.read(cohort.folder / "sub-00")


def test_the_page_is_written(cohort, tmp_path):
    path = cohort.report(tmp_path / "cohort.html")
    text = path.read_text()
    assert all(label in text for label in ("sub-00/ses-a", "sub-01/ses-b", "model.w", "ICC(2,1)"))
    assert re.search(r"4 of 4 fits done", text)
    with pytest.raises(FileExistsError):
        cohort.report(path)


def again(cohort, small_cohort, subjects=None, free=None, **options):
    subjects = small_cohort.subjects(2, ("a", "b")) if subjects is None else subjects
    options = {"n_workers": 0} | small_cohort.OPTIONS | options
    free = small_cohort.FREE if free is None else free
    return tj.fit_cohort(small_cohort.make_simulator, subjects, free, cohort.folder, **options)


def test_a_second_call_does_nothing(cohort, small_cohort, fits):
    before = files_of(cohort.folder)
    found = again(cohort, small_cohort)
    assert fits == []
    assert files_of(cohort.folder) == before
    assert found.scores.astype(str).equals(cohort.scores.astype(str))


class TestWhatHasChanged:
    """A cohort of its own, of one subject with two recordings, in each test."""

    @pytest.fixture
    def changing(self, small_cohort, tmp_path):
        return tj.fit_cohort(
            small_cohort.make_simulator,
            small_cohort.subjects(1, ("a", "b")),
            small_cohort.FREE,
            tmp_path,
            n_workers=0,
            **small_cohort.OPTIONS,
        )

    def test_a_covariate_that_nothing_asks_for_changes_nothing(self, changing, small_cohort, fits):
        subjects = small_cohort.subjects(1, ("a", "b"))
        for _, values in subjects:
            values |= {"age": 77, "sex": "f"}
        found = again(changing, small_cohort, subjects)
        assert fits == []
        assert found.scores["sex"].tolist() == ["f", "f"]

    def test_one_target_is_fitted_again_and_the_other_fit_judged_again(self, changing, small_cohort, fits):
        subjects = small_cohort.subjects(1, ("a", "b"))
        subjects[1][1]["fc"] = small_cohort.fc(subjects[1][1]["weights"], 5)
        before = files_of(changing.folder / "sub-00" / "ses-a")
        found = again(changing, small_cohort, subjects)
        assert len(fits) == 1
        assert np.array_equal(fits[0], subjects[1][1]["fc"])
        assert found.n_done == 2
        after = files_of(changing.folder / "sub-00" / "ses-a")
        changed = {str(name) for name in before if before[name] != after[name]}
        assert "values.npz" not in changed
        assert "targets.npz" in changed

    def test_other_options_of_the_evaluation_leave_the_fits(self, changing, small_cohort, fits):
        before = changing.load("sub-00/ses-a").evaluation.rows
        again(changing, small_cohort, small_cohort.subjects(1, ("a", "b")), evaluation={"n_seeds": 1})
        assert fits == []
        assert 2 * len(changing.load("sub-00/ses-a").evaluation.rows) == len(before)

    def test_another_option_of_the_fit_makes_all_again(self, changing, small_cohort, fits):
        again(changing, small_cohort, small_cohort.subjects(1, ("a", "b")), max_evaluations=4)
        assert len(fits) == 2

    def test_a_damaged_status_makes_one_again(self, changing, small_cohort, fits):
        (changing.folder / "sub-00" / "ses-b" / STATUS).write_text("{")
        again(changing, small_cohort, small_cohort.subjects(1, ("a", "b")))
        assert len(fits) == 1

    def test_a_result_of_another_simulator_is_made_again(self, changing, small_cohort, fits):
        folder = changing.folder / "sub-00"
        (folder / "ses-a" / RESULT).write_bytes(b"no archive")
        again(changing, small_cohort, small_cohort.subjects(1, ("a", "b")), evaluation={"n_seeds": 1})
        assert len(fits) == 1

    def test_a_changed_function_makes_all_again(self, changing, small_cohort, fits):
        def make_simulator(subject):
            sim = small_cohort.make_simulator(subject)
            sim.model.I_o = np.array([0.31])
            return sim

        options = small_cohort.OPTIONS | {"n_workers": 0}
        subjects = small_cohort.subjects(1, ("a", "b"))
        tj.fit_cohort(make_simulator, subjects, small_cohort.FREE, changing.folder, **options)
        assert len(fits) == 2


def test_a_subject_that_fails_costs_nobody_else_anything(small_cohort, tmp_path, fits):
    subjects = small_cohort.subjects(3)
    subjects[0][1]["fc"] = np.full((5, 5), np.nan)
    subjects[1][1]["fc"] = np.eye(4)
    subjects.append(("poisoned", {"fc": subjects[2][1]["fc"]}))
    options = small_cohort.OPTIONS | {"n_workers": 0}
    cohort = tj.fit_cohort(small_cohort.make_simulator, subjects, small_cohort.FREE, tmp_path, **options)
    assert cohort.done == ["sub-02"]
    assert set(cohort.failures) == {"sub-00", "sub-01", "sub-poisoned"}
    assert "KeyError" in cohort.failures["sub-poisoned"]
    assert "has no 'weights'" in cohort.scores["error"].iloc[3]
    assert "has no 'weights'" in (tmp_path / "sub-poisoned" / "log.txt").read_text()
    text = cohort.report(tmp_path / "page.html").read_text()
    assert "Traceback" in text
    n_before = len(fits)
    # Mended, it is fitted; the others that fail are tried again, and what is done stays.
    subjects[3][1]["weights"] = subjects[2][1]["weights"]
    cohort = tj.fit_cohort(small_cohort.make_simulator, subjects, small_cohort.FREE, tmp_path, **options)
    assert cohort.done == ["sub-02", "sub-poisoned"]
    assert len(fits) - n_before == 3


def test_the_page_names_the_folder_of_each_seed(small_cohort, tmp_path):
    options = small_cohort.OPTIONS | {"n_workers": 0}
    subjects = small_cohort.subjects(1)
    cohort = tj.fit_cohort(small_cohort.make_simulator, subjects, small_cohort.FREE, tmp_path, seeds=(0, 1), **options)
    text = cohort.report(tmp_path / "page.html").read_text()
    assert cohort.done == ["sub-00/seed-0", "sub-00/seed-1"]
    assert all(f">{name}<" in text for name in cohort.done)


def test_parts_of_a_cohort_share_its_tables(small_cohort, tmp_path):
    subjects, options = small_cohort.subjects(2), small_cohort.OPTIONS | {"n_workers": 0}
    for part in (subjects[1:], subjects[:1]):
        found = tj.fit_cohort(small_cohort.make_simulator, part, small_cohort.FREE, tmp_path, **options)
        assert found.n_done == 1
    whole = tj.Cohort.read(tmp_path)
    assert whole.scores["participant_id"].tolist() == ["sub-00", "sub-01"]
    assert whole.scores["age"].tolist() == ["20", "21"]
    assert np.isfinite(whole.scores["group"].astype(float)).all()
    lines = (tmp_path / "scores.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["participant_id", "sub-00", "sub-01"]
    assert len((tmp_path / "parameters.tsv").read_text().splitlines()) == 1 + 2 * 6


def test_an_interrupt_keeps_what_is_done(small_cohort, tmp_path, monkeypatch):
    fit, n = job.fit, iter(range(10))

    def interrupted(*arguments, **options):
        if next(n) == 1:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    monkeypatch.setattr(job, "fit", interrupted)
    options = small_cohort.OPTIONS | {"n_workers": 0}
    cohort = tj.fit_cohort(
        small_cohort.make_simulator, small_cohort.subjects(2), small_cohort.FREE, tmp_path, **options
    )
    assert cohort.interrupted
    assert cohort.done == ["sub-00"]
    assert "interrupted" in repr(cohort)


def test_an_error_of_the_evaluation_keeps_the_fit(small_cohort, tmp_path, fits):
    subjects = small_cohort.subjects(1)
    subjects[0][1]["held_out"] = np.eye(3)
    options = small_cohort.OPTIONS | {"n_workers": 0}
    cohort = tj.fit_cohort(small_cohort.make_simulator, subjects, small_cohort.FREE, tmp_path, **options)
    status = read_status(tmp_path / "sub-00")
    assert (status.progress, status.stage) == (Progress.FAILED, "evaluation")
    subjects[0][1]["held_out"] = small_cohort.fc(subjects[0][1]["weights"], 9)
    cohort = tj.fit_cohort(small_cohort.make_simulator, subjects, small_cohort.FREE, tmp_path, **options)
    assert cohort.n_done == 1
    assert len(fits) == 1
    assert cohort.scores["judged_on"].tolist() == ["held out"]


@pytest.mark.slow
def test_seeds_and_free_parameters_of_each_subject(small_cohort, tmp_path):
    def free(subject):
        return {"coupling.a": tj.PositiveParameter()} if subject.id == "00" else {"model.w": tj.Parameter()}

    options = small_cohort.OPTIONS | {"n_workers": 0}
    cohort = tj.fit_cohort(
        small_cohort.make_simulator, small_cohort.subjects(2), free, tmp_path, seeds=(0, 1), **options
    )
    assert cohort.done == ["sub-00/seed-0", "sub-00/seed-1", "sub-01/seed-0", "sub-01/seed-1"]
    with pytest.raises(KeyError, match="no fitted 'coupling.a'; there is: coupling.a, model.w"):
        cohort.values("coupling.a")
    assert set(cohort.parameters["path"]) == {"coupling.a", "model.w"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"methd": "linear"}, TypeError, "methd"),
        ({"method": "best"}, ValueError, "method = 'best'"),
        ({"checkpoint": "file"}, ValueError, "checkpoint, resume; leave them"),
        ({"evaluation": {"progress": True}}, ValueError, "evaluation: progress"),
        ({"n_workers": -1}, ValueError, "n_workers = -1"),
        ({"seeds": ()}, ValueError, "seeds = "),
        ({"executor": 3}, ValueError, "executor = 3"),
        ({"target": 3, "held_out": 4}, ValueError, "target = 3.*held_out = 4"),
    ],
)
def test_options_are_refused_before_the_first_fit(small_cohort, tmp_path, fits, options, error, message):
    options = {"n_workers": 0, "progress": False} | options
    with pytest.raises(error, match=message):
        tj.fit_cohort(
            small_cohort.make_simulator, small_cohort.subjects(1), small_cohort.FREE, tmp_path / "new", **options
        )
    assert fits == []
    assert not (tmp_path / "new").exists()


def test_an_executor_and_a_number_of_workers_exclude_each_other(small_cohort, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with pytest.raises(ValueError, match="give one of them"), ThreadPoolExecutor(1) as executor:
        tj.fit_cohort(
            small_cohort.make_simulator,
            small_cohort.subjects(1),
            small_cohort.FREE,
            tmp_path,
            executor=executor,
            n_workers=1,
        )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(small_cohort, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="ermission"):
        tj.fit_cohort(
            small_cohort.make_simulator, small_cohort.subjects(1), small_cohort.FREE, tmp_path / "new", n_workers=0
        )
