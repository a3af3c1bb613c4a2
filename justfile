# The usual commands; `just` lists them. What has to pass before a change lands is `just ci`.

_default:
    @just --list --unsorted

# Build the `weft` command.
build:
    cargo build --release -p weft-cli

# Answer a prompt with the default model.
run prompt="Explain what photosynthesis is in one sentence.": build
    target/release/weft run {{ quote(prompt) }}

# Check the workspace for errors.
check:
    cargo check --release --workspace --exclude weft-fuzz --all-targets

# Test one crate: `just test weft-text`, or some of its tests: `just test weft-text stop`.
test crate *filter:
    cargo test --release -p {{ crate }} -- {{ filter }}

# Format the code.
fmt:
    cargo fmt --all

# Formatting, lints and docs, as CI has them.
lint:
    .ci/lint

# Every test, native and wasm32; `just test-all --slow` adds those that take minutes each.
test-all *options:
    .ci/test {{ options }}

# Build for wasm32 and run it in Node and in headless Chromium.
wasm:
    .ci/wasm

# Check that the workspace compiles for other systems: all of them, or those named (windows, macos, arm, android, wasm).
cross *systems:
    .ci/cross {{ systems }}

# Unit tests for Arm under qemu-aarch64, and for Windows under Wine.
emulated *systems:
    .ci/emulated {{ systems }}

# Licenses, versions, origins and known vulnerabilities of the dependencies; `cargo install cargo-deny` brings the tool.
deny:
    cargo deny check

# What cargo would publish, checked and built, without uploading it.
package:
    .ci/package

# Criterion benches of the CPU kernels.
bench *filter:
    cargo bench -p weft-platform -- {{ filter }}

# What `.ci/run` passes before a change lands.
ci:
    .ci/run
