"""Experiment tracking: git commits, dvc.lock and MLflow runs."""
