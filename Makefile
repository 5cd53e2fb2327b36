# make demo | setup | test | notebooks | lab | app | lint | lock | sbom | audit | fuzz
# Needs Python 3.10 or later (tried: 3.11), gcc and make.
#
# The lock files pin every package for Linux on x86-64 with Python 3.11, each by the sha256 of its files: pip refuses another
# file. torch is apart, since each of its builds (CPU, CUDA) is another file: the one that pip finds is taken; CI asks for the
# CPU build by its hash (.ci/run). For torch with CUDA, or elsewhere, put pip's options for the torch build that you want into
# PIP_FLAGS, for example its own package index:
#   make setup PIP_FLAGS="--index-url <the index of that torch build> --extra-index-url <your usual index>"
# or install torch into .venv yourself before `make setup`: a build of the pinned version is kept.

PYTHON ?= python3
PIP_FLAGS ?=
TORCH ?= $(shell grep -o '^torch==[0-9.]*' requirements-torch.lock)
BIN := .venv/bin
TOOLS := build/tools/bin
LOCK := $(TOOLS)/uv pip compile --quiet --python-version 3.11.7 --python-platform x86_64-manylinux_2_28 --only-binary :all: \
	--generate-hashes --no-emit-package torch --no-annotate --custom-compile-command "make lock" pyproject.toml
IMAGE ?= $(firstword $(sort $(wildcard data/samples/portraits/*.png)))
AUDIO ?= $(firstword $(sort $(wildcard data/samples/speech/*.wav)))

.PHONY: demo setup test notebooks lab app lint lock sbom audit fuzz
.DEFAULT_GOAL := demo

demo: setup
	mkdir -p figures
	$(BIN)/nfs talk --image "$(IMAGE)" --audio "$(AUDIO)" --out figures/demo.mp4 --orbit --profile fast

setup: .venv/.complete

.venv/.complete: requirements.lock requirements-torch.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed; give one with PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --require-hashes --no-deps --only-binary :all: -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check --disable-pip-version-check
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# Two processes of one thread each: on two cores nearly twice as fast as one of two, and a notebook stays in one process. In
# the order of their names, which leaves no long file to the end.
test: lint
	NFS_PROFILE=fast OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --nbval notebooks -n 2 --dist loadfile --no-loadscope-reorder

# Hours; it goes on where it was stopped. Figures: fuzz/figures.md
fuzz: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris==3.0.0
	$(BIN)/python -m fuzz.run

notebooks: setup
	$(BIN)/python scripts/run_notebooks.py

lab: setup
	$(BIN)/jupyter lab notebooks/00_quickstart.ipynb

app: setup
	$(BIN)/voila notebooks/05_alignment.ipynb

# The lock files anew from pyproject.toml. Versions that they name are kept; `make lock UPGRADE=--upgrade` takes the newest.
lock: $(TOOLS)/uv
	$(LOCK) $(UPGRADE) -c requirements-torch.lock --extra notebooks --extra test -o requirements.lock
	$(LOCK) $(UPGRADE) -c requirements-torch.lock -c requirements.lock --extra train -o requirements-train.lock

sbom: setup
	$(BIN)/python scripts/make_sbom.py build/sbom.cdx.json

# Known vulnerabilities of the locked packages. Asks PyPI's service, so it needs a network; no part of `make test`.
audit: $(TOOLS)/uv
	$(TOOLS)/pip-audit --strict --disable-pip -r requirements.lock -r requirements-torch.lock -r requirements-train.lock

$(TOOLS)/uv:
	$(PYTHON) -m venv build/tools
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 pip-audit==2.10.1
