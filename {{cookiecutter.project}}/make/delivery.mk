# Delivery: how a release reaches production.
.PHONY: gates

gates: ## python -m {{cookiecutter.package}} gates: what a new release must show, in deploy/gates.yaml
	PYTHONPATH=src python -m $(PACKAGE) gates

monitoring: gates
