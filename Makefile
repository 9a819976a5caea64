# `make book` builds the book, `make test` proves it. Both start from nothing but Python >= 3.11,
# make and git. `make PYTHON=python3.12 JOBS=8 test` picks the interpreter and the parallelism.
PYTHON ?= python3
JOBS ?= 2

BIN := .venv/bin
READY := .venv/ready

# The environment is made anew where it does not work, as after a set-up that was interrupted, and
# where it comes from another Python than the one that is asked for.
ORIGIN := -c 'import sys; print(sys.base_prefix, sys.version)'
MADE := $(shell $(BIN)/python -c 'import pip' 2>/dev/null && $(BIN)/python $(ORIGIN))
ifeq "$(origin PYTHON)" "file"
  ASKED := $(or $(MADE),any)
else
  ASKED := $(shell $(PYTHON) $(ORIGIN))
endif

# These would change, or stop, what runs in the environment.
unexport PYTHONHOME PYTHONPATH PYTHONWARNINGS

.PHONY: setup book test data benchmarks lab lint lock clean

setup: $(READY)

ifneq "$(MADE)" "$(ASKED)"
.PHONY: $(READY)
ANEW := $(PYTHON) .ci/check-python.py && $(PYTHON) -m venv --clear .venv
endif

# The stamp is renewed only when the lock or the package's description has changed. uv comes from
# the lock, too, as pip alone takes five times as long; without a home it has no cache.
UV := $(BIN)/uv pip install --quiet $(shell test -w "$$HOME" || echo --no-cache) --python $(BIN)/python
$(READY): requirements.txt pyproject.toml
	$(ANEW)
	$(BIN)/python -m pip install --quiet "$$(grep -o '^uv==[0-9.]*' requirements.txt)"
	$(UV) --requirement requirements.txt
	$(UV) --no-deps --editable .
	touch $@

# The build is strict, and starts afresh each time: a warning that an earlier run has already
# given, or a page that is gone from the book, must not be hidden by what that run left behind.
# That costs seconds, as the notebooks' results are kept. First come those that have no result.
book: setup
	$(BIN)/python _ext/execution.py $(JOBS)
	rm -rf _build/html _build/.doctrees
	$(BIN)/jupyter-book build . -W -n --keep-going --quiet

test: setup
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --ignore-glob 'tests/test_site*.py' tests
	$(MAKE) book
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) tests/test_site*.py

# What is stored in book/data, computed anew at full size: each experiment goes on where it stopped,
# and one that is finished is left alone until its file is deleted.
data: setup
	for experiment in experiments/*.py; do $(BIN)/python $$experiment || exit; done

benchmarks: setup
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/theory.py
	$(BIN)/python benchmarks/rivals.py
	$(BIN)/python benchmarks/fits.py

# One chapter by `make lab CHAPTER=phenomena/double-descent`.
lab: setup
	$(BIN)/jupyter lab --ServerApp.root_dir=book book$(CHAPTER:%=/%.ipynb)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# requirements.txt is exported from the newest versions that pyproject.toml allows, for every
# platform and Python at once, with hashes and without a word of where they came from.
lock: setup
	$(BIN)/uv lock --upgrade
	$(BIN)/uv export --quiet --frozen --no-emit-project --all-groups --no-annotate --no-header \
		--output-file requirements.txt

clean:
	rm -rf .venv _build .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find iclkit tests book -name __pycache__ -type d -prune -exec rm -rf {} +
