# Cardinal. `make help` lists the commands.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
SKIPS := $(abspath $(TARGET_DIR))/skipped-tests.txt

.PHONY: help run test bench check fmt tools

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Builds the release binary and starts the quick start of the README
	@scripts/install-test-deps.sh --build
	cargo build --release --package cardinal
	@exec scripts/quickstart.sh "$(TARGET_DIR)/release/cardinal"

# Tests add a line to the file when they are skipped; CARDINAL_REQUIRE_ALL=1 makes a missing tool a failure.
test: ## Installs what tests need, runs all of them and lists those that were skipped
	@scripts/install-test-deps.sh
	cargo test --workspace --no-run
	@mkdir -p "$(TARGET_DIR)" && rm -f "$(SKIPS)"
	@echo "cargo test --workspace"; status=0; CARDINAL_SKIPS="$(SKIPS)" cargo test --workspace || status=$$?; \
	  if [ -s "$(SKIPS)" ]; then echo; echo "Skipped tests:"; sort "$(SKIPS)" | sed 's/^/  /'; \
	  else echo; echo "No test was skipped."; fi; exit $$status

bench: ## Installs nginx, HAProxy and Envoy and measures them and Cardinal: writes docs/benchmarks.md anew, in half an hour
	@scripts/install-test-deps.sh --bench
	cargo build --profile dist --package cardinal --package cardinal-bench
	"$(TARGET_DIR)/dist/cardinal-bench" --write

# Clippy and rustdoc share what they compile of the dependencies. The developer commands are built with the features of
# the whole workspace, so that `make test` finds their dependencies ready.
check: ## Formatting, lints, documentation, floors, tidiness, generated pages, what requests cost in instructions, and the dependency rules where cargo-deny is installed
	@scripts/install-test-deps.sh --check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	cargo build --workspace --bin xtask
	"$(TARGET_DIR)/debug/xtask" floors
	"$(TARGET_DIR)/debug/xtask" tidy
	"$(TARGET_DIR)/debug/xtask" gen --check
	@if cargo deny --version >/dev/null 2>&1; then \
	  echo "cargo deny check"; cargo deny --log-level error check; \
	else \
	  echo "cargo-deny is not installed: the rules of deny.toml were not checked (make tools installs it)"; \
	fi
	"$(TARGET_DIR)/debug/xtask" guard

fmt: ## Formats the code
	cargo fmt --all

tools: ## Installs the optional tools: cargo-deny, cargo-fuzz and the nightly compiler it needs
	cargo install --locked cargo-deny cargo-fuzz
	@if command -v rustup >/dev/null 2>&1; then rustup toolchain install nightly --profile minimal; fi
