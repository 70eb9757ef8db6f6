# GemmaPy: `make run` serves, `make test` tests. Both install what they need first, and say what they do.
.DEFAULT_GOAL := help
.PHONY: help setup run test check bench torture screenshots fmt lock clean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what `make run` needs, into .venv
	@scripts/setup run

run: setup ## Serve on http://localhost:5000 with the data in ./data (make run ARGS="--port 8080")
	@exec .venv/bin/gemmapy serve $(ARGS)

test: ## The whole suite, with real servers, clients and a real model
	@scripts/setup test
	.venv/bin/pytest -n 2 --dist loadfile $(ARGS)

check: ## Format, lint, types and the fast tests
	@scripts/setup test
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/basedpyright
	.venv/bin/pytest -n 2 -m "not slow"

bench: ## Measure what the gateway costs, beside its peers that are installed
	@scripts/setup test
	.venv/bin/python -m benchmarks $(ARGS)

torture: ## Kill a gateway a thousand times under load, and let its power fail; a quarter of an hour, at most forty minutes
	@scripts/setup test
	.venv/bin/python -m tests.crash.torture $(ARGS)

screenshots: ## Take the pictures of the README and the guide again
	@scripts/setup test
	.venv/bin/python scripts/screenshots.py

fmt: ## Put the code into form
	@scripts/setup test
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

lock: ## Pin the newest versions of everything
	@scripts/setup test
	scripts/lock

clean: ## Remove what was installed and built; the data stay
	rm -rf .venv .pytest_cache .ruff_cache dist build tests/end_to_end/javascript/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
