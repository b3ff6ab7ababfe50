# The commands of this repository, each from nothing: what the machine lacks is installed first.
#
# Everything is built in one profile, release, and with one set of features: RocksDB and DataFusion, which take most of
# the time, are compiled once. CARGO_TARGET_DIR may name a build cache outside the clone.

.PHONY: help demo test bench build setup lint fmt docs clean

help:
	@echo 'make demo     a city, its decisions kept current; Ctrl-C ends it (LISTEN=, DATA=, WORKERS=, SPEED=)'
	@echo 'make test     all tests, as CI runs them'
	@echo 'make bench    all benches, or one: BENCH=aggregate (QUICK=1, JSON=1)'
	@echo 'make build    the program: target/release/thalweg'
	@echo 'make lint     clippy, with the bans of clippy.toml'
	@echo 'make fmt      rustfmt over everything'
	@echo 'make docs     the generated pages of docs/'
	@echo 'make clean    the data of demo and benches'

setup:
	@scripts/setup

# One test beside the program: with it cargo chooses features as `cargo test` does, else both would build DataFusion.
build: setup
	cargo build --release --workspace --bins --test tidy

demo: build
	@scripts/demo

test: setup
	scripts/test

bench: build
	@scripts/bench $(BENCH) $(if $(BENCH),$(if $(JSON),--json) $(if $(QUICK),--quick))

# Tests may read the clock and the environment; the bans of clippy.toml are for the code.
lint: setup
	cargo clippy --release --workspace -- -D warnings

fmt:
	cargo fmt --all

docs: setup
	UPDATE=1 THALWEG_UPDATE=1 cargo test --release --workspace is_fresh

clean:
	rm -rf .thalweg
