"""An FC of some regions is fitted on the pairs with data; all regions are simulated."""

import numpy as np
import optax
import pandas as pd
import pytest
from tvb.simulator.lab import monitors

import tvb_jaxfit as tj
from tvb_jaxfit.command.matrices import load_array
from tvb_jaxfit.evaluation.sessions import named_targets
from tvb_jaxfit.evaluation.target import match_target

N_NODE = 6
LABELS = [f"region {i}" for i in range(N_NODE)]
KNOWN = [0, 2, 3, 5]


def _fc(n_node=N_NODE):
    fc = np.corrcoef(np.random.default_rng(3).normal(size=(n_node, 30)))
    np.fill_diagonal(fc, 0.0)
    return fc


def _whole():
    """FC of all regions, with NaN for the regions without data."""
    fc = np.full((N_NODE, N_NODE), np.nan)
    fc[np.ix_(KNOWN, KNOWN)] = _fc()[np.ix_(KNOWN, KNOWN)]
    np.fill_diagonal(fc, 0.0)
    return fc


def _part(order=KNOWN):
    labels = [LABELS[i] for i in order]
    return pd.DataFrame(_fc()[np.ix_(order, order)], labels, labels)


def test_regions_missing_from_a_labelled_target_have_no_data():
    np.testing.assert_array_equal(match_target(_part(), LABELS, "ignore"), _whole())
    with pytest.warns(UserWarning, match="put into the order"):
        np.testing.assert_array_equal(match_target(_part([5, 0, 3, 2]), LABELS, "ignore"), _whole())
    # A target with gaps of its own.
    gappy = _part()
    gappy.iloc[0, 3] = gappy.iloc[3, 0] = np.nan
    expected = _whole()
    expected[0, 5] = expected[5, 0] = np.nan
    np.testing.assert_array_equal(match_target(gappy, LABELS, "ignore"), expected)


def test_sessions_and_files_may_lack_regions(tmp_path):
    found = named_targets({"one": _part(), "two": _part()}, LABELS, missing="ignore")
    np.testing.assert_array_equal(found.matrices["mean"], _whole())
    _part().to_csv(tmp_path / "fc.csv")
    np.testing.assert_allclose(match_target(load_array(str(tmp_path / "fc.csv"), "fc"), LABELS, "ignore"), _whole())


def test_missing_regions_are_refused_by_default_with_the_option_named():
    with pytest.raises(ValueError, match=r'missing: region 1, region 4\).*missing="ignore"\) \(--missing ignore'):
        match_target(_part(), LABELS)
    # A matrix without labels cannot be assigned to regions.
    with pytest.raises(ValueError, match=r"shape \(4, 4\) for 6 regions; give \(6, 6\); of some .*DataFrame"):
        match_target(_fc()[np.ix_(KNOWN, KNOWN)], LABELS, "ignore")


def test_the_option_accepts_no_unknown_or_repeated_label():
    for labels in ([*LABELS[:3], "regoin 3"], [*LABELS[:3], LABELS[0]]):
        with pytest.raises(ValueError, match="missing: .*; (extra: regoin 3|repeated: region 0)") as refused:
            match_target(pd.DataFrame(_fc(4), labels, labels), LABELS, "ignore")
        assert "--missing" not in str(refused.value)
    with pytest.raises(ValueError, match="1 of 15 pairs of regions have data; give at least 3"):
        match_target(_part([0, 1]), LABELS, "ignore")


@pytest.mark.slow
def test_a_fit_to_some_regions_is_a_fit_to_the_matrix_with_gaps(build_small):
    sim = build_small(steps=400, monitors=[monitors.TemporalAverage(period=40.0)], nsig=1e-5)
    free = {"model.w": tj.BoundedParameter(None, 0.0, 1.0, regional=True)}
    result = tj.fit(
        sim,
        _part(),
        free,
        method="simulate",
        fc=tj.FCOptions(missing="ignore"),
        max_steps=1,
        optimizer=optax.sgd(1.0),
        run=tj.RunOptions(progress=False),
    )
    np.testing.assert_array_equal(result.target, _whole())
    assert np.all(np.isfinite(result.loss)) and result.fc().shape == (N_NODE, N_NODE)
    fc, known = np.asarray(result.fc(result.initial)), ~np.isnan(_whole())
    expected = np.sqrt(np.mean((fc - _whole())[known] ** 2))
    np.testing.assert_allclose(tj.rmse(fc, result.target, missing="ignore"), expected, rtol=1e-12)
    # Regions without data influence the others: the network is complete.
    assert np.all(result.best.model.w.value != result.initial.model.w.value)
    found = result.evaluate(_part(), fc=tj.FCOptions(missing="ignore"), n_seeds=1, progress=False)
    np.testing.assert_array_equal(found.r.shape, (1,))
