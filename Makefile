# Two commands for everyone: `make demo` and `make test`. Both set up first; a second run installs nothing.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
# Twenty stages are twenty processes; without its bytecode on disk, torch is compiled anew in each (15 s of the processor).
unexport PYTHONDONTWRITEBYTECODE
QUIET  := DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false

.PHONY: demo test bench docs experiments lint lock clean help

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 12) else "Python 3.11 or 3.12 is needed; name one: make PYTHON=python3.12 …")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check uv
	$(PY) -m uv pip install --quiet --python $(PY) --compile-bytecode --require-hashes -r requirements.lock
	$(PY) -m uv pip install --quiet --python $(PY) --no-deps --editable .
	touch $(STAMP)

demo: $(STAMP)  ## Run the whole pipeline on the embedded data and say where the report is
	$(QUIET) $(PY) -m flows run
	@$(PY) -m tasks summary

test: $(STAMP)  ## Lint and run every test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(QUIET) $(PY) -m pytest --numprocesses auto --dist loadgroup --no-loadscope-reorder

bench: $(STAMP)  ## Ours beside a peer, as ratios of one run; QUICK=1: whether they still run
	$(PY) -m tests.benchmarks $(if $(QUICK),--quick)

docs: $(STAMP)  ## Build docs/ as a site in .cache/site; a link that leads nowhere is an error
	$(VENV)/bin/zensical build --strict -f mkdocs.yml

experiments: $(STAMP)  ## DVC's table of experiments, without the settings that none of them varied
	$(PY) -m dvc exp show --only-changed --drop 'data/|tasks|params.yaml'

lint: $(STAMP)  ## Fix what ruff can fix
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

lock: $(STAMP)  ## Resolve requirements.lock anew
	$(PY) -m uv pip compile pyproject.toml --universal --generate-hashes --extra dev --extra cluster --extra search --python-version 3.11 --quiet -o requirements.lock

clean:  ## Remove caches; data, models and the environment stay
	rm -rf .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -exec rm -rf {} +
