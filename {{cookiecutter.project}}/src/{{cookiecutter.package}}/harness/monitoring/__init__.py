"""Rules, alerts and dashboard of a service that is watched by Prometheus; `make monitoring` writes them."""
