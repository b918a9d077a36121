# Each target is a short name for the command that it runs; `make help` lists them.
SHELL := /bin/bash
# The first Python that the locks are for.
FITS := -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do $$each $(FITS) && echo $$each && break; done)
PROJECT := {{cookiecutter.project}}
TASK ?= image-classification
LOCKS := $(PROJECT)/requirements
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export BENTOML_DO_NOT_TRACK := true

.DEFAULT_GOAL := help
.PHONY: help setup demo loop demo-delivery test portable soak lint site bench fuzz gpu bake unbake lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## Make .venv: the generated project's locked tools, and the template's own

.venv/.installed: $(filter-out $(LOCKS)/remote-% $(LOCKS)/cluster.lock $(LOCKS)/gpu.lock,$(wildcard $(LOCKS)/*.lock)) requirements/template.lock
	@echo "Installing the locked tools into .venv (about a minute; nothing to do next time)"
	@python=$(or $(PYTHON),python3); test ! -x .venv/bin/python || { python=.venv/bin/python; first="rm -r .venv, then "; }; \
	$$python $(FITS) || { echo >&2 "error: the locks are for Python 3.11 to 3.13, and $$python is none:" \
	  "$${first}make $(or $(MAKECMDGOALS),setup) PYTHON=PATH"; exit 1; }
	@test -x .venv/bin/pip || $(PYTHON) -m venv .venv >/dev/null || { \
	  echo >&2 "error: $(PYTHON) has no complete venv: install python3-venv (Debian, Ubuntu)"; exit 1; }
	@# uv itself comes from the lock, by pip; then it installs the rest many times as fast. Compiled at
	@# once, TensorFlow loads in half the time also where PYTHONDONTWRITEBYTECODE is set.
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  -r <(awk '/^[a-z]/ {uv = /^uv==/} uv' $(LOCKS)/dev.lock)
	@uv pip install --quiet --compile-bytecode --python .venv --require-hashes $(addprefix -r ,$^)
	@touch $@

demo: .venv/.installed ## Generate a project (TASK=...) in build/demo, reproduce it, build its Bento, ask it once
	python docs/demo.py build/demo/$(TASK) $(TASK)

loop: .venv/.installed ## In build/loop, a model in production: drift, alarm, feedback, retraining, promotion; dashboard
	rm -rf build/loop
	python docs/loop.py build/loop

demo-delivery: .venv/.installed ## In build/demo-delivery, releases by canary and blue-green, one rolled back, one undone; pictures
	rm -rf build/demo-delivery
	python docs/delivery.py build/demo-delivery

test: .venv/.installed ## Everything that CI checks; FAST=1: what takes seconds, for daily work
	pre-commit run --all-files
	@# Twice the two cores that this is made for: tests wait for disks and servers. Three took 36 minutes, four take 33.
	python -m pytest --numprocesses 4 --no-loadscope-reorder $(if $(FAST),-m "not (pipeline or service or slow)")

portable: .venv/.installed ## All models on three emulated processors and on one core: the same bytes? Two hours
	python -m pytest -m portable tests/test_portable.py

soak: .venv/.installed ## Ten minutes of rollouts on a host of the loopback interface, in which everybody is killed at times
	python -m pytest -s -m soak tests/test_rollout.py

lint: .venv/.installed ## pre-commit run --all-files
	pre-commit run --all-files

site: .venv/.installed ## The site, strictly, in build/site: pages of docs/, and a reference made from the code
	python docs/reference.py build/site-src
	zensical build --strict --clean

bench: .venv/.installed ## The benchmarks: ratios, both sides in one run
	python benchmarks/pipeline.py
	rm -rf build/bench
	cookiecutter . --no-input --output-dir build/bench scope=production >/dev/null
	ln -s $(CURDIR)/.venv build/bench/my-experiment/.venv
	cd build/bench/my-experiment && dvc repro --quiet
	python benchmarks/service.py build/bench/my-experiment
	python benchmarks/counting.py build/bench/my-experiment
	python benchmarks/guarding.py build/bench/my-experiment
	python benchmarks/drift.py build/bench/my-experiment
	python benchmarks/proxy.py build/bench/my-experiment
	python benchmarks/transfer.py build/bench/my-experiment
	python benchmarks/tables.py
	python benchmarks/boosting.py
	python benchmarks/sweep.py

fuzz: .venv/.installed ## A million malformed inputs for decoders and parsers
	rm -rf build/fuzz
	@# At random, then with atheris, which mutates what reaches new lines.
	@for task in image-classification tabular-classification; do \
	  cookiecutter . --no-input --output-dir build/fuzz/$$task task=$$task scope=production >/dev/null && \
	  ln -s $(CURDIR)/.venv build/fuzz/$$task/my-experiment/.venv && \
	  (cd build/fuzz/$$task/my-experiment && dvc repro --quiet) && \
	  python benchmarks/fuzz.py build/fuzz/$$task/my-experiment --cases 10 && \
	  VIRTUAL_ENV=$(CURDIR)/.venv uv run --no-project --active --with atheris python benchmarks/fuzz.py \
	    build/fuzz/$$task/my-experiment --guided || exit 1; \
	done

gpu: .venv/.installed ## On a machine with an NVIDIA GPU: what its owner relies on, in ten minutes; downloads 2.7 GB
	rm -rf build/gpu
	cookiecutter . --no-input --output-dir build/gpu >/dev/null
	$(MAKE) --directory build/gpu/my-experiment setup GPU=1
	@# The processor's results, with which those of the GPU are compared.
	cd build/gpu/my-experiment && PATH=$$PWD/.venv/bin:$$PATH CUDA_VISIBLE_DEVICES=-1 dvc repro --quiet
	build/gpu/my-experiment/.venv/bin/python benchmarks/gpu.py build/gpu/my-experiment

bake: .venv/.installed ## Generate a project (TASK=...) with the default answers into build/bake, to look at or to work in
	rm -rf build/bake
	cookiecutter . --no-input --output-dir build/bake task=$(TASK)
	ln -s $(CURDIR)/.venv build/bake/my-experiment/.venv

unbake: .venv/.installed ## Bring what was changed in build/bake (TASK=...) back into the template
	python docs/unbake.py build/bake/my-experiment $(TASK)

lock: ## Renew every lock: resolved together, so that any of them can be installed beside any other
	bash requirements/lock.sh

clean: ## Remove what the targets above have made
	rm -rf build .venv
