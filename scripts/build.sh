#!/usr/bin/env bash
# Builds the release binary and leaves ./engine, and ./data-generator as a link to it, at the project's root.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked --quiet --bin engine
target=${CARGO_TARGET_DIR:-target}
# A copy under another name first: an engine that is running keeps its file.
cp "$target/release/engine" ./engine.new
mv -f ./engine.new ./engine
ln -sfn engine ./data-generator
