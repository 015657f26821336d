# Two commands: `make demo` and `make test`. Each sets everything up in .venv first. `make bench` times the engine: leave the
# machine alone meanwhile, and give BENCH="saving per_task" for some of its benchmarks only. `make gpu` says in six minutes what
# only a GPU can say. `make docs` builds the site of the pages in docs/ into build/site; a warning is an error. Without a
# GPU, CPU=1 sets up with PyTorch's build for CPUs.
PYTHON ?= python3
BIN := .venv/bin

BENCH ?= $(filter $(basename $(notdir $(wildcard benchmarks/*.py))),training products allocator compiled seeds whole saving engine_share per_task)

.PHONY: demo test check docs bench gpu clean

demo: .venv/ready
	$(BIN)/python run.py demo

test: .venv/ready check
	$(BIN)/python -m pytest

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open build/site/index.html, or, to search in it too: $(BIN)/python -m http.server -d build/site"

bench: .venv/ready
	for name in $(BENCH); do \
		echo "== $$name"; \
		PYTHONPATH=. $(BIN)/python benchmarks/$$name.py > benchmarks/output/$$name.txt || exit 1; \
		cat benchmarks/output/$$name.txt; \
	done

gpu:  # with what is there: nothing is fetched
	PYTHONPATH=.$${PYTHONPATH:+:$$PYTHONPATH} $(if $(wildcard .venv/ready),$(BIN)/python,$(PYTHON)) benchmarks/gpu.py $(GPU)

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(if $(CPU),$(BIN)/pip install --quiet torch torchvision --index-url https://download.pytorch.org/whl/cpu)
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
