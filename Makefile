# Everything there is to do with this repository; `make` alone lists it.
# `make book` and `make test` need a Python >= 3.11, and set up the rest in .venv by themselves.

VENV  := .venv
HTML  := _build/html/index.html
# Runs a command in the environment, without the user's own settings of Matplotlib and IPython: they would change
# the figures, and a user without a home would get warnings instead of them.
HERE  := $(CURDIR)/$(VENV)
RUN   := PATH="$(HERE)/bin:$$PATH" MPLCONFIGDIR="$(HERE)/matplotlib" IPYTHONDIR="$(HERE)/ipython"
# Made last, so that an interrupted installation is taken up again. Its name holds this folder's path, because
# neither the environment's scripts nor the editable package survive a move.
READY := $(VENV)/ready-$(shell pwd | cksum | cut -d ' ' -f 1)

PORT  := 8000

# Python interpreters that .venv may be made with; a fitting one prints its path.
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python)
FITTING := import ensurepip, sys, venv; sys.version_info >= (3, 11) or sys.exit(1); print(sys.executable)
# True where .venv is whole, belongs to this folder and has a fitting Python.
USABLE  := $(VENV)/bin/python -c '$(FITTING)' && $(VENV)/bin/pip --version | grep -F "$(HERE)/"

.DELETE_ON_ERROR:
.PHONY: help book test mutants calibrate verify record serve bench lint format clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

book: $(HTML)  ## build the report from its recorded chapters, ready to read
	@echo "The report is built. Open this page in a browser:"
	@echo "$(CURDIR)/$(HTML)"

test: $(READY)  ## lint, unit and mutation tests, chapters re-executed and compared, strict build (ALL=1: again)
	@echo "== 1/5 lint"
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@echo "== 2/5 unit tests"
	@$(RUN) OMP_NUM_THREADS=1 pytest --quiet -n 2 --dist loadfile -m "not chapters" --ignore tests/test_html.py
	@$(RUN) OMP_NUM_THREADS=1 pytest --quiet -n 2 -m chapters tests/test_book.py
	@echo "== 3/5 mutation tests: errors made on purpose, each of which must turn a test or a check red"
	@$(RUN) python tests/mutants.py
	@echo "== 4/5 chapters, re-executed and compared with their records unless nothing changed since (ALL=1: all)"
	@$(RUN) vaebook verify $(if $(ALL),--all)
	@echo "== 5/5 the report, built with warnings as errors and opened in a browser"
	@$(RUN) pytest --quiet tests/test_html.py

mutants: $(READY)  ## make errors on purpose and see who notices (MUTANT=kl-normal-without-half: only this one)
	@$(RUN) python tests/mutants.py $(MUTANT)

calibrate: $(READY)  ## measure what tolerances another processor needs (CHAPTER=vae: of this one only)
	@$(RUN) python tests/calibration.py $(CHAPTER)

verify: $(READY)  ## execute again what changed since, and compare (CHAPTER=vae: this one, ALL=1: everything)
	@$(RUN) vaebook verify $(CHAPTER) $(if $(ALL),--all)

record: $(READY)  ## execute the chapters and replace their records (CHAPTER=vae: only this one)
	@$(RUN) vaebook record $(CHAPTER)

serve: $(HTML)  ## show the report on http://localhost:8000 (PORT=8080: on another port)
	@$(RUN) python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

bench: $(READY)  ## measure the training throughput, side by side with JAX and others, 10 minutes (QUICK=1: a trial)
	@$(RUN) python -c 'import jax' 2> /dev/null || $(VENV)/bin/pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --editable '.[bench]'
	@$(RUN) python benchmarks/throughput.py $(if $(QUICK),--quick)

lint: $(READY)  ## check the code's style
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .

format: $(READY)  ## correct the code's style
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

clean:  ## remove the built report and all caches, but not .venv
	rm -rf _build .cache .pytest_cache .ruff_cache .hypothesis
	find * -name __pycache__ -prune -exec rm -rf {} +

$(HTML): $(READY) _config.yml _toc.yml $(wildcard book/*.ipynb book/*.md book/*.bib book/_static/* vaebook/*.py)
	@echo "Building the report from its recorded chapters"
	@mkdir -p _build
	@$(RUN) jupyter-book build --all -n -W --keep-going --quiet . > _build/log 2>&1 || { cat _build/log; exit 1; }
	@touch $@

$(READY): pyproject.toml constraints.txt
	@if ! { $(USABLE); } > /dev/null 2>&1; then \
	    python=$$(for candidate in $(PYTHONS); do "$$candidate" -c '$(FITTING)' 2> /dev/null && break; done); \
	    if [ -z "$$python" ]; then \
	        echo "No Python >= 3.11 with its venv module found; tried: $(PYTHONS)." >&2; \
	        echo "Install one (Debian, Ubuntu: apt install python3-venv) or name it: make PYTHON=/path/to/python3" >&2; \
	        exit 1; \
	    fi; \
	    echo "Creating $(VENV) with $$python"; \
	    "$$python" -m venv --clear $(VENV); \
	fi
	@echo "Installing the versions in constraints.txt into $(VENV) (the first time this takes some minutes)"
	@$(VENV)/bin/pip install $$(test -t 1 || echo -qq) --disable-pip-version-check \
	    --constraint constraints.txt --editable '.[book,test,dev]'
	@$(RUN) python -c 'import matplotlib.font_manager'
	@touch $@
