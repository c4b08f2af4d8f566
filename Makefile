# The commands of this repository; `make` alone lists them. Every command brings the environment .venv up to date
# first (scripts/setup.sh): seconds of work the first time, nothing after that.
.DEFAULT_GOAL := help
.PHONY: help setup demo lab test check unit bench wheel docs clean distclean
PY := .venv/bin/python
ARGS ?=
# Tests of clusters, SSH and browsers wait more than they compute: two workers share the files among them.
WORKERS ?= 2

help: ## list the commands
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo '  Variables: ARGS="..." is passed on (make unit ARGS="-k journal"); PYTHON=... chooses the interpreter of a new .venv; WORKERS=1 for tests one by one'

demo: ## set up and run the first example notebook for real, here, with nothing else needed
	@scripts/setup.sh notebook
	@$(PY) scripts/demo.py $(ARGS)

lab: ## set up and open JupyterLab on the examples
	@scripts/setup.sh lab
	@root=; [ "$$(id -u)" != 0 ] || root=--allow-root; \
	exec env PATH="$$PWD/.venv/bin:$$PATH" JUPYTER_PREFER_ENV_PATH=1 \
	$(PY) -m jupyterlab --ServerApp.root_dir=examples $$root $(ARGS)

test: check ## set up, check, and run all tests (what CI runs)
	@$(PY) -m pytest -n $(WORKERS) $(ARGS)

unit: setup ## run tests only: make unit ARGS="tests/model -k states"
	@$(PY) -m pytest $(ARGS)

check: setup ## types, lint, format of imports, floors
	@bad=; $(PY) -m ruff check . || bad="$$bad ruff"; $(PY) -m mypy || bad="$$bad mypy"; \
	.venv/bin/lint-imports --no-logo || bad="$$bad lint-imports"; \
	if [ -n "$$bad" ]; then echo "check FAILED:$$bad" >&2; exit 1; fi

bench: setup ## run the benchmarks and print one table (ARGS="--quick" or names)
	@$(PY) benchmarks/run.py $(ARGS)

docs: setup ## draw the generated pages of docs/ again
	@$(PY) scripts/draw_states.py
	@$(PY) scripts/list_errors.py
	@$(PY) scripts/list_fields.py

wheel: setup ## build the wheel and the sdist into dist/
	@$(PY) -m build

setup: ## make or refresh .venv and the native parts
	@scripts/setup.sh dev

clean: ## remove what was built (not .venv)
	@rm -rf build dist out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	@rm -f jupyter_rm/native/*.so jupyter_rm/native/jrm-guard
	@rm -rf jupyter_rm/labextension jupyter_rm/notebook/static labextension/lib
	@find jupyter_rm tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## remove .venv as well
	@rm -rf .venv labextension/node_modules
