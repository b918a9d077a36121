"""Membership inference: what an overfitted model betrays, and what others do not."""

import time

import numpy as np
import pytest
from my_experiment.harness.evaluation import membership
from my_experiment.harness.evaluation.metrics import area, true_positive_rate, unweighted
from my_experiment.harness.evaluation.settings import Evaluate
from sklearn import metrics as reference

SETTINGS = Evaluate(seed=0, resamples=100, confidence=0.95, examples=1, shipped=0)


@pytest.mark.parametrize("tied", [False, True])
def test_the_attack_equals_scikit_learn(tied: bool) -> None:
    generator = np.random.default_rng(0)
    members, others = generator.gamma(1.0, size=300), generator.gamma(2.0, size=450)
    if tied:
        members, others = members.round(1), others.round(1)
    found = unweighted(membership.attack(members, others), 750)
    actual = np.arange(750) < 300
    scores = -np.concatenate([members, others])
    assert found["auc"] == pytest.approx(reference.roc_auc_score(actual, scores), abs=1e-12)
    false, true, _ = reference.roc_curve(actual, scores, drop_intermediate=False)
    assert found["tpr_at_1_percent_fpr"] == pytest.approx(np.interp(0.01, false, true), abs=1e-12)


def test_a_resample_counts_like_the_rows_it_draws() -> None:
    generator = np.random.default_rng(1)
    positive, scores = generator.random(200) < 0.4, generator.normal(size=200).round(1)
    drawn = generator.integers(0, 200, 200)
    weights = np.bincount(drawn, minlength=200).astype(float)
    ones = np.ones(200)
    assert area(positive, scores)(weights) == pytest.approx(area(positive[drawn], scores[drawn])(ones), abs=1e-12)
    weighted = true_positive_rate(positive, scores, 0.1)(weights)
    assert weighted == pytest.approx(true_positive_rate(positive[drawn], scores[drawn], 0.1)(ones), abs=1e-12)


def test_losses_that_tell_nothing_find_as_many_as_a_draw() -> None:
    """A loss of 0 for most examples, as of a model that is sure of them."""
    found = unweighted(membership.attack(np.zeros(300), np.zeros(83)), 383)
    assert found == pytest.approx({"auc": 0.5, "tpr_at_1_percent_fpr": 0.01})


def test_a_model_that_learned_its_rows_by_heart_betrays_them() -> None:
    """60 rows with random labels, and a nearest neighbor: no loss on them, chance elsewhere."""
    generator = np.random.default_rng(0)
    rows, labels = generator.normal(size=(60, 5)), generator.integers(0, 2, 60)
    new, truth = generator.normal(size=(60, 5)), generator.integers(0, 2, 60)
    nearest = labels[((new[:, None] - rows) ** 2).sum(2).argmin(1)]
    found = membership.measure(np.zeros(60), (nearest != truth).astype(float) + generator.random(60), SETTINGS)
    assert found.estimates["auc"].value > 0.8
    assert found.estimates["tpr_at_1_percent_fpr"].value > 0.8


def test_chance_is_recognized_as_chance() -> None:
    """The interval holds 0.5 for nearly all seeds."""
    generators = map(np.random.default_rng, range(20))
    found = [membership.measure(each.random(500), each.random(300), SETTINGS).estimates["auc"] for each in generators]
    assert sum(each.low <= 0.5 <= each.high for each in found if each.low and each.high) >= 17


def test_the_sample_is_bounded() -> None:
    assert len(membership.sampled(1_000_000, 150_000)) == membership.MOST
    assert len(membership.sampled(1_000_000, 83)) == membership.LEAST
    assert membership.sampled(408, 83).tolist() == list(range(408))
    started = time.process_time()
    found = membership.measure(np.arange(10_000) / 7 % 1, np.arange(150_000) / 7 % 1, SETTINGS)
    assert found.others == membership.MOST
    assert time.process_time() - started < 5


def test_the_card_says_what_it_means() -> None:
    text = membership.section(membership.measure(np.zeros(60), np.ones(60), SETTINGS))[1]
    assert "60 training from 60 test examples with an AUC of 1 (1 to 1), where 0.5 is chance" in text
    assert "lower bound" in text
