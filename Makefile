# Two commands: `make reproduce` and `make test`. Both set up .venv first, once.
PYTHON ?= python3.11
STUDY := studies/miniature
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: setup reproduce test test-slow lint lock generated clean

setup:
	@PYTHON=$(PYTHON) workflow/setup.sh

reproduce: setup
	@snakemake --directory $(STUDY) all write_index
	@onetok compare --study $(STUDY); status=$$?; \
	echo "every table and picture on one page: $(STUDY)/results/index.html"; exit $$status

test: setup lint
	@pytest -n 2 --dist loadfile -m "not slow and not gpu"

test-slow: setup
	@pytest -n 2 --dist loadfile -m slow

lint: setup
	@ruff check .
	@ruff format --check .
	@snakefmt --check Snakefile workflow
	@mypy
	@snakemake --lint --directory $(STUDY)

# What is generated and kept in git; a test fails when it is stale.
generated: setup
	@onetok generated

lock: setup
	@uv pip compile pyproject.toml --extra captions --extra dev --generate-hashes --python-version 3.11 --no-header --no-annotate -o requirements.lock

clean:
	rm -rf $(STUDY)/results $(STUDY)/.snakemake
