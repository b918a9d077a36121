"""Fitting and exporting a model."""
