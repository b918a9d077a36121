"""Sweeps: many trainings in a study, which is resumable and parallel."""
