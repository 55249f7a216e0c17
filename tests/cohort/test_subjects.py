"""Subjects of tables, mappings and files are read as they are, or refused with all problems at once."""

import numpy as np
import pandas as pd
import pytest

from tvb_jaxfit.cohort.recipe import content_digests
from tvb_jaxfit.cohort.subjects import ObservedSubject, Subject, read_subjects


def test_a_mapping_pairs_and_a_table_are_the_same_subjects():
    of_mapping = read_subjects({"sub-01": {"age": 30}, "02": {"age": 41}})
    of_pairs = read_subjects([("01", {"age": 30}), ("sub-02", {"age": 41})])
    of_frame = read_subjects(pd.DataFrame({"participant_id": ["sub-01", "sub-02"], "age": [30, 41]}))
    of_index = read_subjects(pd.DataFrame({"age": [30, 41]}, index=["01", "02"]))
    for found in (of_mapping, of_pairs, of_frame, of_index):
        assert [(each.id, each.session, each.values) for each in found] == [
            ("01", "", {"age": 30}),
            ("02", "", {"age": 41}),
        ]


def test_missing_cells_are_no_values(tmp_path):
    frame = pd.DataFrame({"subject": ["a", "b"], "held_out": [None, "x.csv"], "age": [np.nan, 3.0]})
    assert [each.values for each in read_subjects(frame)] == [{}, {"held_out": "x.csv", "age": 3.0}]
    path = tmp_path / "subjects.tsv"
    path.write_text("participant_id\tsession_id\tage\tname\nsub-a\tses-1\tn/a\tx\nsub-a\t2\t3\t\n")
    first, second = read_subjects(path)
    assert (first.label, first.values) == ("sub-a/ses-1", {"name": "x"})
    assert (second.label, second.values) == ("sub-a/ses-2", {"age": 3})


def test_files_of_a_table_are_relative_to_its_folder(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "fc.npz").write_bytes(b"")
    (folder / "subjects.csv").write_text("id,fc,part,label,number\n1,fc.npz,fc.npz:key,no_file,1_000\n")
    monkeypatch.chdir(tmp_path)
    (subject,) = read_subjects("data/subjects.csv")
    assert subject.values == {
        "fc": str(folder / "fc.npz"),
        "part": str(folder / "fc.npz:key"),
        "label": "no_file",
        "number": "1_000",
    }


@pytest.mark.parametrize(
    ("subjects", "message"),
    [
        (3, "int found; give a table"),
        ([3], "row 0: int found"),
        ([("a", 3)], "row 0: tuple found"),
        ([], "there are none"),
        ({"a/b": {}, "": {}}, "row 0: id 'a/b'; give letters.*row 1: id ''"),
        ([("a", {}), ("A", {})], "sub-A occurs more than once"),
        ([("a", {"session": "1"}), ("a", {"session": "ses-1"})], "sub-a/ses-1 occurs more than once"),
    ],
)
def test_other_things_are_refused(subjects, message):
    with pytest.raises(ValueError, match=message):
        read_subjects(subjects)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is empty"), ("name\tfc\nx\ty\n", "no column participant_id; there is: name, fc"), ("id\tfc\n1\n", "line 2")],
)
def test_tables_that_cannot_be_read_are_refused(tmp_path, text, message):
    (tmp_path / "subjects.tsv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_subjects(tmp_path / "subjects.tsv")


def test_a_missing_value_is_named_with_those_that_there_are():
    with pytest.raises(KeyError, match="sub-a has no 'wieghts'; it has weights, age.* Did you mean 'weights'"):
        Subject("a", "", {"weights": 1, "age": 2})["wieghts"]


def test_what_is_asked_of_a_subject_is_noted():
    subject = ObservedSubject(Subject("a", "", {"weights": 1, "age": 2}))
    assert subject["weights"] == 1
    assert subject.get("held_out") is None
    assert "sex" not in subject
    assert subject.asked == {"weights", "held_out", "sex"}
    list(subject)
    assert ObservedSubject.ALL in subject.asked


def test_digests_are_of_the_content_of_files(tmp_path):
    path = tmp_path / "fc.csv"
    path.write_text("1")
    subject = Subject("a", "", {"fc": str(path), "part": f"{path}:key", "age": 3, "weights": np.eye(2)})
    before = content_digests(subject)
    path.write_text("1")
    assert content_digests(subject) == before
    path.write_text("2")
    after = content_digests(subject)
    assert {name for name in before if before[name] != after[name]} == {"fc", "part"}
    changed = Subject("a", "", subject.values | {"weights": 2 * np.eye(2)})
    assert {name for name, digest in content_digests(changed).items() if digest != after[name]} == {"weights"}
    more = Subject("a", "", subject.values | {"sex": "f"})
    assert {name for name, digest in content_digests(more).items() if digest != after.get(name)} == {"sex", "*"}


def test_data_may_be_moved(tmp_path):
    digests = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "fc.csv"
        path.write_text("1")
        digests.append(content_digests(Subject("a", "", {"fc": str(path), "same": path})))
    assert digests[0] == digests[1]
