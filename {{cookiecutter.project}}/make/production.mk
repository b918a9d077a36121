# Watching a service.
.PHONY: monitoring production

monitoring: ## python -m {{cookiecutter.package}} monitoring: rules, alerts and dashboard, in monitoring/
	PYTHONPATH=src python -m $(PACKAGE) monitoring

production: ## python -m {{cookiecutter.package}} production: drift and quality by week, in build/production.html
	PYTHONPATH=src python -m $(PACKAGE) production
