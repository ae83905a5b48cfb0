# Everyday tasks. `make` alone lists them; only cargo is needed beyond what is named here.

FEATURES := redis tls prometheus shared uuid test-util cli
# Packages of their own: what they need is not compiled with the crate. They run optimized, and
# build below target/ (see their .cargo/config.toml).
APART := tests/models tests/shuttle tests/instructions

.PHONY: help test lint soak fuzz bench bench-instructions redis-server openssl python curl prometheus kubectl chromium valgrind stack dashboards-preview

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  \1: /p' $(MAKEFILE_LIST)

# The runner with its summary comes last, so that the end of the output says how it went.
test: redis-server openssl python curl prometheus kubectl valgrind ## all tests, against real Redis servers that the tests start themselves
	@for apart in $(APART); do \
		(set -x; cd $$apart && cargo test --release --tests) || exit 1; \
	done
	cargo test --doc --all-features
	@if cargo nextest --version >/dev/null 2>&1; then \
		set -x; cargo nextest run --all-features; \
	else \
		set -x; cargo test --all-features --lib --bins --tests --examples; \
	fi

lint: ## format, clippy, documentation, every feature alone, licences
	cargo fmt --check
	cargo clippy --all-targets --all-features -- -D warnings
	cargo fmt --check --manifest-path benches/Cargo.toml
	cargo clippy --locked --manifest-path benches/Cargo.toml --all-targets -- -D warnings
	@for apart in $(APART); do \
		(set -x; cd $$apart && cargo fmt --check && cargo clippy --release --tests -- -D warnings) || exit 1; \
	done
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --all-features
	cargo check --no-default-features
	@for feature in $(FEATURES); do \
		(set -x; cargo check --no-default-features --features $$feature) || exit 1; \
	done
	@if cargo deny --version >/dev/null 2>&1; then \
		set -x; cargo deny check bans licenses sources; \
	else \
		echo 'cargo-deny is not installed: licences and sources are not checked'; \
	fi

# One part after the other, for they judge different things of a machine that each has for itself. What
# the parts say themselves comes last, after the words of the test's runner.
soak: redis-server ## the long scenarios; then faults at random on a fleet under load, and on 64 tasks of one process: SOAK_SECONDS=60 each, SOAK_SEED repeats a run
	cargo build --all-features --example accounts
	cargo test --all-features --test scenarios -- --ignored --test-threads=1 scenario_
	@SOAK_SUMMARY=$$(mktemp) || exit 1; export SOAK_SUMMARY; status=0; \
	for part in soak::faults_at_random_for_as_long_as_you_like stress::sixty_four_tasks_for_as_long_as_you_like; do \
		lines=$$(wc -l <"$$SOAK_SUMMARY"); \
		(set -x; cargo test --all-features --test it -- --ignored --exact --nocapture $$part) || status=$$?; \
		[ $$(wc -l <"$$SOAK_SUMMARY") -gt $$lines ] || \
			echo "$${part%%::*}: NOT SURVIVED, it ended early: see above" >>"$$SOAK_SUMMARY"; \
	done; \
	cat "$$SOAK_SUMMARY"; rm -f "$$SOAK_SUMMARY"; exit $$status

bench: redis-server ## benchmarks beside peers; ends with a table of goals (under ten minutes)
	cargo build --release --locked --manifest-path benches/Cargo.toml
	benches/target/release/all

bench-instructions: valgrind ## instructions a hit takes, beside quick_cache's; the same number each time
	@cd tests/instructions && cargo build --release && cargo run --release --quiet

stack: redis-server prometheus ## Redis, three instances under load and Prometheus as plain processes; Ctrl-C ends them. FLAGS=--faults
	cargo build --release --example accounts
	python3 deploy/stack.py $(FLAGS)

dashboards-preview: redis-server prometheus chromium ## pictures of the boards over a fleet in trouble, into docs/; needs node and npm; five minutes
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

