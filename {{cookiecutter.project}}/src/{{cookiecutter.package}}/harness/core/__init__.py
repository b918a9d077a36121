"""Foundations of the harness: errors, configuration, paths, commands."""
