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
from tests.uncertainty.conftest import errors_of
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
    assert len(parameters) == 4 * 6 and "standard_error" not in parameters and "n_determined" not in scores
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
    assert re.search(r"4 of 4 fits done", text) and "Determined by FC" not in text
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


def subjects_of(small_cohort, *lengths):
    """One recording of each length; without one, a subject has none."""
    subjects = small_cohort.subjects(len(lengths))
    for (_, values), length in zip(subjects, lengths, strict=True):
        values |= {} if length is None else {"recording_length": length}
    return subjects


def made(small_cohort, folder, subjects, **options):
    options = small_cohort.OPTIONS | {"evaluation": {"n_seeds": 1}, "n_workers": 0} | options
    return tj.fit_cohort(small_cohort.make_simulator, subjects, small_cohort.FREE, folder, **options)


@pytest.fixture(scope="module")
def uncertain(small_cohort, tmp_path_factory):
    """Two subjects with standard errors: the recording of the second is too short."""
    subjects = subjects_of(small_cohort, 60_000_000.0, 600.0)
    return made(small_cohort, tmp_path_factory.mktemp("uncertain"), subjects, standard_errors=True)


@pytest.mark.slow
def test_standard_errors_are_those_of_the_fit(uncertain, small_cohort):
    subject = subjects_of(small_cohort, 60_000_000.0)[0][1]
    fit = uncertain.load("sub-00", small_cohort.make_simulator(subject))
    record = fit.standard_errors
    assert record.length == 60_000_000.0 and record.n_determined > 1
    assert repr(fit.identifiability(60_000_000.0).record) == repr(record)
    for path, errors in record.standard_error.items():
        np.testing.assert_array_equal(uncertain.standard_errors(path)[0].ravel(), errors)
        np.testing.assert_array_equal(uncertain.determined(path)[0].ravel(), record.is_determined[path])
    parameters = uncertain.parameters
    rows = parameters[(parameters["participant_id"] == "sub-00") & (parameters["path"] == "model.w")]
    np.testing.assert_array_equal(rows["standard_error"], record.standard_error["model.w"])
    assert rows["determined"].tolist() == record.is_determined["model.w"].tolist()
    assert uncertain.scores["n_determined"].iloc[0] == record.n_determined


@pytest.mark.slow
def test_a_subject_that_has_no_standard_errors_is_not_failed_by_it(uncertain):
    assert uncertain.n_done == 2 and not uncertain.failures
    log = (uncertain.folder / "sub-01" / "log.txt").read_text()
    assert "no standard errors: identifiability: length: 600 ms are 1 samples" in log
    for path in ("model.w", "coupling.a"):
        assert np.isnan(uncertain.standard_errors(path)[1]).all() and np.isnan(uncertain.determined(path)[1]).all()
    rows = uncertain.parameters[uncertain.parameters["participant_id"] == "sub-01"]
    assert rows["standard_error"].isna().all() and rows["determined"].tolist() == [None] * 6
    assert uncertain.load("sub-01").standard_errors is None and np.isnan(uncertain.scores["n_determined"].iloc[1])
    # The share is that of the fits of which it is known.
    np.testing.assert_array_equal(uncertain.regional("model.w")["determined"], uncertain.determined("model.w")[0])
    assert (uncertain.folder / "parameters.tsv").read_text().splitlines()[-1].endswith("n/a\tn/a")


@pytest.mark.slow
def test_the_page_has_what_is_determined(uncertain, tmp_path):
    text = uncertain.report(tmp_path / "cohort.html").read_text()
    for said in ("Determined by FC", "(median over 1 fits", "Fits without standard errors", "median standard error"):
        assert said in text
    assert "Share of the fits in which FC determines the value of each region." in text
    assert "less than half of the fits are faint" in text


@pytest.fixture
def lengths(monkeypatch):
    """Lengths that standard errors are asked for, which are made up."""
    asked = []

    def identifiability(self, length):
        asked.append(length)
        values = {"coupling.a": self.best.coupling.a.value, "model.w": np.asarray(self.best.model.w.value)}
        errors = {path: np.full(np.size(each), 0.01) for path, each in values.items()}
        prior = {path: np.full(np.size(each), 0.3) for path, each in values.items()}
        self.standard_errors = errors_of(values, errors, prior, n_regions=5)
        return self.standard_errors

    monkeypatch.setattr(tj.FitResult, "identifiability", identifiability)
    return asked


def test_what_has_changed_is_computed_again_and_no_fit(small_cohort, tmp_path, lengths, monkeypatch):
    def call(*of_subjects, **options):
        lengths.clear()
        return made(small_cohort, tmp_path, subjects_of(small_cohort, *of_subjects), **options)

    assert not call(200_000.0, None).has_standard_errors and lengths == []
    # The fits are there; another one would raise this.
    monkeypatch.setattr(job, "fit", lambda *_, **__: pytest.fail("no fit has changed"))
    found = call(200_000.0, None, standard_errors=True)
    assert lengths == [200_000.0, None] and found.determined("model.w").all()
    call(200_000.0, None, standard_errors=True)
    assert lengths == []
    call(200_000.0, 300_000.0, standard_errors=True)
    assert lengths == [300_000.0]
    call(200_000.0, 300_000.0, standard_errors=lambda subject: 1e3 * subject["age"])
    assert lengths == [20_000.0, 21_000.0]
    found = call(200_000.0, 300_000.0)
    assert lengths == [] and not found.has_standard_errors and found.load("sub-00").standard_errors is None
    assert "standard_error" not in found.parameters


def test_an_error_of_the_function_of_the_length_is_the_subjects(small_cohort, tmp_path, lengths):
    def length_of(subject):
        return subject["repetition_time"]

    found = made(small_cohort, tmp_path, subjects_of(small_cohort, None), standard_errors=length_of)
    assert list(found.failures) == ["sub-00"] and "has no 'repetition_time'" in found.failures["sub-00"]
    assert read_status(tmp_path / "sub-00").stage == "standard errors" and lengths == []


def test_standard_errors_of_another_kind_are_refused(small_cohort, tmp_path):
    with pytest.raises(ValueError, match="standard_errors = 600.0; give True or False, or a function"):
        made(small_cohort, tmp_path, subjects_of(small_cohort, None), standard_errors=600.0)
