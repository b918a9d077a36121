# Service and release.
.PHONY: news retrain register promote rollback serve bento sign verify image audit scan licenses push savedmodel

news: ## Is there anything to retrain? Needs Python and git, nothing installed
	@PYTHONPATH=src $(or $(PYTHON),python3) -m $(PACKAGE).harness.automation.retrain_news $(ARGS)

retrain: ## python -m {{cookiecutter.package}} retrain $(ARGS): train on new data, propose a branch
	PYTHONPATH=src python -m $(PACKAGE) retrain $(ARGS)

register: ## python -m {{cookiecutter.package}} registry register: the model becomes a version, alias challenger
	PYTHONPATH=src python -m $(PACKAGE) registry register

promote: ## python -m {{cookiecutter.package}} registry promote $(ARGS): challenger becomes champion if it passes
	PYTHONPATH=src python -m $(PACKAGE) registry promote $(ARGS)

rollback: ## python -m {{cookiecutter.package}} registry rollback: restore the previous champion
	PYTHONPATH=src python -m $(PACKAGE) registry rollback

# BENTOML_CONTAINERIZED: BentoML starts no worker again, as in its containers; one that cannot start would try forever.
serve: ## bentoml serve: the model on http://127.0.0.1:3000
	@! (exec 3<>/dev/tcp/127.0.0.1/$${PORT:-3000}) 2>/dev/null || { \
	  echo >&2 "error: port $${PORT:-3000} is in use: end that server, or take another port: PORT=3001 make serve"; exit 1; }
	PYTHONPATH=src BENTOML_CONTAINERIZED=true bentoml serve $(PACKAGE).service:Service --host 127.0.0.1 --port $${PORT:-3000}

bento: ## bentoml build: pack service and model
	bentoml build --output tag | sed 's/^__tag__:/Built /'; exit $${PIPESTATUS[0]}

image: ## bentoml build, bentoml containerize: the Bento as a container image
	PYTHONPATH=src python -m $(PACKAGE) image $(BENTO)

sign: ## Sign the Bento BENTO=name:version of the local store with the key MODEL_SIGNING_KEY
	PYTHONPATH=src python -m $(PACKAGE) bento --sign "$(BENTO)"

verify: ## Verify the signature of BENTO=name:version with the key MODEL_VERIFY_KEY
	PYTHONPATH=src python -m $(PACKAGE) bento --verify "$(BENTO)"

AUDIT := uvx pip-audit --strict --progress-spinner off --disable-pip --require-hashes \
  --requirement requirements/serve-{{ "production-" if cookiecutter.scope == "production" else "" }}{{ "images" if cookiecutter.task.startswith("image") else "tables" }}.lock
audit: ## uvx pip-audit: known vulnerabilities of the Python packages in the image
	@echo '$(AUDIT)'; mkdir -p build; ($(AUDIT)) 2>build/audit.log; status=$$?; \
	if grep 'known vulnerabilit' build/audit.log; then exit $$status; fi; \
	echo "error: not audited, no advisory source could be reached: $$(tail -n 1 build/audit.log)" >&2; exit 1

scan: ## python -m {{cookiecutter.package}} scan: are there secrets in Bento and image?
	PYTHONPATH=src python -m $(PACKAGE) scan $(BENTO)

licenses: ## python -m {{cookiecutter.package}} licenses: are the licenses of all packages allowed? Without a network
	PYTHONPATH=src python -m $(PACKAGE) licenses

push: ## Push the image of `make image` to REGISTRY, under its version and the commit's git tags
	PYTHONPATH=src python -m $(PACKAGE) image --push "$(REGISTRY)" $(BENTO)

savedmodel: ## python -m {{cookiecutter.package}} savedmodel: the model for TensorFlow Serving, in models/serving
	PYTHONPATH=src python -m $(PACKAGE) savedmodel
