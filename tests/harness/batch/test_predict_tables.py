"""Batch prediction, in bakes with tables."""

from test_predict import *  # noqa: F403
