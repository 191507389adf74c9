# Two commands: `make demo` runs the main job, `make test` the tests. Each sets up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-fast check format bench experiment clean

demo: $(READY)  ## a synthetic study from DICOM and CSV to demo/report.html
	$(BIN)/copdvae demo demo

test: $(READY)  ## all tests, benchmarks apart
	$(BIN)/pytest -m "not benchmark" -n 2

test-fast: $(READY)  ## the tests that take a minute
	$(BIN)/pytest -m "not benchmark and not slow" -n 2

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## speed and memory, side by side; writes docs/benchmarks/
	$(BIN)/python tests/benchmarks/ingest_speed.py
	$(BIN)/python tests/benchmarks/ingest_workers.py
	$(BIN)/python tests/benchmarks/training_speed.py
	$(BIN)/python tests/benchmarks/spirometry_speed.py
	$(BIN)/python tests/benchmarks/command_speed.py phantom
	$(BIN)/python tests/benchmarks/qc_scroll.py
	$(BIN)/python tests/benchmarks/scale.py
	$(BIN)/python tests/benchmarks/phantom_lungs.py

experiment: $(READY)  ## the full synthetic experiment, three seeds: some 45 minutes
	$(BIN)/copdvae run configs/synthetic.yaml --root demo --jobs 2

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:  ## results of the demo; the environment stays
	rm -rf demo build dist .pytest_cache .ruff_cache
