//! An allocator that counts what is allocated: resident memory tells of fragments, too, this only of what nobody gave back.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// To be declared `#[global_allocator]` by whoever runs a soak; without it there is no such figure.
#[derive(Debug)]
pub struct Heap;

/// Bytes that are allocated now.
pub(super) fn live_bytes() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// Gives the system back what is free.
pub(super) fn trim() {
    // SAFETY: it takes a number, and gives back only what nobody has.
    unsafe { nix::libc::malloc_trim(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; only a number is kept beside it.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
