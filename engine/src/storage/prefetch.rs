//! Telling the processor which memory is about to be touched, so that it is there in time.

#![allow(unsafe_code)]

/// Bytes that a processor moves at once.
const LINE_BYTES: usize = 64;

/// Has the memory at an address fetched. Any address will do: where nothing can be fetched, nothing happens.
pub(crate) fn prefetch(address: usize, bytes: usize) {
    if address == 0 {
        return;
    }
    for line in (address & !(LINE_BYTES - 1)..address.saturating_add(bytes)).step_by(LINE_BYTES) {
        prefetch_line(line);
    }
}

/// Has the memory of a value fetched.
pub(crate) fn prefetch_value<T>(value: &T) {
    prefetch(std::ptr::from_ref(value).addr(), size_of::<T>());
}

#[cfg(target_arch = "x86_64")]
fn prefetch_line(address: usize) {
    use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
    // SAFETY: a prefetch is a hint, which reads and writes nothing that a program could see and never faults.
    unsafe { _mm_prefetch::<_MM_HINT_ET0>(std::ptr::without_provenance(address)) }
}

/// No stable way there.
#[cfg(not(target_arch = "x86_64"))]
fn prefetch_line(_address: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_none_is_fetched_without_harm() {
        for address in [0, 1, 64, usize::MAX, usize::MAX - 63] {
            prefetch(address, 4096);
        }
        let value = [7_u64; 100];
        prefetch_value(&value);
        assert_eq!(value, [7; 100]);
    }
}
