"""Evidence, PSI and estimated quality: against SciPy, and by what they promise."""

import numpy as np
import pytest
from my_experiment.harness.drift.evidence import estimated_quality, evidence, limit, psi
from scipy.special import gammaln


def exact(reference: np.ndarray, production: np.ndarray) -> float:
    def log_beta(a: np.ndarray) -> float:
        return float(gammaln(a).sum() - gammaln(a.sum()))

    joined = log_beta(reference + production + 1) + log_beta(np.ones(len(reference)))
    return (log_beta(reference + 1) + log_beta(production + 1) - joined) / float(np.log(10))


def test_evidence_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        bins = int(rng.integers(2, 24))
        tables = [rng.uniform(0, 10 ** rng.integers(1, 6), bins) * (rng.random(bins) < 0.8) for _ in range(2)]
        assert evidence(*tables) == pytest.approx(exact(*tables), rel=1e-9, abs=1e-9)
    zeros, some = np.zeros(5), np.arange(5.0)
    assert evidence(zeros, zeros) == evidence(some, zeros) == pytest.approx(0, abs=1e-9)


def test_evidence_of_several_variables_is_that_of_each() -> None:
    rng = np.random.default_rng(1)
    references, productions = rng.integers(0, 99, (3, 4, 7)), rng.integers(0, 99, (3, 4, 7))
    found = evidence(references, productions)
    assert found.shape == psi(references, productions).shape == (3, 4)
    assert found[2, 1] == pytest.approx(float(evidence(references[2, 1], productions[2, 1])))


@pytest.mark.parametrize("reference", [400, 10_000])
def test_evidence_seldom_exceeds_k_digits_however_often_one_looks(reference: int) -> None:
    rng, streams, bins = np.random.default_rng(2), 2000, 10
    shares = rng.dirichlet(np.ones(bins), streams)
    known = rng.multinomial(reference, shares)
    seen, ever = np.zeros((streams, bins)), np.full(streams, -np.inf)
    for _ in range(40):
        seen += rng.multinomial(50, shares)
        ever = np.maximum(ever, evidence(known, seen))
    assert (ever > 1).mean() < 0.1 and (ever > 2).mean() <= 0.01


def test_psi_is_zero_for_equal_shares_and_grows() -> None:
    same = np.array([500, 300, 200])
    assert psi(same * 10, same) == pytest.approx(0, abs=1e-4)
    assert 0 < psi(same, np.array([450, 330, 220])) < 0.1 < psi(same, np.array([200, 300, 500]))
    assert np.isfinite(psi(np.array([100, 0]), np.array([0, 100])))


def test_the_limit_grows_with_the_number_of_variables() -> None:
    assert limit(1) == 3
    assert limit(30) == pytest.approx(3 + np.log10(30))


def test_estimated_quality_follows_the_confidence() -> None:
    reference, right = np.array([100, 100, 200]), np.array([50, 80, 200])
    assert estimated_quality(reference, right, reference) == pytest.approx(330 / 400)
    assert estimated_quality(reference, right, np.array([10, 0, 0])) == pytest.approx(0.5)
    assert estimated_quality(reference, right, np.array([0, 0.5, 1.5])) == pytest.approx(0.2 + 0.75)
    assert np.isnan(estimated_quality(reference, right, np.zeros(3)))
