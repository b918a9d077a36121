"""Bento, container image and SavedModel of a model."""
