"""Sweeps: many trainings with other parameters, in one study that can be stopped, resumed and shared by workers."""
