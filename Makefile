# Every target works in a fresh clone: what it needs is installed first. Two makes may run at the same time: what they
# would both write (.venv, the checkers' caches, runs/demo) is behind a lock, and the second says that it waits.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help install demo tumour consortium check test test-all lock clean

# The interpreter that .venv is made with; empty means the first of python3.11, python3.12, python3.13 that works.
PYTHON ?=
export PYTHON

UV ?= uv
LOCKED_PYTHONS := 3.11 3.12 3.13
COMPILE = $(UV) pip compile --quiet --generate-hashes --no-emit-index-url --custom-compile-command "make lock" $(LOCK_FLAGS)

help:  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

install:  ## make .venv from the hash-locked requirements (about 6.5 GB, 4 minutes; nothing if it is up to date)
	@scripts/install.sh

demo: install  ## train on five hospitals' digits; ends with a table and runs/demo/report.html
	@scripts/with-lock.sh demo .venv/bin/securefl run examples/mnist_five_hospitals --out runs/demo --overwrite

tumour: install  ## the tumour example, with privacy for each patient; ends with a table and runs/tumour/report.html
	@scripts/with-lock.sh demo .venv/bin/securefl run examples/tumour_consortium --out runs/tumour --overwrite

consortium: install  ## four hospitals decide about a study, and train it: the walkthrough of the Syft domain
	@scripts/with-lock.sh demo .venv/bin/python examples/hospital_consortium/walkthrough.py --out runs/consortium

check: install  ## ruff, mypy and import-linter
	@scripts/with-lock.sh check $(MAKE) --no-print-directory checkers

.PHONY: checkers
checkers:
	.venv/bin/ruff check --quiet .
	.venv/bin/ruff format --check --quiet .
	.venv/bin/mypy --no-error-summary
	.venv/bin/lint-imports --no-logo

.PHONY: audit-dependencies licences
audit-dependencies: install  ## look for published vulnerabilities of what is locked (says so where no service can be reached)
	@.ci/audit-dependencies

licences: install  ## list the licence of each dependency in docs/licences.md, and refuse some
	@.venv/bin/python .ci/licences.py

# A file's tests stay in one process: they share its fixtures, and the real processes of one file do not meet others'.
test: check  ## the checks, and every test that is not slow
	.venv/bin/python -m pytest -q -n 2 --dist loadfile -m "not slow"

test-all: check  ## the checks, and every test
	.venv/bin/python -m pytest -q -n 2 --dist loadfile

lock:  ## resolve the requirements anew (needs uv; LOCK_FLAGS=--upgrade takes newer versions)
	@command -v $(UV) >/dev/null || { echo "error: make lock needs uv: install it (pip install uv) or set UV=/path/to/uv." >&2; exit 1; }
	$(COMPILE) --python-version 3.11 requirements/build.in -o requirements/build.txt
	@set -e; for version in $(LOCKED_PYTHONS); do \
		echo "requirements/lock-$$version.txt"; \
		$(COMPILE) --python-version $$version --python-platform x86_64-manylinux_2_28 \
			requirements/dev.in -o requirements/lock-$$version.txt; \
	done

clean:  ## remove .venv, caches, build outputs and runs/demo (other runs are kept)
	@scripts/with-lock.sh install rm -rf .venv
	@scripts/with-lock.sh demo rm -rf runs/demo
	@scripts/with-lock.sh check rm -rf build dist securefl.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis
	@find protocols securefl tests examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
