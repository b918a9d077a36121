"""Runs, and the commit, data and parameters of each."""
