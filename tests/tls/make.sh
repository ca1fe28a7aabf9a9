#!/usr/bin/env bash
# Makes the certificates that the tests of TLS use. They are committed: nothing here needs to run again before 2126.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
touch "$work/index"
echo 1000 >"$work/serial"
cat >"$work/ca.conf" <<CONF
[ca]
default_ca = here
[here]
database = $work/index
serial = $work/serial
new_certs_dir = $work
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
CONF

key() {
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>"$work/log"
}

authority() { # name, subject
  key "$work/$1.key"
  openssl req -x509 -new -key "$work/$1.key" -sha256 -days 36500 -subj "/CN=$2" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -out "$1.pem"
}

itself() { # name, subject, alternative names: what a plain `openssl req -x509` makes, from 2020 on
  key "$1.key"
  openssl req -new -key "$1.key" -subj "/CN=$2" -out "$work/$1.csr"
  printf 'basicConstraints=critical,CA:TRUE\nsubjectAltName=%s\n' "$3" >"$work/$1.ext"
  openssl ca -batch -notext -config "$work/ca.conf" -selfsign -keyfile "$1.key" -in "$work/$1.csr" \
    -extfile "$work/$1.ext" -startdate 20200101000000Z -enddate 21260101000000Z -out "$1.pem" 2>"$work/log"
}

leaf() { # name, authority, subject, usage, alternative names, start, end
  key "$1.key"
  openssl req -new -key "$1.key" -subj "/CN=$3" -out "$work/$1.csr"
  printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=%s\nsubjectAltName=%s\n' "$4" "$5" >"$work/$1.ext"
  openssl ca -batch -notext -config "$work/ca.conf" -cert "$2.pem" -keyfile "$work/$2.key" -in "$work/$1.csr" \
    -extfile "$work/$1.ext" -startdate "$6" -enddate "$7" -out "$1.pem" 2>"$work/log"
}

local=DNS:localhost,IP:127.0.0.1,IP:::1
authority ca "engine test authority"
authority stranger "another authority"
authority namesake "engine test authority"
leaf server ca localhost serverAuth "$local" 20200101000000Z 21260101000000Z
leaf expired ca localhost serverAuth "$local" 20200101000000Z 20200201000000Z
leaf other ca other.example serverAuth DNS:other.example 20200101000000Z 21260101000000Z
leaf client ca client-7 clientAuth DNS:client-7 20200101000000Z 21260101000000Z
itself itself localhost "$local"
