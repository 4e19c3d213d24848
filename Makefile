# Every target sets up what it needs; `make` alone says what there is.
.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test check lock clean

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

install: ## The skerry command at .venv/bin/skerry (PYTHON=... chooses the Python)
	@PYTHON='$(PYTHON)' scripts/install runtime

install-dev:
	@PYTHON='$(PYTHON)' scripts/install dev

demo: install ## A live wind farm on this machine; Ctrl-C ends it (ARGS="..." goes to skerry demo)
	@exec .venv/bin/skerry demo $(ARGS)

test: install-dev ## All tests (ARGS="..." goes to pytest)
	@exec scripts/test $(ARGS)

check: install-dev ## Format, lint, types, layers
	@exec scripts/check

lock: install-dev ## Write the locks anew (ARGS=--upgrade for newer versions)
	@exec scripts/lock $(ARGS)

clean: ## Remove what was installed and cached here; data stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find registry adapters policies types tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
