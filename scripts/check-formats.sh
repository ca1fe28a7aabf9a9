#!/usr/bin/env bash
# Reads what the engine writes and sends with software that is not ours: records with a parser that the Kaitai Struct
# compiler makes of schemas/record.ksy, FITS blobs with astropy. Both are kept below target/foreign/. What goes over TCP
# a socket of Python's takes.
#
#   scripts/check-formats.sh [ENGINE]     default: ./engine
#   scripts/check-formats.sh --prepare    only fetches the readers (about 40 s, once)
set -euo pipefail
cd "$(dirname "$0")/.."

compiler=kaitai-struct-compiler@0.11.0
tools=${CARGO_TARGET_DIR:-target}/foreign
python=$tools/venv/bin/python

# Fetches the readers unless just these are there.
prepare() {
    local wanted
    wanted="$compiler $(sha256sum <tests/foreign/requirements.txt)"
    if [ -f "$tools/ready" ] && [ "$(<"$tools/ready")" = "$wanted" ] && "$python" -c '' 2>/dev/null; then return; fi
    if [ "${INSTALL:-1}" != 1 ]; then
        echo "the foreign readers are missing; fetch them: scripts/check-formats.sh --prepare"
        return 1
    fi
    rm -rf "$tools"
    mkdir -p "$tools"
    python3 -m venv "$tools/venv"
    "$python" -m pip install --quiet --disable-pip-version-check --requirement tests/foreign/requirements.txt
    npm install --silent --no-fund --no-audit --prefix "$tools/node" "$compiler"
    printf '%s' "$wanted" >"$tools/ready"
}

# run NAME TARGET FLAGS…: a run of that name.
run() {
    local name=$1 target=$2
    shift 2
    "$engine" --target "$target" --parallel 1 --run-id "$name" --log-format json "$@" >"$work/log" 2>&1 ||
        { cat "$work/log"; return 1; }
}

# write NAME FLAGS…: a run to a file, its records in $work/NAME.
write() {
    local name=$1
    shift
    run "$name" "file:$work/$name" "$@"
}

# stream NAME FRAMING FLAGS…: a run over TCP with that --tcp-framing, its records, without the frames, in $work/NAME.
stream() {
    local name=$1 framing=$2 port listener
    shift 2
    "$python" tests/foreign/store_stream.py "$work/$name" --framing "$framing" >"$work/port" &
    listener=$!
    read -r port <"$work/port"
    run "$name" "tcp://127.0.0.1:$port" --connections 1 --tcp-framing "$framing" "$@" ||
        { kill "$listener" || true; return 1; }
    wait "$listener"
}

prepare
if [ "${1:-}" = --prepare ]; then exit; fi

engine=$(realpath "${1:-engine}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

to_json='import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)'
"$python" -c "$to_json" <schemas/record.ksy >"$work/record.json"
mkdir "$work/parser"
node tests/foreign/compile_ksy.js "$tools/node/node_modules" "$work/parser" <"$work/record.json"
export PYTHONPATH=$work/parser

head -c 32 /dev/urandom >"$work/key"
write plain --records 500 --payload-size 512
write ranged --records 500 --payload-size 64-1500 --direct auto
write signed --records 200 --payload-size 64-200 --sign-key "$work/key"
write sampled --records 100 --payload-size 300 --mode sampled --weight 7 --rate 10MB/s
"$python" tests/foreign/read_records.py "$work/plain" --run-id plain --records 500
"$python" tests/foreign/read_records.py "$work/ranged" --run-id ranged --records 500
"$python" tests/foreign/read_records.py "$work/signed" --run-id signed --records 200 --sign-key "$work/key"
"$python" tests/foreign/read_records.py "$work/sampled" --run-id sampled --records 100 --weight 7

# The listener says its port through this pipe.
mkfifo "$work/port"
for framing in none length; do
    stream "tcp-$framing" "$framing" --records 500 --payload-size 64-1500
    "$python" tests/foreign/read_records.py "$work/tcp-$framing" --run-id "tcp-$framing" --records 500
done

for template in schemas/fixtures/generator/{,examples/}*.fits; do
    write fits --overwrite --records 50 --payload-template "$template" --mode sampled --weight 100 --rate 100MB/s
    "$python" tests/foreign/read_fits.py "$work/fits" --template "$template" --run-id fits --records 50 --weight 100
done
