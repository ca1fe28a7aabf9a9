#!/usr/bin/env bash
# Builds the binary, of the release profile unless BUILD_PROFILE says another, and leaves ./engine, and
# ./data-generator as a link to it, at the project's root.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${BUILD_PROFILE:-release}
cargo build --profile "$profile" --locked --bin engine
target=${CARGO_TARGET_DIR:-target}
# Cargo's folder of the profile dev is called debug.
built=$target/${profile/#dev/debug}/engine
# A copy under another name first: an engine that is running keeps its file.
cp "$built" ./engine.new
mv -f ./engine.new ./engine
ln -sfn engine ./data-generator
