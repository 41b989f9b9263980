# `make demo`: install, run the embedded default, say where the report is. `make test`: the tests.
VENV ?= .venv
PYTHON ?= python3
CORES ?= all
BIN = $(VENV)/bin
# Two processes: some tests start processes of their own. A file stays in one, with its fixtures. The
# files that take longest come first (testpaths in pyproject.toml), so that none is left at the end.
PARALLEL = -n 2 --dist loadfile --no-loadscope-reorder
RUN = PATH="$(CURDIR)/$(BIN):$$PATH"

# CAMELYON-17's labels: `stages.csv` of the challenge, or ours beside the project.
LABELS ?= ../shared/data/labels/camelyon17_stage_labels.csv

.PHONY: demo test test-all viewer lint format schema camelyon17-small clean

demo: $(VENV)/.installed
	$(RUN) snakemake --cores $(CORES) --quiet rules

test: $(VENV)/.installed-dev
	$(RUN) pytest -m "not slow" $(PARALLEL)

test-all: $(VENV)/.installed-dev
	$(RUN) pytest $(PARALLEL)

# The page of `wsi-ncmi view`, from TypeScript: needs Node.js with npm.
viewer: wsi_ncmi/tools/view/page/viewer.js

VIEWER = $(wildcard viewer/src/*.ts viewer/src/*/*.ts) viewer/index.html viewer/viewer.css viewer/build.mjs
wsi_ncmi/tools/view/page/viewer.js: viewer/node_modules/.installed $(VIEWER)
	cd viewer && npm run --silent check && npm run --silent build

viewer/node_modules/.installed: viewer/package.json viewer/package-lock.json
	@command -v npm > /dev/null || { echo "make viewer needs Node.js 20 or newer with npm"; exit 1; }
	cd viewer && npm ci --ignore-scripts --no-fund --no-audit
	touch $@

lint: $(VENV)/.installed-dev
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) snakemake --lint

format: $(VENV)/.installed-dev
	$(RUN) ruff format .
	$(RUN) ruff check --fix .
	$(RUN) snakefmt Snakefile workflow

schema: $(VENV)/.installed
	$(RUN) wsi-ncmi schema --out workflow/schemas --docs config/README.md docs/aggregators.md docs/losses.md

# The configuration of CAMELYON-17 on 500 synthetic slides in its format, with its real labels, fetched
# from a local S3 server whose network fails. The server is moto, of the test dependencies.
SMALL = results/camelyon17-small
camelyon17-small: $(VENV)/.installed-dev
	@test -f "$(LABELS)" || { echo "no label file $(LABELS): make $@ LABELS=stages.csv"; exit 1; }
	$(RUN) wsi-ncmi camelyon17 demo --labels "$(LABELS)" --slides 500 \
		--out $(SMALL)/bucket/CAMELYON17 --threads 2
	$(RUN) python tests/camelyon17/small.py --bucket $(SMALL)/bucket/CAMELYON17 --out $(SMALL)

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf results .snakemake
