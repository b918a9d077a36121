"""Automation: checks of a commit's results, and retraining."""
