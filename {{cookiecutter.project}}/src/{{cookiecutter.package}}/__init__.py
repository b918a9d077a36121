"""One machine-learning experiment: stages, models and the service that ships them."""
