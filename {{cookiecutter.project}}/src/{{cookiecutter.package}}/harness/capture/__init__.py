"""Requests and their answers, kept for labels and retraining."""
