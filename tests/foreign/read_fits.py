#!/usr/bin/env python3
"""Opens a template and each record that was made of it with astropy, in its strictest mode, and checks what was
stamped."""

import argparse
import datetime
import io
import sys
import warnings

from astropy.io import fits

# A checksum that does not hold, a card out of place: astropy warns, and here a warning is an error.
warnings.simplefilter("error")


def check(condition, what):
    if not condition:
        sys.exit(f"{arguments.file}: {what}")


def check_form(units, what):
    units.verify("exception")
    for number, unit in enumerate(units, 1):
        sums = (unit.verify_checksum(), unit.verify_datasum())
        # 0: wrong, 1: right, 2: not there.
        check(sums == (1, 1), f"{what}: HDU {number}: astropy says {sums} of CHECKSUM and DATASUM, not (1, 1)")


def check_blob(blob, sequence, template):
    with fits.open(io.BytesIO(blob), checksum=True, mode="readonly", memmap=False) as units:
        check_form(units, f"sequence {sequence}")
        header = units[0].header
        stamped = (header["RUNID"], header["PRODUCER"], header["SEQUENCE"], header["WEIGHT"])
        wanted = (arguments.run_id, 0, sequence, arguments.weight)
        check(stamped == wanted, f"sequence {sequence}: cards say {stamped}, not {wanted}")
        due = datetime.datetime.fromisoformat(header["DATE"])
        check(due.tzinfo is None, f"sequence {sequence}: DATE has a zone")
        age = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) - due
        check(-5 < age.total_seconds() < 3600, f"sequence {sequence}: DATE is {header['DATE']}")
        check((units[0].data == template[0].data).all(), f"sequence {sequence}: the pixels changed")
        for keyword, value in template[0].header.items():
            if keyword not in ("RUNID", "PRODUCER", "SEQUENCE", "WEIGHT", "DATE", "CHECKSUM", ""):
                check(header[keyword] == value, f"sequence {sequence}: {keyword} changed")


def main():
    with open(arguments.file, "rb") as file:
        data = file.read()
    check(len(data) % arguments.records == 0, f"{len(data)} bytes are no {arguments.records} records of one length")
    length = len(data) // arguments.records
    check(length % 2880 == 0, f"{length} bytes are no FITS blocks")
    with fits.open(arguments.template, checksum=True, mode="readonly", memmap=False) as template:
        check_form(template, f"its template {arguments.template}")
        for sequence in range(arguments.records):
            check_blob(data[sequence * length : (sequence + 1) * length], sequence, template)
    print(f"{arguments.records} FITS records of {length} bytes: {arguments.file}")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file")
parser.add_argument("--template", required=True)
parser.add_argument("--run-id", required=True)
parser.add_argument("--records", type=int, required=True)
parser.add_argument("--weight", type=int, default=1)
arguments = parser.parse_args()
main()
