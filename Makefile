# Everything that a visitor or a contributor runs. `make` alone lists it.
#
# Needs: a Rust toolchain, a C linker, Python >= 3.11 with venv. The rest is installed into a virtual
# environment of its own for each Python version (`make test PYTHON=python3.13`).

PYTHON ?= python3
JOBS   ?= $(shell nproc)
CARGO  ?= cargo

PYTAG  := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV   := .venv-$(PYTAG)
BIN    := $(VENV)/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)
WHEELS := $(TARGET)/wheels-$(PYTAG)
LOGS   := $(TARGET)/test-logs
ECOSYSTEM := .venv-ecosystem-$(PYTAG)
SUITES_VENV := .venv-suites-$(PYTAG)
RIVALS_VENV := .venv-rivals-$(PYTAG)

# The Python crate is a cdylib: it is tested through the wheel, by pytest.
RUST_TESTS := --workspace --exclude procession-pyffi --exclude procession-python \
	--features procession-engine/kill-points,procession/async,procession/python

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test test-rust test-loom test-python kill faults soak fuzz asan tsan miri oldest package \
	conformance ecosystem suites bench bench-check bench-curves bench-instructions bench-python bench-rivals \
	bench-rust lint format install wheels clean

export CARGO_BUILD_JOBS ?= $(JOBS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.13 picks the interpreter; JOBS=n bounds the build."

DEMO := tour scrape with_python for_python

# With procession-python among the packages, cargo gives shared crates the features they have in the wheel, and does not
# build them again.
demo: install ## run programs in Python, in Rust and in both, and what the standard library cannot do
	@echo "Building the demonstration programs in Rust ..."
	$(CARGO) build --locked --release --package procession-python --package procession \
		--features procession/python $(addprefix --example ,$(DEMO))
	@$(BIN)/python examples/demo.py $(TARGET)/release/examples

test: test-rust test-loom test-python ## run every test and say how many ran
	@.ci/tally $(LOGS)/rust.log $(LOGS)/loom.log $(LOGS)/python.log

test-rust: ## unit, integration and documentation tests of the crates, with a sample of the kill matrix
	@.ci/logged $(LOGS)/rust.log $(CARGO) test --locked --no-fail-fast $(RUST_TESTS)

test-loom: ## the protocols under every interleaving (loom)
	@RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$(TARGET)/loom \
		.ci/logged $(LOGS)/loom.log $(CARGO) test --locked --release --package procession-engine --lib models

test-python: install ## the tests of the Python package, and of the Rust crate where the two meet
	$(CARGO) build --locked --quiet --package procession --features python --examples
	@.ci/logged $(LOGS)/python.log timeout $$([ -t 0 ] && echo --foreground) --kill-after=30 1500 $(BIN)/python -m pytest

kill: ## the whole kill matrix: SIGKILL at every named step and after every k-th instruction
	PROCESSION_KILL=full $(CARGO) test --release --locked --package procession-engine --features kill-points --test kill

faults: install ## provoke every fault, 20 times, and the standard library once (REPEAT=3 METHOD=spawn ONLY=lock)
	$(BIN)/python -m faults.run $(if $(REPEAT),--repeat $(REPEAT)) $(if $(METHOD),--method $(METHOD)) \
		$(if $(ONLY),--only $(ONLY))

soak: install ## kill processes at random for half an hour (MINUTES=5)
	$(BIN)/python -m faults.soak --minutes $(or $(MINUTES),30)

fuzz: install ## feed nonsense to decoder, memory and handshake for half an hour each (MINUTES=5)
	for target in wire arena handshake; do \
		$(BIN)/python -m faults.fuzz --target $$target --minutes $(or $(MINUTES),30) || exit; done

asan: ## the engine's tests under the address sanitizer (needs a nightly toolchain)
	RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=$(TARGET)/asan $(CARGO) +nightly test --locked \
		--package procession-engine --target $$($(CARGO) +nightly -vV | sed -n 's/^host: //p')

# Std must be built for it too. The tests have threads, and fork.
tsan: ## the engine's tests under the thread sanitizer (needs a nightly toolchain with rust-src)
	RUSTFLAGS="-Zsanitizer=thread" TSAN_OPTIONS="die_after_fork=0 halt_on_error=1" CARGO_TARGET_DIR=$(TARGET)/tsan \
		$(CARGO) +nightly test -Zbuild-std --target $$($(CARGO) +nightly -vV | sed -n 's/^host: //p') \
		--package procession-engine --lib --tests

# Provenance is permissive because rustix casts the argument of a futex call to a pointer. The tests of child processes
# are left out: they fork, or register themselves with inline assembly.
miri: ## what one process does, under Miri (needs a nightly toolchain with miri and rust-src)
	MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-permissive-provenance" CARGO_TARGET_DIR=$(TARGET)/miri \
		$(CARGO) +nightly miri test --locked --package procession-engine --package procession-wire --lib --test miri -- --skip process::child

# As the manifest says.
OLDEST_RUST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
oldest: install ## build with the oldest supported Rust, test as on the oldest supported Linux
	rustup toolchain install --profile minimal $(OLDEST_RUST)
	$(CARGO) +$(OLDEST_RUST) check --locked --package procession --all-features
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(abspath $(BIN)/python) $(abspath faults/old_kernel.py)" \
		$(CARGO) test --locked --package procession --all-features --tests

package: ## check what crates.io would take
	# In a folder of its own: cargo would reuse packages of the same version that it unpacked before.
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(CARGO) package --locked --target-dir "$$folder" \
		--package procession-derive --package procession-engine --package procession-wire --package procession

conformance: install ## CPython's own tests of multiprocessing, against this package (START=spawn, SUITE=futures)
	$(BIN)/python tests/conformance/run.py --start $(or $(START),all) --suite $(or $(SUITE),all)

ecosystem: install ## programs of libraries from PyPI on this package (TORCH=1 for torch, a large download)
	@test -x $(ECOSYSTEM)/bin/python || $(PYTHON) -m venv $(ECOSYSTEM)
	$(ECOSYSTEM)/bin/pip install --quiet --requirement tests/ecosystem/requirements.txt \
		$(if $(TORCH),--requirement tests/ecosystem/requirements-torch.txt)
	$(ECOSYSTEM)/bin/pip install --quiet --no-deps --force-reinstall $(WHEELS)/procession-*.whl
	PROCESSION_ECOSYSTEM=1 $(ECOSYSTEM)/bin/python -m pytest tests/ecosystem $(if $(TORCH),,--ignore tests/ecosystem/test_torch.py)

suites: install ## the tests of libraries from PyPI and of CPython, beside the standard library (ONLY=loky, RUNS=3, REPEAT=3)
	@test -x $(SUITES_VENV)/bin/python || $(PYTHON) -m venv $(SUITES_VENV)
	$(SUITES_VENV)/bin/pip install --quiet --requirement tests/suites/requirements.txt
	$(SUITES_VENV)/bin/pip download --quiet --no-deps --dest $(TARGET)/suites --requirement tests/suites/sources.txt
	$(SUITES_VENV)/bin/pip install --quiet --no-deps --force-reinstall $(WHEELS)/procession-*.whl
	$(SUITES_VENV)/bin/python tests/suites/run.py --archives $(TARGET)/suites --verbose \
		--json $(TARGET)/suites/results-$(PYTAG).json $(if $(ONLY),--only $(ONLY)) \
		$(if $(RUNS),--runs $(RUNS)) $(if $(REPEAT),--repeat $(REPEAT))

bench: bench-python bench-rust $(if $(RIVALS),bench-rivals) ## measure against the standard library (ONLY=queue, REPEAT=9, RIVALS=1)

BENCH := $(if $(ONLY),--only $(ONLY)) $(if $(REPEAT),--repeat $(REPEAT))

bench-check: install ## fail if a row of the table misses its floor, or is surely slower than the stdlib (15 runs)
	$(BIN)/python benches/run.py --check --repeat 15 $(if $(ONLY),--only $(ONLY))

bench-python: install
	$(BIN)/python benches/run.py $(BENCH)

bench-rust:
	$(CARGO) bench --locked --package procession --bench table -- $(BENCH) $(if $(ONLY),,| tee benches/results-rust.md)

bench-rivals: install ## measure beside other libraries, in both languages
	@test -x $(RIVALS_VENV)/bin/python || $(PYTHON) -m venv $(RIVALS_VENV)
	$(RIVALS_VENV)/bin/pip install --quiet --requirement benches/requirements-rivals.txt
	$(RIVALS_VENV)/bin/pip install --quiet --no-deps --force-reinstall $(WHEELS)/procession-*.whl
	$(RIVALS_VENV)/bin/python benches/run.py --rivals $(BENCH)
	$(CARGO) run --locked --release --quiet --manifest-path benches/rivals-rust/Cargo.toml -- $(BENCH) \
		$(if $(ONLY),,| tee benches/results-rivals-rust.md)

bench-curves: bench-rivals ## cost against size and against the number of workers, with plots
	$(RIVALS_VENV)/bin/python benches/curves.py
	$(RIVALS_VENV)/bin/python benches/curves.py --draw

bench-instructions: install ## compare the hot paths of two commits by instruction counts (AGAINST=commit; needs valgrind)
	$(BIN)/python benches/instructions.py $(or $(AGAINST),HEAD)

# The manifest says the oldest; some signatures of the stdlib's differ between them.
NEWEST_PYTHON := 3.14

lint: install ## check format, lints, documentation and types
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path benches/rivals-rust/Cargo.toml --check
	PYO3_PYTHON=$(abspath $(BIN)/python) $(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings
	PYO3_PYTHON=$(abspath $(BIN)/python) RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --all-features
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/mypy --python-version $(NEWEST_PYTHON) --follow-imports silent tests/typing/programs
	$(BIN)/pyright --pythonpath $(BIN)/python --pythonversion $(NEWEST_PYTHON) tests/typing/programs
	MYPYPATH=python $(BIN)/python -m mypy.stubtest --allowlist .ci/stubtest --ignore-unused-allowlist procession._native

format: $(VENV)/.ready ## rewrite the sources in the house format
	$(CARGO) fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/.ready ## build the wheel and put it into the virtual environment
	@echo "Building the Python package (the first time takes minutes) ..."
	@rm -rf $(WHEELS)
	$(BIN)/maturin build --locked --release --interpreter $(BIN)/python --out $(WHEELS)
	@$(BIN)/pip install --quiet --no-deps --force-reinstall $(WHEELS)/procession-*.whl

# Zig links against the symbols of glibc 2.17, so that the wheel runs on every Linux of the last ten years.
ZIG := ziglang==0.17.1

wheels: install ## fill dist/ with what PyPI takes: the engine's wheel, the pure one for other systems, the source
	@rm -rf dist
	$(BIN)/pip install --quiet $(ZIG)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/maturin build --locked --release --zig --compatibility manylinux_2_17 \
		--interpreter $(BIN)/python --out dist
	$(BIN)/maturin sdist --out dist
	cd fallback && $(abspath $(BIN))/python -c 'from backend import build_wheel; build_wheel("../dist")'
	PROCESSION_WHEELS=$(abspath dist) $(BIN)/python -m pytest tests/drop_in/test_wheels.py tests/drop_in/test_pure_wheel.py

$(VENV)/.ready: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Procession needs Python 3.11 or newer with venv; pick one: make PYTHON=python3.13" >&2; exit 1; }
	@echo "Making a virtual environment in $(VENV), with the tools of requirements-dev.txt ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements-dev.txt
	@touch $@

clean: ## remove what was built
	$(CARGO) clean
	rm -rf .venv-* dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
