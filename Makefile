# Everyday tasks; `make` alone lists them. Where a program is missing, scripts/install.sh installs it.

FEATURES := redis tls prometheus shared derive uuid test-util cli relay
# Packages of their own: what they need is not compiled with the crate. They run optimized, and
# build below target/ (see their .cargo/config.toml).
APART := tests/models tests/shuttle tests/instructions
# The tests of the crate itself that need no server.
ALONE := --all-features --lib --bins --test promises --test allocations
INSTALL := @scripts/install.sh
# What the tests run on beside the system's redis-server; see scripts/servers.py.
SERVERS ?= redis-6.2 redis-8.2 valkey-8.1 valkey-9.1
# Too old to run on: the tests see it refused.
CURRENT = $(filter-out redis-6.2,$(SERVERS))

.PHONY: help quick test servers lint soak fuzz bench bench-instructions stack image dashboards-preview

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  \1: /p' $(MAKEFILE_LIST)

quick: ## the tests that need no server and nothing installed, in less than a minute
	@if cargo nextest --version >/dev/null 2>&1; then \
		set -x; cargo nextest run --profile quick $(ALONE); \
	else \
		set -x; cargo test $(ALONE) -- --skip bus::redis::tests; \
	fi

# The runner with its summary comes last, so that the end of the output says how it went.
test: ## all tests, against real servers that the tests start themselves
	$(INSTALL) redis-server postgresql openssl python curl prometheus kubectl valgrind servers
	@for apart in $(APART); do \
		(set -x; cd $$apart && cargo test --release --tests) || exit 1; \
	done
	cargo test --doc --workspace --all-features
	@if cargo nextest --version >/dev/null 2>&1; then \
		set -x; scripts/servers.py test servers $(CURRENT) && cargo nextest run --workspace --all-features; \
	else \
		for server in $(CURRENT); do \
			(set -x; REDIS_SERVER_BIN=$$PWD/target/servers/$$server cargo test --all-features --lib --test redis) || exit 1; \
		done; \
		set -x; cargo test --workspace --all-features --lib --bins --tests --examples; \
	fi

servers: ## the tests that need Redis on each server, and a table of how they went; needs cargo-nextest
	$(INSTALL) redis-server openssl python servers
	scripts/servers.py test redis system $(CURRENT)

lint: ## format, clippy, documentation, every feature alone, the oldest Rust, licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	cargo fmt --check --manifest-path benches/Cargo.toml
	cargo clippy --locked --manifest-path benches/Cargo.toml --all-targets --all-features -- -D warnings
	@for apart in $(APART); do \
		(set -x; cd $$apart && cargo fmt --check && cargo clippy --release --tests -- -D warnings) || exit 1; \
	done
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --all-features
	cargo check --no-default-features
	@for feature in $(FEATURES); do \
		(set -x; cargo check --no-default-features --features $$feature) || exit 1; \
	done
	@oldest=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	toolchain=$$(rustup toolchain list 2>/dev/null | sed -n "s/^\($$oldest\(\.[0-9]*\)\{0,1\}\)-.*/\1/p" | head -n 1); \
	if [ -n "$$toolchain" ]; then \
		set -x; cargo +$$toolchain check --all-features --locked --lib --bins; \
	else \
		echo "Rust $$oldest is not installed: the oldest version that is promised is not checked (rustup toolchain install $$oldest --profile minimal)"; \
	fi
	@if cargo deny --version >/dev/null 2>&1; then \
		set -x; cargo deny check bans licenses sources || exit 1; \
		if cargo deny fetch db; then cargo deny check advisories; \
		else echo 'the advisories cannot be fetched: they are not checked'; fi; \
	else \
		echo 'cargo-deny is not installed: licences, sources and advisories are not checked'; \
	fi

# One part after the other, for they judge different things of a machine that each has for itself. What
# the parts say themselves comes last, after the words of the test's runner.
soak: ## the long scenarios; then faults at random on a fleet under load, and on 64 tasks of one process: SOAK_SECONDS=60 each, SOAK_SEED repeats a run
	$(INSTALL) redis-server
	cargo build --all-features --example accounts
	cargo test --all-features --test scenarios -- --ignored --test-threads=1 scenario_
	@SOAK_SUMMARY=$$(mktemp) || exit 1; export SOAK_SUMMARY; status=0; \
	for part in soak::faults_at_random_keep_the_bound_for_as_long_as_you_like stress::sixty_four_tasks_read_nothing_stale_for_as_long_as_you_like; do \
		lines=$$(wc -l <"$$SOAK_SUMMARY"); \
		(set -x; cargo test --all-features --test redis -- --ignored --exact --nocapture $$part) || status=$$?; \
		[ $$(wc -l <"$$SOAK_SUMMARY") -gt $$lines ] || \
			echo "$${part%%::*}: NOT SURVIVED, it ended early: see above" >>"$$SOAK_SUMMARY"; \
	done; \
	cat "$$SOAK_SUMMARY"; rm -f "$$SOAK_SUMMARY"; exit $$status

bench: ## benchmarks beside peers, into docs/benchmarks.md; ends with a table of goals (under fifteen minutes)
	$(INSTALL) redis-server postgresql
	cargo build --release --locked --manifest-path benches/Cargo.toml
	cargo build --release --locked --manifest-path benches/Cargo.toml --features relay --bin relay
	benches/target/release/all --document docs/benchmarks.md

bench-instructions: ## instructions a hit takes, beside quick_cache's; the same number each time
	$(INSTALL) valgrind
	@cd tests/instructions && cargo build --release && cargo run --release --quiet

stack: ## Redis, three instances under load and Prometheus as plain processes; Ctrl-C ends them. FLAGS=--faults, FLAGS=--relay
	$(INSTALL) redis-server prometheus $(if $(findstring --relay,$(FLAGS)),postgresql)
	cargo build --release --example accounts $(if $(findstring --relay,$(FLAGS)),--features relay --bin unstale)
	python3 deploy/stack.py $(FLAGS)

image: ## builds deploy/Dockerfile by buildah, without a container engine, and runs what came out; says why where it cannot
	@scripts/image.sh

dashboards-preview: ## pictures of the boards over a fleet in trouble, into docs/; needs node and npm; five minutes
	$(INSTALL) redis-server prometheus chromium
	cargo build --release --example accounts
	cd dashboards/preview && npm install --no-save --no-audit --no-fund && npm run build
	python3 dashboards/preview/preview.py $(FLAGS)

# Stable Rust: cargo-fuzz's flags need RUSTC_BOOTSTRAP. What it finds goes to fuzz/artifacts; what is worth
# keeping belongs into fuzz/corpus/payload, which every test run reads.
SECONDS ?= 60
fuzz: ## fuzzes the decoder of events for SECONDS (60); needs cargo-fuzz and a C++ compiler
	@cargo fuzz --version >/dev/null 2>&1 || { echo 'cargo-fuzz is missing: cargo install --locked cargo-fuzz' >&2; exit 1; }
	@mkdir -p fuzz/target/corpus
	RUSTC_BOOTSTRAP=1 cargo fuzz run payload fuzz/target/corpus fuzz/corpus/payload -- \
		-max_total_time=$(SECONDS) -max_len=70000 -rss_limit_mb=512
