# Two commands for users (demo, test), the rest for developers. Each makes what it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check rest test-slow test-serve test-ray test-milvus test-frameworks test-javascript test-all lint format bench dist docs lock clean
.DEFAULT_GOAL := help

help:
	@echo "make demo        install the package into $(VENV) and ask ten questions of the texts in examples/"
	@echo "make test        install what the tests need and run those for every change (4 minutes at most)"
	@echo "make check       all that CI runs: make test, lint, docs, and each of the following"
	@echo "make test-slow   the tests that take more than two seconds each"
	@echo "make test-serve  the server: its tests, and its page in Chromium if there is one"
	@echo "make test-ray    a cluster: two nodes of Ray on this machine, one of which is killed; not in make check: it takes minutes"
	@echo "make test-milvus an index in Milvus, with the server that milvus-lite brings"
	@echo "make test-frameworks  the components for LangChain and LlamaIndex; not in make check: they bring 230 MB"
	@echo "make test-javascript  the package for browsers, in Node.js and in Chromium; not in make check: npm brings 170 MB"
	@echo "make test-all    all tests, those of minutes too"
	@echo "make lint        ruff, mypy, and import-linter, which holds the order of the rooms"
	@echo "make docs        the documentation site, in build/docs; fails at a warning or a link that leads nowhere"
	@echo "make bench       measure speed side by side; the table and the picture go to results/"
	@echo "make lock        write requirements-container.txt again, with uv: the newest versions that pyproject.toml allows"
	@echo "make dist        build wheels and sdists, of the models in models/ too, and prove them; PYTHONS=\"python3.12 ...\" names more interpreters"

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "dynamic-tinybert needs Python 3.10 or later")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.made
	$(PIP) --editable .
	@touch $@

# PyTorch is pinned and comes first: a newer one would bring other gigabytes. Where pip finds no CPU build by itself, as
# it does on macOS and Windows, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu has one.
$(VENV)/.test: $(VENV)/.installed
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.test-serve: $(VENV)/.test
	$(PIP) --editable '.[test-serve]'
	@touch $@

$(VENV)/.test-ray: $(VENV)/.test
	$(PIP) --editable '.[test-ray]'
	@touch $@

$(VENV)/.test-milvus: $(VENV)/.test
	$(PIP) --editable '.[test-milvus]'
	@touch $@

$(VENV)/.test-frameworks: $(VENV)/.test
	$(PIP) --editable '.[test-frameworks]'
	@touch $@

$(VENV)/.test-javascript: $(VENV)/.test javascript/package-lock.json
	$(PIP) --editable '.[test-javascript]'
	npm --prefix javascript ci --no-audit --no-fund
	@touch $@

$(VENV)/.lint: $(VENV)/.installed
	$(PIP) --editable '.[lint]'
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(PIP) --editable '.[bench]'
	@touch $@

$(VENV)/.dist: $(VENV)/.installed
	$(PIP) --editable '.[dist]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not long and not serve and not ray and not milvus and not frameworks and not javascript"

check: test rest

rest: lint docs test-slow test-serve test-milvus

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and not long and not serve and not ray and not milvus and not frameworks and not javascript"

test-serve: $(VENV)/.test-serve
	@command -v chromium >/dev/null || echo "Without Chromium the page is not tested; on Debian: apt-get install chromium"
	$(BIN)/python -m pytest -m "serve and not long"

test-ray: $(VENV)/.test-ray
	$(BIN)/python -m pytest -m "ray and not long"

test-milvus: $(VENV)/.test-milvus
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "milvus and not long"

test-frameworks: $(VENV)/.test-frameworks
	$(BIN)/python -m pytest -m "frameworks and not long"

test-javascript: $(VENV)/.test-javascript
	$(BIN)/python -m pytest -m "javascript and not long"

test-all: $(VENV)/.test-serve $(VENV)/.test-ray $(VENV)/.test-milvus $(VENV)/.test-frameworks $(VENV)/.test-javascript
	$(BIN)/python -m pytest

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.speed.speed --f1 results/quality/dev.json

dist: $(VENV)/.dist
	$(BIN)/python scripts/check_dist.py $(foreach python,$(PYTHONS),--python $(python))

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -c docs . build/docs
	$(BIN)/python scripts/check_site.py build/docs

lock:
	uv pip compile pyproject.toml --extra serve --extra corpus --universal --python-version 3.10 --generate-hashes \
	    --no-emit-index-url --no-header --quiet --upgrade -o requirements-container.txt
	@sed -i '1i # What the image of Containerfile installs, with hashes, for Python 3.10 and later. `make lock` writes it again.' \
	    requirements-container.txt

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
