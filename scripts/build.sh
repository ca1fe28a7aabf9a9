#!/usr/bin/env bash
# Builds the binary, of the release profile unless BUILD_PROFILE says another, and leaves ./engine, ./data-generator as
# a link to it, and ./engine.commit, which says what it was built from, at the project's root.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${BUILD_PROFILE:-release}
# Before the compiler reads the tree, which may change meanwhile. Results of benchmarks are no part of the binary.
commit=$(git rev-parse HEAD 2>/dev/null || true)
changed=false
if [ -n "$(git status --porcelain -- . ':!perf/runs' 2>/dev/null)" ]; then changed=true; fi
# Where the binary is, cargo says: variables and its own configuration move it.
built=$(cargo build --profile "$profile" --locked --bin engine --message-format=json-render-diagnostics |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
# A copy under another name first: an engine that is running keeps its file.
cp "$built" ./engine.new
sha256=$(sha256sum ./engine.new)
mv -f ./engine.new ./engine
printf '{"commit": "%s", "uncommitted_changes": %s, "profile": "%s", "sha256": "%s"}\n' \
    "$commit" "$changed" "$profile" "${sha256%% *}" >./engine.commit
ln -sfn engine ./data-generator
