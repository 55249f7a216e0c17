"""A target that is no FC is refused with its probable kind and a conversion, and the converted target is accepted."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest

import tvb_jaxfit as tj
from tvb_jaxfit.checks import fc as fc_check
from tvb_jaxfit.evaluation.sessions import named_targets
from tvb_jaxfit.evaluation.target import match_target

N_NODE, N_TIME = 8, 300
LABELS = [f"region {i}" for i in range(N_NODE)]


def _signals(seed=0, n_node=N_NODE):
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(N_TIME, n_node)) @ (np.eye(n_node) + 0.3 * random.normal(size=(n_node, n_node)))
    return (mixed + 0.7 * random.normal(size=(N_TIME, 1))) * random.uniform(0.5, 3.0, n_node)


X = _signals()
R = np.corrcoef(X, rowvar=False)
COVARIANCE = np.cov(X, rowvar=False)


def _with_diagonal(fc, value):
    fc = np.array(fc, float)
    np.fill_diagonal(fc, value)
    return fc


def _p_values():
    from scipy.stats import pearsonr

    return np.array([[pearsonr(a, b).pvalue * (a is not b) for a in X.T] for b in X.T])


Z = np.arctanh(_with_diagonal(R, 0.0))
# Given matrix, message, and the FC that is meant.
NO_FC = {
    "percent": (100.0 * R, "in percent; give fc / 100", R),
    "percent without a diagonal": (100.0 * _with_diagonal(R, 0.0), "in percent; give fc / 100", R),
    "Fisher's z, infinite diagonal": (_with_diagonal(Z, np.inf), "Fisher's z; give np.tanh(fc)", R),
    "Fisher's z, diagonal of 8": (_with_diagonal(Z, 8.0), "Fisher's z; give np.tanh(fc)", R),
    "Fisher's z, diagonal cut at 0.999": (_with_diagonal(Z, 3.8), "Fisher's z; give np.tanh(fc)", R),
    "Fisher's z, diagonal of 0": (2.5 * Z, "Fisher's z; give np.tanh(fc)", np.tanh(2.5 * Z)),
    "covariance": (COVARIANCE, "a covariance; give d = np.sqrt(np.diag(fc)); fc / np.outer(d, d)", R),
    "small covariance": (COVARIANCE / 50.0, "a covariance; give d = np.sqrt(np.diag(fc)); fc / np.outer(d, d)", R),
    "products": (N_TIME * R, "a covariance; give d = np.sqrt(np.diag(fc)); fc / np.outer(d, d)", R),
    "tangent": (R - np.diag(np.linspace(1.1, 1.6, N_NODE)), 'kind="correlation"', None),
    "distance": (1.0 - R, "a distance 1 - r; give 1 - fc", R),
    "lengths": (400.0 * (1.0 - R), "lengths or weights of a connectome", None),
    "partial correlations": (_with_diagonal(R, -1.0), "partial correlations", None),
    "upper triangle": (np.triu(R), "one triangle alone has values; give np.triu(fc, 1) + np.triu(fc, 1).T", R),
    "lower triangle": (np.tril(R, -1), "one triangle alone has values; give np.tril(fc, -1) + np.tril(fc, -1).T", R),
    "upper triangle and NaN": (
        np.where(np.tri(N_NODE, k=-1) > 0, np.nan, R),
        "one triangle alone has values; give np.triu(fc, 1) + np.triu(fc, 1).T",
        R,
    ),
    "time series": (X, "a time series of 300 samples; give its FC, np.corrcoef(x, rowvar=False)", R),
    "time series, regions first": (X.T, "a time series of 300 samples; give its FC, np.corrcoef(x)", R),
    "as many samples as regions": (X[:N_NODE], "a time series of as many samples as regions", None),
    "vector": (R[np.triu_indices(N_NODE, 1)], "one triangle of an FC", R),
    "vector with diagonal": (R[np.triu_indices(N_NODE)], "one triangle of an FC", R),
    "flat": (R.ravel(), "give fc.reshape(8, 8)", R),
    "sessions": (np.stack([R, R, R]), "fc.mean(axis=0)", R),
}


def _as_advised(given, said):
    """Result of the conversion that a message advises."""
    found = {"np": np, "fc": given.copy(), "x": given}
    if "fc = np.zeros" in said:
        exec(re.search(r"make the matrix: (fc = .*)\.$", said)[1], found)
        return found["fc"]
    if "d = np.sqrt" in said:
        exec("d = np.sqrt(np.diag(fc))", found)
        return eval("fc / np.outer(d, d)", found)
    code = re.search(r"(?:give(?: its FC,)?|their mean,) ((?:np\.|fc|1 - fc).*?)(?:; |\. |, or|\.$)", said)[1]
    return eval(code, found)


@pytest.mark.parametrize("name", NO_FC)
def test_other_matrices_are_refused_with_their_kind_and_the_conversion_gives_the_fc(name):
    given, cause, meant = NO_FC[name]
    with pytest.raises(ValueError, match=f"target: .*{re.escape(cause)}") as caught:
        match_target(given, LABELS)
    if meant is not None:
        advised = match_target(_as_advised(given, str(caught.value)), LABELS)
        np.testing.assert_allclose(advised, _with_diagonal(meant, 0.0), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "given,doubt",
    [
        (_p_values(), "p-values"),
        (_with_diagonal(_p_values(), 1.0), "p-values"),
        (1.0 - np.abs(R), "a distance; give 1 - fc"),
    ],
)
def test_doubtful_values_within_the_range_of_an_fc_cause_a_warning(given, doubt):
    with pytest.warns(UserWarning, match=f"target: .*{re.escape(doubt)}") as caught:
        np.testing.assert_array_equal(match_target(given, LABELS), _with_diagonal(given, 0.0))
    assert caught[0].filename == __file__


@pytest.mark.parametrize("name", [name for name, (given, *_) in NO_FC.items() if given.shape == (N_NODE, N_NODE)])
def test_gaps_do_not_make_other_matrices_acceptable(name):
    if "triangle" in name:
        pytest.skip("of a triangle with gaps, the values that there are tell which are missing")
    given = NO_FC[name][0].copy()
    given[1, 2] = given[2, 1] = np.nan
    with pytest.raises(ValueError, match="target: "):
        match_target(given, LABELS, "ignore")


@pytest.mark.parametrize("diagonal", [0.0, 1.0, np.nan, 1.0 + 1e-9, 0.9995, 1e-17])
@pytest.mark.parametrize("seed", range(4))
def test_an_fc_is_accepted_unchanged(diagonal, seed):
    for n_node in (4, 8, 60):
        r = np.corrcoef(_signals(seed, n_node), rowvar=False)
        for fc in (r, np.abs(r), np.round(r, 2), np.maximum(r, 0.0), r.astype(np.float32)):
            given = _with_diagonal(fc, diagonal)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                np.testing.assert_array_equal(match_target(given, range(n_node)), _with_diagonal(fc, 0.0))


def test_regions_and_pairs_without_data_are_left_out():
    given = R.copy()
    given[3], given[:, 3] = np.nan, np.nan
    np.testing.assert_array_equal(match_target(given, LABELS, "ignore"), _with_diagonal(given, 0.0))
    # A region with a constant signal has no variance.
    given = COVARIANCE.copy()
    given[3], given[:, 3] = 0.0, 0.0
    assert "a covariance" in fc_check.values_problem(given)


@pytest.mark.parametrize("loss", [tj.rmse, tj.rmse_corr])
@pytest.mark.parametrize("name", ["percent", "Fisher's z, diagonal of 8", "covariance", "tangent"])
def test_losses_warn_only_since_both_matrices_may_be_of_that_kind(loss, name):
    given, cause, _ = NO_FC[name]
    with pytest.warns(UserWarning, match=f"(?i)target.*{re.escape(cause)}"):
        loss(R, given)


def test_the_correlation_of_entries_ignores_the_scale():
    np.testing.assert_allclose(tj.fc_corr(R, 100.0 * COVARIANCE), tj.fc_corr(R, COVARIANCE), rtol=1e-12)


@pytest.mark.parametrize("loss", [tj.rmse, tj.fc_corr, tj.rmse_corr])
def test_losses_refuse_a_time_series(loss):
    given, cause, _ = NO_FC["time series"]
    with pytest.raises(ValueError, match=f"(?i)target.*{re.escape(cause)}"):
        loss(R, given)


def test_losses_name_the_loader_for_a_path(tmp_path):
    for path in ("fc.csv", tmp_path / "fc.csv"):
        with pytest.raises(ValueError, match=r"is a path; give .*tj\.load_fc\(path\)"):
            tj.rmse(R, path)


def test_sessions_that_are_no_fc_are_named():
    with pytest.raises(ValueError, match="session 1: target: .*in percent"):
        named_targets([R, 100.0 * R], LABELS)


def _csv(tmp_path, frame, **options):
    frame.to_csv(tmp_path / "fc.csv", **options)
    return tmp_path / "fc.csv"


def test_a_table_read_without_its_column_of_names_is_recognised(tmp_path):
    path = _csv(tmp_path, pd.DataFrame(R, LABELS, LABELS))
    for frame in (pd.read_csv(path), pd.read_csv(path).to_numpy()[:, :]):
        with pytest.raises(ValueError, match=r"tj\.load_fc\(path\), or with pandas\.read_csv\(path, index_col=0\)"):
            match_target(frame, LABELS)
    np.testing.assert_allclose(match_target(pd.read_csv(path, index_col=0), LABELS), _with_diagonal(R, 0.0))


def test_a_table_whose_first_row_was_read_as_names_is_recognised(tmp_path):
    path = _csv(tmp_path, pd.DataFrame(R), index=False, header=False)
    with pytest.raises(ValueError, match=r"pandas\.read_csv\(path, header=None\)"):
        match_target(pd.read_csv(path), LABELS)
    # A table without names is in region order.
    np.testing.assert_allclose(match_target(pd.read_csv(path, header=None), LABELS), _with_diagonal(R, 0.0))


def test_a_table_with_names_of_columns_only_is_matched_by_them(tmp_path):
    order = [2, 0, 1, *range(3, N_NODE)]
    labels = [LABELS[i] for i in order]
    path = _csv(tmp_path, pd.DataFrame(R[np.ix_(order, order)], labels, labels), index=False)
    with pytest.warns(UserWarning, match="put into the order"):
        np.testing.assert_allclose(match_target(pd.read_csv(path), LABELS), _with_diagonal(R, 0.0))


def test_a_time_series_in_a_table_is_recognised():
    with pytest.raises(ValueError, match="a time series of 300 samples"):
        match_target(pd.DataFrame(X, columns=LABELS), LABELS)
