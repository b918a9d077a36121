"""CI of a commit's results, and retraining."""
