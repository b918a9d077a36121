# Delivery: how a release reaches production.
.PHONY: gates champion release deploy status abort undo compare{% if cookiecutter.deploy in ["ansible", "puppet"] %} shadow{% endif %}

gates: ## python -m {{cookiecutter.package}} gates: what a new release must show, in deploy/gates.yaml
	PYTHONPATH=src python -m $(PACKAGE) gates

monitoring: gates

champion: ## python -m {{cookiecutter.package}} bento --from champion: its Bento, whose name is then in build/bento
	PYTHONPATH=src python -m $(PACKAGE) bento --from champion

release: ## python -m {{cookiecutter.package}} release $(ARGS): the champion, or a version, in deploy/release.yaml
	PYTHONPATH=src python -m $(PACKAGE) release $(ARGS)

deploy: ## python -m {{cookiecutter.package}} deploy: production becomes the committed release, by its steps
	PYTHONPATH=src python -m $(PACKAGE) deploy $(ARGS)

# 2: a rollout is under way, 3: something differs, which make would call an error.
status: ## python -m {{cookiecutter.package}} status: champion, release and production, a rollout's step and verdicts
	@PYTHONPATH=src python -m $(PACKAGE) status || case $$? in 2 | 3) ;; *) exit 1 ;; esac

abort: ## python -m {{cookiecutter.package}} abort: end a rollout
	PYTHONPATH=src python -m $(PACKAGE) abort

undo: ## python -m {{cookiecutter.package}} undo: back to the release before
	PYTHONPATH=src python -m $(PACKAGE) undo

compare: ## python -m {{cookiecutter.package}} compare $(ARGS): two models on the same requests
	PYTHONPATH=src python -m $(PACKAGE) compare $(ARGS)
{%- if cookiecutter.deploy in ["ansible", "puppet"] %}

shadow: ## python -m {{cookiecutter.package}} shadow $(ARGS): a new release answers kept requests, before it gets any
	PYTHONPATH=src python -m $(PACKAGE) shadow $(ARGS)
{%- endif %}
