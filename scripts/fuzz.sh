#!/usr/bin/env bash
# Coverage-guided fuzzing of every parser of foreign bytes; needs nightly Rust and cargo-fuzz.
#
#   scripts/fuzz.sh [SECONDS [TARGET…]]    30 seconds for each target
#
# What it learns stays in fuzz/corpus/, what fails in fuzz/artifacts/. An input that failed belongs into
# tests/fuzz/corpus/TARGET/ once it is mended: the seeded sample of `cargo test --test fuzz` starts from there.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-30}
shift || true
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
    for path in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$path" .rs)"); done
fi

cargo +nightly fuzz build
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target"
    echo "== $target"
    # A parser that believes a claimed length takes more than 128 MiB at once; one that never ends, 10 s.
    cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "tests/fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -malloc_limit_mb=128 -timeout=10 -print_final_stats=1
done
