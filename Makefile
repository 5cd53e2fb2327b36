# make demo | setup | test | notebooks | lab | app | lint      Needs Python 3.10 or later (tried: 3.11), gcc and make.
#
# The lock files pin every package for Linux on x86-64 with Python 3.11. For torch with CUDA, or elsewhere, put
# pip's options for the torch build that you want into PIP_FLAGS, for example its own package index:
#   make setup PIP_FLAGS="--index-url <the index of that torch build> --extra-index-url <your usual index>"
# or install torch into .venv yourself before `make setup`: a build of the pinned version is kept.

PYTHON ?= python3
PIP_FLAGS ?=
BIN := .venv/bin
IMAGE ?= $(firstword $(sort $(wildcard data/samples/portraits/*.png)))
AUDIO ?= $(firstword $(sort $(wildcard data/samples/speech/*.wav)))

.PHONY: demo setup test notebooks lab app lint
.DEFAULT_GOAL := demo

demo: setup
	mkdir -p figures
	$(BIN)/nfs talk --image "$(IMAGE)" --audio "$(AUDIO)" --out figures/demo.mp4 --orbit --profile fast

setup: .venv/.complete

.venv/.complete: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed; give one with PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# Two processes of one thread each: on two cores nearly twice as fast as one of two, and a notebook stays in one process.
test: lint
	NFS_PROFILE=fast OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --nbval notebooks -n 2 --dist loadfile

notebooks: setup
	$(BIN)/python scripts/run_notebooks.py

lab: setup
	$(BIN)/jupyter lab notebooks/00_quickstart.ipynb

app: setup
	$(BIN)/voila notebooks/05_alignment.ipynb
