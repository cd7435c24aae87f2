# The same commands as in CI.

# Format, lints, unit and black-box tests, conformance: everything.
all:
    tests/all

fmt:
    cargo fmt --all

lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings

test:
    cargo test --release --workspace

conformance:
    tests/conformance/run

bench:
    benches/run
    benches/critest
