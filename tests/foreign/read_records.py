#!/usr/bin/env python3
"""Reads a file of records with the parser that Kaitai Struct made of schemas/record.ksy, and checks each of them
with nothing of the engine's: lengths, sequences, run id, weights, both checksums and the signature.

The folder of the generated parser is on PYTHONPATH."""

import argparse
import hashlib
import struct
import sys
import time

from engine_record import EngineRecord


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


MASK = (1 << 64) - 1


def rotate(word, bits):
    return (word << bits | word >> (64 - bits)) & MASK


def sip_round(a, b, c, d):
    a, c = (a + b) & MASK, (c + d) & MASK
    b, d = rotate(b, 13) ^ a, rotate(d, 16) ^ c
    a = rotate(a, 32)
    c, a = (c + b) & MASK, (a + d) & MASK
    b, d = rotate(b, 17) ^ c, rotate(d, 21) ^ a
    return a, b, rotate(c, 32), d


def siphash24(key, data):
    """Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012)."""
    k0, k1 = struct.unpack("<QQ", key)
    state = (k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573)
    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", padded):
        a, b, c, d = state
        state = sip_round(*sip_round(a, b, c, d ^ word))
        state = (state[0] ^ word, *state[1:])
    a, b, c, d = state
    state = (a, b, c ^ 0xFF, d)
    for _ in range(4):
        state = sip_round(*state)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def signature(key, raw):
    body_digest = struct.pack("<Q", siphash24(key, raw[64:]))
    return siphash24(key, raw[:48] + raw[56:60] + body_digest)


def check(condition, what):
    if not condition:
        sys.exit(f"{arguments.file}: {what}")


def check_record(record, raw, run_id, key):
    header = record.header
    name = f"producer {header.producer_id} sequence {header.sequence}"
    check(len(raw) == header.len_record and len(record.body) == header.len_record - 64, f"{name}: length")
    check(raw[64:] == record.body, f"{name}: the body is not where the lengths say")
    check(header.run_id == run_id, f"{name}: run id {header.run_id:#x}, not {run_id:#x}")
    check(header.weight == arguments.weight, f"{name}: weight {header.weight}, not {arguments.weight}")
    age_seconds = time.time() - header.timestamp_ns / 1e9
    check(-5 < age_seconds < 3600, f"{name}: was due {age_seconds} s ago")
    check(header.body_crc32c == crc32c(record.body), f"{name}: CRC32C of the body")
    check(header.crc32c == crc32c(raw[:60] + bytes(4) + raw[64:]), f"{name}: CRC32C of the record")
    check(header.flags.signed == (key is not None), f"{name}: signed flag")
    check(header.signature == (signature(key, raw) if key else 0), f"{name}: signature")


def main():
    assert crc32c(b"123456789") == 0xE3069283
    assert siphash24(bytes(range(16)), bytes(range(15))) == 0xA129CA6149BE45E5
    run_id = struct.unpack("<Q", hashlib.sha256(arguments.run_id.encode()).digest()[:8])[0]
    key = None
    if arguments.sign_key:
        with open(arguments.sign_key, "rb") as file:
            key = hashlib.sha256(file.read()).digest()[:16]
    with open(arguments.file, "rb") as file:
        data = file.read()
    offset = 0
    lengths = set()
    following = {}
    records = EngineRecord.from_bytes(data).records
    for record in records:
        raw = data[offset : offset + record.header.len_record]
        check_record(record, raw, run_id, key)
        offset += len(raw)
        lengths.add(len(raw))
        expected = following.get(record.header.producer_id, 0)
        check(record.header.sequence == expected, f"sequence {record.header.sequence} where {expected} follows")
        following[record.header.producer_id] = expected + 1
    check(offset == len(data), f"{len(data) - offset} bytes are no records")
    check(len(records) == arguments.records, f"{len(records)} records, not {arguments.records}")
    print(f"{len(records)} records of {min(lengths)} to {max(lengths)} bytes: {arguments.file}")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file")
parser.add_argument("--run-id", required=True)
parser.add_argument("--records", type=int, required=True)
parser.add_argument("--weight", type=int, default=1)
parser.add_argument("--sign-key", metavar="FILE")
arguments = parser.parse_args()
main()
