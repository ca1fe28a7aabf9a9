meta:
  id: engine_record
  title: Records of the engine load generator, one after the other
  license: MIT OR Apache-2.0
  endian: le
  bit-endian: le
doc: |
  A stream of records, each a header of 64 bytes and a body. Data files that were written with O_DIRECT may
  end in padding: zeros after the last record, where no magic follows.
seq:
  - id: records
    type: record
    repeat: eos
types:
  record:
    seq:
      - id: header
        type: header
      - id: body
        size: header.len_record - header.len_header
  header:
    seq:
      - id: magic
        contents: ENGR
      - id: format_version
        type: u1
        valid: 1
      - id: flags
        type: flags
        size: 1
      - id: len_header
        type: u2
        valid: 64
        doc: Bytes.
      - id: run_id
        type: u8
        doc: The first 8 bytes of the SHA-256 of the text of --run-id.
      - id: producer_id
        type: u4
        doc: Unique among the producers of a run, all shards together.
      - id: len_record
        type: u4
        valid:
          min: 64
        doc: Bytes, header included.
      - id: weight
        type: u8
        doc: The record stands for so many of its size; 1 unless sampled.
      - id: sequence
        type: u8
        doc: 0 for the producer's first record, then one more for each.
      - id: timestamp_ns
        type: u8
        doc: Nanoseconds since the Unix epoch; when the record was due, or stamped if there was no rate.
      - id: signature
        type: u8
        doc: |
          0 when off. SipHash-2-4 over header bytes 0 to 47 and 56 to 59 and the SipHash-2-4 of the body (8 bytes,
          little-endian), both with the first 16 bytes of the SHA-256 of the file of --sign-key as key.
      - id: body_crc32c
        type: u4
        doc: CRC32C (Castagnoli) of the body.
      - id: crc32c
        type: u4
        doc: CRC32C of the whole record with this field as zero.
  flags:
    seq:
      - id: signed
        type: b1
        doc: The signature field is in use.
