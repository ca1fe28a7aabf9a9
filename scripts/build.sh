#!/usr/bin/env bash
# Builds the binary, of the release profile unless BUILD_PROFILE says another, and leaves ./engine, and
# ./data-generator as a link to it, at the project's root.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${BUILD_PROFILE:-release}
# Where the binary is, cargo says: variables and its own configuration move it.
built=$(cargo build --profile "$profile" --locked --bin engine --message-format=json-render-diagnostics |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
# A copy under another name first: an engine that is running keeps its file.
cp "$built" ./engine.new
mv -f ./engine.new ./engine
ln -sfn engine ./data-generator
