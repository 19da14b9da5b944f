# `make tune` runs the main job, `make test` checks style, types and the fast tests, `make test-all` the slow tests
# too. Each makes .venv first.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: tune test fast test-slow test-all test-attack test-cluster test-peers gpu soak wheel site screenshots segmentation segmentation-2d infill minkowski spconv triton lint install clean

tune: .venv/installed
	$(BIN)/python -m lartpc_ray.tune clustering

segmentation: .venv/installed
	$(BIN)/python -m lartpc_ray.tune segmentation_3d

segmentation-2d: .venv/installed
	$(BIN)/python -m lartpc_ray.tune segmentation_2d

infill: .venv/installed
	$(BIN)/python -m lartpc_ray.tune infill

# MinkowskiEngine from its source (10 minutes, 2 GB a compiler process); Debian or Ubuntu, as root.
minkowski: .venv/installed-dev
	test -e /usr/include/*/cblas.h || (apt-get update -qq && apt-get install -y -qq g++ python3-dev libopenblas-dev)
	$(BIN)/pip install --quiet --constraint constraints.txt ninja setuptools wheel
	PATH="$(CURDIR)/$(BIN):$$PATH" MAX_JOBS=2 $(BIN)/pip install --use-pep517 --no-deps --no-build-isolation \
	  --config-settings=--global-option=--blas=openblas MinkowskiEngine==0.5.4
	$(BIN)/python -m pytest tests/sparse

# spconv-triton's kernels, on a GPU or in Triton's interpreter (400 MB).
spconv: .venv/installed-dev
	$(BIN)/python -c 'import triton' 2>/dev/null || $(BIN)/pip install --quiet --constraint constraints.txt triton==3.9.0
	$(BIN)/pip install --quiet --constraint constraints.txt spconv-triton
	$(BIN)/python -m pytest tests/sparse

# Triton's kernels of the native engine, on a GPU or in Triton's interpreter, and compiled for an H100 (1 GB).
triton: .venv/installed-dev
	$(BIN)/python -c 'import triton' 2>/dev/null || $(BIN)/pip install --quiet --constraint constraints.txt triton==3.9.0
	$(BIN)/python -m pytest tests/sparse

# mypy runs beside the fast tests. Each process of them takes 0.6 GB.
PROCESSES ?= 2
test: .venv/installed-dev
	$(MAKE) --jobs=2 --no-print-directory lint fast

fast: .venv/installed-dev
	$(BIN)/python -m pytest -n $(PROCESSES)

test-all: test test-slow

# Tests of one core each; then those that start Ray, a file at a time in each process; then those that measure waiting,
# or that look at all processes or ports.
ONE_CORE := tests/attack tests/data tests/peers tests/reconstruct tests/sparse tests/trials tests/train/test_empty_batches.py tests/train/test_joining.py tests/test_golden.py
ALONE := tests/browser tests/cluster tests/runtime tests/soak tests/terminal tests/train/test_owner.py
test-slow: .venv/installed-dev
	status=0; \
	$(BIN)/python -m pytest -m slow -n $(PROCESSES) $(ONE_CORE) || status=1; \
	$(BIN)/python -m pytest -m slow -n $(PROCESSES) --dist loadfile $(addprefix --ignore=,$(ONE_CORE) $(ALONE)) || status=1; \
	$(BIN)/python -m pytest -m slow $(ALONE) || status=1; \
	exit $$status

# Training and inference on a GPU, part by part, and docs/gpu.md from the results; on a CPU a hundredth of the size.
gpu: .venv/installed-dev
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python benchmarks/gpu.py --page > docs/gpu.md

# An hour of malformed spaces, settings and files, and of faults of the system.
test-attack: .venv/installed-dev
	LARTPC_ROUNDS=20 LARTPC_ATTACK_MINUTES=20 LARTPC_ATTACK_MUTANTS=10000 $(BIN)/python -m pytest -m "slow or not slow" tests/attack tests/data/formats/test_fuzz.py tests/data/formats/test_fuzz_folders.py tests/tracking/test_two_studies.py tests/train/test_owner.py

# HOURS of searches, kills, resumes, predictions and restarts in a random order; each is checked. As root it has its own /tmp.
HOURS ?= 3
SEED ?= 1
SOAK ?= /var/tmp/lartpc-soak-$(SEED)
soak: .venv/installed-dev
	$(BIN)/python tests/soak/soak.py $(HOURS) --seed $(SEED) --folder $(SOAK)

# The wheel and the source distribution, in dist/.
wheel: .venv/installed-dev
	$(BIN)/pip install --quiet --constraint constraints.txt build twine
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

# docs/ as a site, in site/; a broken link or a page that is not in mkdocs.yml is an error.
site: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The pictures of docs/ that a browser draws, anew; PAGE=study.html draws report-page.png from the page of another search.
screenshots: .venv/installed-dev
	LARTPC_SCREENSHOTS=docs LARTPC_PAGE=$(PAGE) $(BIN)/python -m pytest -m slow tests/browser

# `ray up` over three SSH hosts, made on this machine by LARTPC_HOSTS; as root, with sshd and rsync.
LARTPC_HOSTS ?= $(CURDIR)/../shared/tools/hosts.sh
LARTPC_SHARED ?= /srv/lartpc
test-cluster: .venv/installed-dev
	test -e $(LARTPC_SHARED)/lartpc_ray/.venv || { $(PYTHON) -m venv $(LARTPC_SHARED)/lartpc_ray/.venv && \
	  $(LARTPC_SHARED)/lartpc_ray/.venv/bin/pip install --quiet --constraint constraints.txt . ; }
	LARTPC_REHEARSALS=1 LARTPC_HOSTS=$(LARTPC_HOSTS) LARTPC_SHARED=$(LARTPC_SHARED) $(BIN)/python -m pytest -m slow tests/cluster tests/soak

# SPINE's clusters and metrics beside ours: its wheel, without its dependencies, in a folder of its own.
test-peers: .peers/spine
	$(BIN)/python -m pytest -m slow tests/peers

.peers/spine: .venv/installed-dev
	$(BIN)/pip install --quiet --target .peers --no-deps spine==1.4.3 numexpr particle hepunits

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: .venv/installed

# A dot each 2 s until a command ends, or its shell does: pip is silent for minutes.
WITH_DOTS = (while sleep 2 && kill -0 $$$$; do printf .; done) 2>/dev/null & $(1); status=$$?; kill $$!; echo; exit $$status

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; make PYTHON=python3.12")'
	@echo 'Installing into .venv: 2 GB, some minutes.'
	@$(call WITH_DOTS,$(PYTHON) -m venv .venv && $(BIN)/pip install --quiet --constraint constraints.txt --editable .)
	@touch $@

.venv/installed-dev: .venv/installed
	@echo 'Installing what the tests need into .venv: some minutes.'
	@$(call WITH_DOTS,$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]')
	@touch $@

clean:
	rm -rf .venv .peers runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
