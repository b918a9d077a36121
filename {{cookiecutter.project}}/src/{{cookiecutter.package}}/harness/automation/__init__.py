"""What CI runs: checks of a commit's results, and retraining."""
