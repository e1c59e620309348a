# Everything is installed into .venv, once; after that each target is one command.
# Another interpreter (3.11 or newer): make demo PYTHON=python3.13
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
CORE := .venv/.core
CDK := node_modules/.bin/cdk
FORGE := node_modules/.bin/forge
# uv says what it downloads and how many packages it installed; its other lines are left out
UV_INSTALL = { $(BIN)/uv pip install $(1); echo $$? >$(READY).code; } 2>&1 | sed -E '/^ [-+~] |^ *(Resolved|Prepared|Building|Built|Audited) /d'; exit $$(cat $(READY).code)
RUST := $(shell find native -name target -prune -o \( -name '*.rs' -o -name 'Cargo.*' -o -name '*.pyi' \) -print)

.PHONY: help demo dev test check bench audit clean

help:
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile

demo: $(CORE) $(CDK) ## deploy all stacks onto an emulated cloud, use them, and kill the coordinator
	$(BIN)/python -m examples.cloud_demo

dev: $(CORE) $(CDK) ## deploy all stacks onto an emulated cloud on this machine
	$(BIN)/noob-cloud dev

test: $(CORE) $(CDK) ## run the whole test suite
	@if test -e $(CORE); then \
		echo "The Rust core's own tests, then what has a twin in Python without the core, then all with it."; \
		(cd native && cargo test --quiet --locked -p noob-cloud-core) && \
		NOOB_CLOUD_NATIVE=0 $(BIN)/python -m pytest --quiet tests/unit tests/conformance; \
	fi
	$(BIN)/python -m pytest

check: $(CORE) $(CDK) ## check formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@if test -x $(FORGE); then $(FORGE) fmt --check; else echo "Without forge, from npm, the contract's formatting is not checked."; fi
	@if test -e $(CORE); then \
		(cd native && cargo fmt --all --check && cargo clippy --quiet --workspace --all-targets --locked -- -D warnings) && \
		$(BIN)/stubtest --allowlist native/stubtest.txt noob_cloud_core; \
	fi

bench: .venv-bench/.ready ## measure against the named peers
	.venv-bench/bin/python -m bench

audit: $(CDK) .venv-slither/.ready .venv-halmos/.ready ## look at the contract with coverage, slither and halmos
	contracts/audit

clean: ## remove what was built and written, and the environments
	rm -rf .venv .venv-bench .venv-slither .venv-halmos .venv-localstack .venv-localstack.lock node_modules cdk.out out dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*

$(READY): requirements/setup.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("noob-cloud needs Python 3.11 or newer; this is %d.%d. Try: make PYTHON=python3.12" % v[:2])'
	@echo "Installing into .venv: once, about a minute."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/setup.txt
	@$(call UV_INSTALL,--python $(BIN)/python --require-hashes -r requirements/dev.txt)
	@$(call UV_INSTALL,--python $(BIN)/python --no-deps -e .)
	@touch $@

$(CORE): $(READY) $(RUST) native/install.py
	@PATH="$(abspath $(BIN)):$$PATH" VIRTUAL_ENV=$(abspath .venv) $(BIN)/python native/install.py $@

$(CDK): package-lock.json
	@if command -v npm >/dev/null; then \
		npm ci --no-audit --no-fund --loglevel=error && touch $@; \
	else \
		echo "Without Node.js the stacks are not tested, and cannot be deployed."; \
	fi

.venv-slither/.ready .venv-halmos/.ready: .venv-%/.ready: requirements/%.txt $(READY)
	@echo "Installing $* into an environment of its own: once."
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	@$(call UV_INSTALL,--python .venv-$*/bin/python --require-hashes -r $<)
	@touch $@

.venv-bench/.ready: $(READY) requirements/bench.txt
	@echo "Installing the peers into .venv-bench: once."
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@$(call UV_INSTALL,--python .venv-bench/bin/python --require-hashes -r requirements/dev.txt -r requirements/bench.txt)
	@$(call UV_INSTALL,--python .venv-bench/bin/python --no-deps -e .)
	@PATH="$(abspath .venv-bench/bin):$$PATH" VIRTUAL_ENV=$(abspath .venv-bench) .venv-bench/bin/python native/install.py
	@touch $@
