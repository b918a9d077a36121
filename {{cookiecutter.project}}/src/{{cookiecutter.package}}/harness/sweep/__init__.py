"""Sweeps: many trainings in one study that can be stopped, resumed and shared by workers."""
