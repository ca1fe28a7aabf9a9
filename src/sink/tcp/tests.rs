use super::*;

#[test]
fn what_is_beside_the_ring_does_not_grow_by_a_block_for_each_connection() {
    let block_bytes = 16 << 20;
    assert!(staging_bytes(1, block_bytes) < 2 * block_bytes);
    assert!(staging_bytes(256, block_bytes) < 5 * block_bytes);
}
