# The two commands: `make demo` (a model trained on this machine, in minutes) and `make test`. `make demo-all` also makes
# models of pictures.
# Everything happens inside .venv; each set of parts is installed again only when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
INSTALL := -m pip install --disable-pip-version-check
BENCH := .venv-bench
LITGPT := .venv-litgpt
SDV := .venv-sdv
MOSTLY := .venv-mostly
ANONYMETER := .venv-anonymeter

.PHONY: demo demo-all test lint bench picture clean

demo: $(STAMPS)/core
	$(BIN)/python -m bottega demo

demo-all: $(STAMPS)/images
	$(BIN)/python -m bottega demo --all

test: $(STAMPS)/test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(STAMPS)/lint
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports

# The programs we measure against live in environments of their own, so that they cannot disturb ours.
bench: $(BENCH)/.stamp $(LITGPT)/.stamp $(SDV)/.stamp $(MOSTLY)/.stamp $(ANONYMETER)/.stamp
	$(BENCH)/bin/python benchmarks/decode.py
	$(BENCH)/bin/python benchmarks/serve.py workshop/models/python-assistant-dpo
	$(BENCH)/bin/python benchmarks/train_text.py --litgpt-python $(LITGPT)/bin/python
	$(BENCH)/bin/python benchmarks/images.py
	$(BENCH)/bin/python benchmarks/pictures_quality.py
	$(if $(BOTTEGA_DATA),$(BENCH)/bin/python benchmarks/private_tables.py)
	$(if $(BOTTEGA_DATA),$(BENCH)/bin/python benchmarks/real_pictures.py)
	$(BENCH)/bin/python benchmarks/tables.py --sdv-python $(SDV)/bin/python --mostly-python $(MOSTLY)/bin/python
	$(BENCH)/bin/python benchmarks/table_scale.py
	$(BENCH)/bin/python benchmarks/graphs.py $(if $(BOTTEGA_DATA),--molecules)
	$(if $(BOTTEGA_DATA),$(BENCH)/bin/python benchmarks/table_augmentation.py)
	$(if $(BOTTEGA_DATA),$(BENCH)/bin/python benchmarks/table_attacks.py --anonymeter-python $(ANONYMETER)/bin/python)

# The documentation's pictures, from the demo's report and from the studio over the demo's models.
picture: demo/report.html $(STAMPS)/test
	chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1100,1500 \
		--screenshot=docs/img/report.png "file://$(CURDIR)/demo/report.html"
	$(BIN)/python -m tests.browser.screenshots docs/img

# Virtual environment, models, datasets and reports: everything that can be made again.
clean:
	rm -rf $(VENV) $(BENCH) $(LITGPT) $(SDV) $(MOSTLY) $(ANONYMETER) workshop demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Bottega needs Python 3.11 or newer, this is " + sys.version.split()[0] \
		+ "; name another with: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(STAMPS)/core: $(VENV)/bin/python pyproject.toml
	@echo "Installing Bottega and the parts it stands on into $(VENV): minutes the first time, nothing after that"
	$(BIN)/python $(INSTALL) --editable .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/test $(STAMPS)/lint $(STAMPS)/images: $(STAMPS)/%: $(STAMPS)/core
	$(BIN)/python $(INSTALL) --quiet --editable ".[$*]"
	@touch $@

$(BENCH)/.stamp: pyproject.toml benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python $(INSTALL) --editable ".[test]" --requirement benchmarks/requirements.txt
	@touch $@

$(LITGPT)/.stamp: benchmarks/requirements-litgpt.txt
	$(PYTHON) -m venv $(LITGPT)
	$(LITGPT)/bin/python $(INSTALL) --requirement benchmarks/requirements-litgpt.txt
	@touch $@

$(SDV)/.stamp: benchmarks/requirements-sdv.txt
	$(PYTHON) -m venv $(SDV)
	$(SDV)/bin/python $(INSTALL) --requirement benchmarks/requirements-sdv.txt
	@touch $@

$(ANONYMETER)/.stamp: benchmarks/requirements-anonymeter.txt
	$(PYTHON) -m venv $(ANONYMETER)
	$(ANONYMETER)/bin/python $(INSTALL) --requirement benchmarks/requirements-anonymeter.txt
	@touch $@

# A torchvision of another build than torch breaks the engine's import, and tables need none.
$(MOSTLY)/.stamp: benchmarks/requirements-mostly.txt
	$(PYTHON) -m venv $(MOSTLY)
	$(MOSTLY)/bin/python $(INSTALL) --requirement benchmarks/requirements-mostly.txt
	$(MOSTLY)/bin/python -m pip uninstall --yes torchvision torchaudio
	@touch $@
