"""Targets that do not fit the regions are refused with all problems; labelled ones are put into region order."""

import numpy as np
import pandas as pd
import pytest

from tvb_jaxfit.evaluation.target import match_target

LABELS = np.array(["lA", "lB", "rA", "rB"])


def _fc():
    return np.corrcoef(np.random.default_rng(0).normal(size=(4, 20)))


def test_the_diagonal_does_not_matter():
    zero = match_target(_fc(), LABELS)
    np.testing.assert_array_equal(np.diag(zero), 0.0)
    for diagonal in (1.0 - 1e-12, np.nan, 0.0):
        other = _fc()
        np.fill_diagonal(other, diagonal)
        np.testing.assert_array_equal(match_target(other, LABELS), zero)


def test_the_users_matrix_is_not_modified():
    target = _fc()
    match_target(target, LABELS)
    np.testing.assert_array_equal(target, _fc())


def test_a_labelled_target_is_put_into_region_order_with_a_warning():
    order = [2, 0, 3, 1]
    frame = pd.DataFrame(_fc(), index=LABELS, columns=LABELS).iloc[order, order]
    with pytest.warns(UserWarning, match="put into the order of connectivity.region_labels"):
        np.testing.assert_array_equal(match_target(frame, LABELS), match_target(_fc(), LABELS))


def test_a_labelled_target_in_region_order_causes_no_warning(recwarn):
    frame = pd.DataFrame(_fc(), index=LABELS, columns=LABELS)
    np.testing.assert_array_equal(match_target(frame, LABELS), match_target(_fc(), LABELS))
    np.testing.assert_array_equal(
        match_target(frame, [label.encode() for label in LABELS]), match_target(_fc(), LABELS)
    )
    assert not recwarn.list


@pytest.mark.parametrize("shape", [(3, 3), (4, 5), (16,), ()])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"target: shape .* for 4 regions; give \(4, 4\)"):
        match_target(np.zeros(shape), LABELS)


def _changed(at, value):
    target = _fc()
    target[at] = value
    return target


@pytest.mark.parametrize(
    "target,fault",
    [
        (_changed((1, 2), np.nan), r"1 values are not finite, the first at \(1, 2\)"),
        (_changed((3, 0), np.inf), r"1 values are not finite, the first at \(3, 0\)"),
        (_changed((1, 2), 0.9), r"not symmetric \(by .* at \((1, 2|2, 1)\)\); average it with its transpose"),
        (np.full((4, 4), 0.3), "all its off-diagonal values are the same"),
    ],
)
def test_unusable_values_are_refused(target, fault):
    with pytest.raises(ValueError, match=fault):
        match_target(target, LABELS)


@pytest.mark.parametrize(
    "labels,fault",
    [
        (["lA", "lB", "rA", "x"], r"missing: rB; extra: x"),
        (["lA", "lB", "rA", "rA"], r"missing: rB; repeated: rA"),
    ],
)
def test_labels_that_do_not_match_are_all_named(labels, fault):
    with pytest.raises(ValueError, match=fault):
        match_target(pd.DataFrame(_fc(), index=labels, columns=labels), LABELS)


def test_labels_too_many_or_too_few_are_named():
    labels = [*LABELS, "more"]
    with pytest.raises(ValueError, match="extra: more"):
        match_target(pd.DataFrame(np.eye(5), index=labels, columns=labels), LABELS)
    with pytest.raises(ValueError, match="missing: rB"):
        match_target(pd.DataFrame(np.eye(3), index=LABELS[:3], columns=LABELS[:3]), LABELS)


def test_rows_and_columns_of_different_order_are_refused():
    with pytest.raises(ValueError, match="row and column labels differ"):
        match_target(pd.DataFrame(_fc(), index=LABELS, columns=LABELS[::-1]), LABELS)


def test_values_beyond_correlations_are_refused():
    with pytest.raises(ValueError, match=r"values up to 2\.5.*Fisher's z"):
        match_target(_changed(([0, 1], [1, 0]), 2.5), LABELS)


def test_rounding_errors_in_the_symmetry_are_accepted():
    match_target(_changed((0, 1), _fc()[0, 1] + 1e-9), LABELS)