redis-server: ## installs redis-server, which the tests need, where it is missing
	@command -v "$${REDIS_SERVER_BIN:-redis-server}" >/dev/null && exit 0; \
	$(call install,redis-server,redis,redis,redis,install Redis 7 or newer$(comma) or set REDIS_SERVER_BIN); \
	command -v redis-server >/dev/null || { echo "$$failed" >&2; exit 1; }

prometheus: ## installs Prometheus, which the tests of dashboards/ need, where it is missing
	@PATH="$${PROMETHEUS_BIN:-$$PATH}" command -v prometheus >/dev/null && exit 0; \
	$(call install,--no-install-recommends prometheus,golang-github-prometheus,prometheus,prometheus,install Prometheus 2.40 or newer$(comma) or set PROMETHEUS_BIN to its folder); \
	command -v prometheus >/dev/null || { echo "$$failed" >&2; exit 1; }

chromium: ## installs Chromium, which draws the boards, where it is missing
	@command -v "$${CHROMIUM_BIN:-chromium}" >/dev/null && exit 0; \
	$(call install,--no-install-recommends chromium,chromium,chromium,--cask chromium,install Chromium$(comma) or set CHROMIUM_BIN); \
	command -v chromium >/dev/null || { echo "$$failed" >&2; exit 1; }

valgrind: ## installs valgrind, which counts instructions, where it is missing
	@command -v valgrind >/dev/null && exit 0; \
	$(call install,valgrind,valgrind,valgrind,valgrind,install valgrind); \
	command -v valgrind >/dev/null || { echo "$$failed" >&2; exit 1; }

kubectl: ## installs kubectl, by which the tests build deploy/kubernetes, where it is missing
	@command -v kubectl >/dev/null && exit 0; \
	$(call install,kubernetes-client,kubernetes-client,kubectl,kubernetes-cli,install kubectl); \
	command -v kubectl >/dev/null || { echo "$$failed" >&2; exit 1; }

openssl: ## installs openssl, by which the tests make certificates, where it is missing
	@command -v openssl >/dev/null && exit 0; \
	$(call install,openssl,openssl,openssl,openssl,install openssl); \
	command -v openssl >/dev/null || { echo "$$failed" >&2; exit 1; }

python: ## installs python3 with venv and pip, which the tests need, where it is missing
	@$(has-python) && exit 0; \
	$(call install,python3-venv,python3,python3,python,install Python 3.9 or newer with venv and pip); \
	$(has-python) || { echo "$$failed" >&2; exit 1; }

curl: ## installs curl, which the tests of README.md need, where it is missing
	@command -v curl >/dev/null && exit 0; \
	$(call install,curl,curl,curl,curl,install curl); \
	command -v curl >/dev/null || { echo "$$failed" >&2; exit 1; }

has-python := python3 -c 'import ensurepip, venv' 2>/dev/null

comma := ,

# Shell code that installs a package by the system's package manager. Arguments: its name for apt-get,
# dnf, apk and brew, and what to do by hand where there is none of them.
define install
as_root=; [ "$$(id -u)" = 0 ] || as_root='sudo -n '; \
	if command -v apt-get >/dev/null; then \
		install="$${as_root}apt-get install -y $(1)"; \
		update="$${as_root}apt-get update"; \
	elif command -v dnf >/dev/null; then install="$${as_root}dnf install -y $(2)"; \
	elif command -v apk >/dev/null; then install="$${as_root}apk add $(3)"; \
	elif command -v brew >/dev/null; then install='brew install $(4)'; \
	else \
		echo 'The tests need more than is here: $(5).' >&2; \
		exit 1; \
	fi; \
	echo "$@ is missing: $${update:+$$update && }$$install"; \
	failed="That failed. Run it yourself: $${update:+$$update && }$$install"; \
	{ $${update:-true} && $$install; } || { echo "$$failed" >&2; exit 1; }
endef
