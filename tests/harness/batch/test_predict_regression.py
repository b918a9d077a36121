"""Batch prediction, in bakes with a regression."""

from test_predict import *  # noqa: F403
