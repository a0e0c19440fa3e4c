//! Which partition of an internal topic has what is kept of a group or of a transactional id. Pure.

/// Java's hash of the text, without its sign, by the number of partitions (`Utils.abs(name.hashCode) % partitions`).
pub(super) fn partition_of(name: &str, partitions: usize) -> i32 {
    let hash = name.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    hash.checked_abs().unwrap_or(0).checked_rem(partitions).unwrap_or(0)
}
