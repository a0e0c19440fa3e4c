//! Where only what is flushed is committed: the log's writer and the journal move what they know beside each other.

use super::*;
use crate::types::Offset;
use std::sync::atomic::{AtomicI64, Ordering};

fn committing() -> (Arc<Watch>, Arc<AtomicI64>) {
    let end = Arc::new(AtomicI64::new(Offset::MAX));
    (Arc::new(Watch::new(Position::ALL.map(|_| mark(0))).committing_flushed(Arc::clone(&end))), end)
}

fn high_watermark_follows_the_slower() {
    let (watch, end) = committing();
    let ticket = watch.ticket(Position::HighWatermark, 10);
    let poll = long_poll(1000, &[Arc::clone(&watch)]);
    let moves = [Position::HighWatermark, Position::Flushed].map(|position| advance(&watch, position, &[5, 10]));
    assert_eq!(ticket.wait(None), Ok(()));
    assert!(watch.get(Position::Flushed) >= 10 && end.load(Ordering::SeqCst) >= 10, "readers see it first");
    assert_eq!(block_on(poll), Ok(()));
    moves.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(watch.get(Position::HighWatermark), 10);
    assert_eq!(watch.get(Position::LastStable), 0, "nobody moved it");
    assert!(is_idle(&watch));
}

#[test]
fn who_waits_for_the_high_watermark_hears_of_the_last_of_both() {
    explore(high_watermark_follows_the_slower);
}

#[test]
fn cut_beside_a_flush_leaves_nothing_committed_above_it() {
    explore(|| {
        let (watch, end) = committing();
        watch.advance(&[(Position::LogEnd, mark(10)), (Position::HighWatermark, mark(10))]).fire();
        let cut = {
            let watch = Arc::clone(&watch);
            spawn(move || watch.truncate(mark(4)).fire())
        };
        let moves = advance(&watch, Position::Flushed, &[3]);
        [cut, moves].into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(watch.get(Position::HighWatermark), 3);
        assert_eq!(end.load(Ordering::SeqCst), 3);
    });
}
