"""The baseline of a group is the correlation of other subjects' mean FC with each target, and never one with itself."""

import re

import numpy as np
import pandas as pd
import pytest

from tvb_jaxfit.evaluation.group import group_baselines
from tvb_jaxfit.evaluation.sessions import named_targets

N_NODE = 6
LABELS = np.array(["lA", "lB", "lC", "rA", "rB", "rC"])
OFF = ~np.eye(N_NODE, dtype=bool)


def _fc(seed):
    random = np.random.default_rng(seed)
    return np.corrcoef(random.normal(size=(N_NODE, 40)) + np.random.default_rng(7).normal(size=40))


TARGET, MEMBERS = _fc(0), [_fc(seed) for seed in (1, 2, 3)]
ONE = named_targets(TARGET, LABELS)
EXPECTED = np.corrcoef(np.mean(MEMBERS, axis=0)[OFF], TARGET[OFF])[0, 1]
ORDER = [4, 2, 5, 0, 3, 1]


def _labelled(fc):
    return pd.DataFrame(fc[np.ix_(ORDER, ORDER)], LABELS[ORDER], LABELS[ORDER])


def _written(path, fc):
    np.save(path, fc)
    return path


FORMS = {
    "their mean": lambda _: np.mean(MEMBERS, axis=0),
    "an array of matrices": lambda _: np.array(MEMBERS),
    "a list of matrices": lambda _: MEMBERS,
    "a dict": lambda _: dict(zip("abc", MEMBERS, strict=True)),
    "labelled, in another order": lambda _: [_labelled(fc) for fc in MEMBERS],
    "a file with their mean": lambda folder: _written(folder / "fc.npy", np.mean(MEMBERS, axis=0)),
    "a file with all": lambda folder: str(_written(folder / "fc.npy", np.array(MEMBERS))),
    "a file of each": lambda folder: [_written(folder / f"{i}.npy", fc) for i, fc in enumerate(MEMBERS)],
}


@pytest.mark.filterwarnings("ignore:.*put into the order")
@pytest.mark.parametrize("form", FORMS)
def test_a_group_in_every_form_gives_the_correlation_of_its_mean(tmp_path, form):
    found = group_baselines(FORMS[form](tmp_path), ONE, LABELS)
    assert found == {"target": pytest.approx(EXPECTED, rel=1e-12)}
    # Negative control: one of them alone has another correlation.
    assert abs(group_baselines(MEMBERS[:1], ONE, LABELS)["target"] - EXPECTED) > 1e-3


def test_the_order_of_a_labelled_group_is_told_by_name():
    with pytest.warns(UserWarning, match="^group, subject 0: rows and columns were put into the order"):
        group_baselines([_labelled(MEMBERS[0])], ONE, LABELS)


def test_every_target_has_a_baseline():
    targets = named_targets({"one": TARGET, "two": _fc(5)}, LABELS, training_sessions="one")
    found = group_baselines(MEMBERS, targets, LABELS)
    assert list(found) == ["one", "two", "mean", "trained on", "held out"]
    assert found["trained on"] == found["one"] == pytest.approx(EXPECTED) and found["held out"] == found["two"]
    assert found["one"] != found["two"]


@pytest.mark.parametrize("disguise", [lambda fc: fc, lambda fc: fc.round(3), lambda fc: fc.astype("float32")])
def test_the_target_itself_is_left_out_of_the_group_and_named(disguise):
    with pytest.warns(UserWarning, match=r"^group: left out.*: 'me' \('target'\)\.$"):
        found = group_baselines(dict(zip("abc", MEMBERS, strict=True)) | {"me": disguise(TARGET)}, ONE, LABELS)
    assert found["target"] == pytest.approx(EXPECTED, rel=1e-12)


@pytest.mark.filterwarnings("ignore:.*put into the order")
def test_the_target_alone_is_no_group():
    for given in (TARGET, [TARGET], {"me": TARGET}, _labelled(TARGET)):
        with pytest.raises(ValueError, match=r"^group.*the FC of 'target' itself.* Give the FC of other subjects\.$"):
            group_baselines(given, ONE, LABELS)


def test_the_mean_of_all_sessions_is_a_target_too():
    sessions = {"one": TARGET, "two": _fc(5)}
    with pytest.raises(ValueError, match="the FC of 'mean' itself"):
        group_baselines((TARGET + _fc(5)) / 2, named_targets(sessions, LABELS), LABELS)


def test_a_similar_fc_is_another_subject():
    """Negative control of the search for the target: a difference of one percent is no rounding."""
    near = TARGET + 0.01 * OFF
    assert group_baselines(near, ONE, LABELS)["target"] == pytest.approx(1.0)


def test_pairs_without_data_are_refused_or_left_out_as_in_targets():
    gappy = TARGET.copy()
    gappy[0, 1] = gappy[1, 0] = np.nan
    targets = named_targets(gappy, LABELS, missing="ignore")
    other = MEMBERS[0].copy()
    other[2, 3] = other[3, 2] = np.nan
    with pytest.raises(ValueError, match='^group, subject 0: 2 values are not finite.*missing="ignore"'):
        group_baselines([other, MEMBERS[1]], targets, LABELS)
    mean = (MEMBERS[0] + MEMBERS[1]) / 2
    mean[2, 3] = mean[3, 2] = MEMBERS[1][2, 3]
    known = OFF & ~np.isnan(gappy)
    found = group_baselines([other, MEMBERS[1]], targets, LABELS, "ignore")
    assert found["target"] == pytest.approx(np.corrcoef(mean[known], gappy[known])[0, 1], rel=1e-12)
    alone = group_baselines(other, targets, LABELS, "ignore")
    known &= ~np.isnan(other)
    assert alone["target"] == pytest.approx(np.corrcoef(other[known], gappy[known])[0, 1], rel=1e-12)


@pytest.mark.parametrize(
    "given,message",
    [
        (np.eye(5), r"group: shape (5, 5) for 6 regions"),
        ([MEMBERS[0], np.eye(5)], r"group, subject 1: shape (5, 5) for 6 regions"),
        ([], "group: shape (0,) for 6 regions"),
        ({}, "group: no FC"),
        (3, "group: shape () for 6 regions"),
        (MEMBERS[0] * 3, "group: "),
        (pd.DataFrame(MEMBERS[0], list("abcdef"), list("abcdef")), "group: labels do not match"),
    ],
)
def test_another_group_is_refused_by_name(given, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        group_baselines(given, ONE, LABELS)
