//! What stays: the decisions on one batch and on one record.
//!
//! Follows `Cleaner.cleanInto` with `MemoryRecords.filterTo`. Pure.

use super::super::producers::LastRecord;
use crate::{
    format::batch::BatchHeader,
    types::{Offset, Timestamp},
};

/// What becomes of a batch none of whose records stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Emptied {
    /// It goes too.
    Delete,
    /// Its header stays: a producer's last sequence or the end of the cleaned part hangs on it.
    Retain,
}

/// The decision on a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchDecision {
    /// No record stays, whatever it is.
    pub(super) discard_records: bool,
    pub(super) emptied: Emptied,
    /// It is a marker that nothing depends on, and has to get a delete horizon if it has none.
    pub(super) is_idle_marker: bool,
}

/// Decides on a batch. `discardable` is what the transactions say: the data of an aborted one, or a marker whose data is
/// gone. `round_end` is the first offset that this cleaning does not take.
pub(super) fn decide_batch(
    header: &BatchHeader,
    discardable: bool,
    last_of_producer: Option<LastRecord>,
    round_end: Offset,
    now_ms: Timestamp,
) -> BatchDecision {
    let is_control = header.attributes().is_control();
    let horizon_passed = header.delete_horizon_ms().is_some_and(|horizon| horizon <= now_ms);
    let is_last = last_of_producer.is_some_and(|last| match last {
        LastRecord::Data(offset) => header.last_offset() == offset,
        LastRecord::Marker(epoch) => is_control && header.producer().is_some_and(|producer| producer.epoch == epoch),
    });
    BatchDecision {
        discard_records: discardable && (!is_control || horizon_passed),
        emptied: if is_last || header.next_offset() == round_end { Emptied::Retain } else { Emptied::Delete },
        is_idle_marker: is_control && discardable,
    }
}

/// The decision on a data record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordDecision {
    Keep,
    /// It goes: its key was written again.
    Superseded,
    /// It goes: it is a tombstone that everybody has had the time to see.
    ExpiredTombstone,
    /// It goes: it has no key, which a compacted log cannot hold.
    Keyless,
}

/// What the decision on a record needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordFacts {
    pub(super) offset: Offset,
    /// `None` without a key; else the last offset of the key in the dirty part, if it is there.
    pub(super) last_of_key: Option<Option<Offset>>,
    pub(super) is_tombstone: bool,
    /// Delete horizon of the batch.
    pub(super) delete_horizon_ms: Option<Timestamp>,
}

/// Decides on a record at or below the last offset that the map covers; one above always stays.
pub(super) fn decide_record(record: &RecordFacts, now_ms: Timestamp) -> RecordDecision {
    let Some(last_of_key) = record.last_of_key else {
        return RecordDecision::Keyless;
    };
    if last_of_key.is_some_and(|last| record.offset < last) {
        return RecordDecision::Superseded;
    }
    let expired = record.is_tombstone && record.delete_horizon_ms.is_some_and(|horizon| now_ms >= horizon);
    if expired { RecordDecision::ExpiredTombstone } else { RecordDecision::Keep }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::format::{
        batch::Batch,
        builder::{BatchBuilder, end_txn_marker},
        control::EndTxnMarker,
    };

    // M 182, 191
    #[test]
    fn record_decision_table() {
        use RecordDecision::{ExpiredTombstone, Keep, Keyless, Superseded};
        let cases = [
            ("no key", None, false, None, Keyless),
            ("key not in the dirty part", Some(None), false, None, Keep),
            ("last of its key", Some(Some(5)), false, None, Keep),
            ("newer than the map's", Some(Some(4)), false, None, Keep),
            ("superseded", Some(Some(6)), false, None, Superseded),
            ("tombstone without a horizon", Some(Some(5)), true, None, Keep),
            ("tombstone before its horizon", Some(Some(5)), true, Some(101), Keep),
            ("tombstone at its horizon", Some(Some(5)), true, Some(100), ExpiredTombstone),
            ("tombstone superseded", Some(Some(6)), true, Some(101), Superseded),
            ("value in a batch with a passed horizon", Some(Some(5)), false, Some(1), Keep),
        ];
        for (name, last_of_key, is_tombstone, delete_horizon_ms, expected) in cases {
            let record = RecordFacts { offset: 5, last_of_key, is_tombstone, delete_horizon_ms };
            assert_eq!(decide_record(&record, 100), expected, "{name}");
        }
    }

    fn data() -> BatchHeader {
        let bytes = BatchBuilder::new().base_offset(8).producer(1, 2, 0).transactional().record(0, None, None).build();
        Batch::parse(&bytes.unwrap()).unwrap().header().clone()
    }

    fn marker() -> BatchHeader {
        let marker = EndTxnMarker { committed: true, coordinator_epoch: 0 };
        Batch::parse(&end_txn_marker(1, 2, marker, 0).unwrap()).unwrap().header().clone()
    }

    fn emptied(header: &BatchHeader, last: Option<LastRecord>, round_end: Offset) -> Emptied {
        decide_batch(header, true, last, round_end, 0).emptied
    }

    // M 188, 190, 193
    #[test]
    fn emptied_batch_stays_for_its_producer_and_for_the_end_of_the_round() {
        assert_eq!(emptied(&data(), None, 100), Emptied::Delete);
        assert_eq!(emptied(&data(), None, 9), Emptied::Retain);
        assert_eq!(emptied(&data(), Some(LastRecord::Data(8)), 100), Emptied::Retain);
        assert_eq!(emptied(&data(), Some(LastRecord::Data(7)), 100), Emptied::Delete);
        assert_eq!(emptied(&data(), Some(LastRecord::Marker(2)), 100), Emptied::Delete);
        assert_eq!(emptied(&marker(), Some(LastRecord::Marker(2)), 100), Emptied::Retain);
        assert_eq!(emptied(&marker(), Some(LastRecord::Marker(1)), 100), Emptied::Delete);
    }

    // M 186, 188
    #[test]
    fn aborted_data_goes_at_once_and_a_marker_waits_for_its_horizon() {
        let decided = |header: &BatchHeader, discardable| {
            let decision = decide_batch(header, discardable, None, 100, 50);
            (decision.discard_records, decision.is_idle_marker)
        };
        assert_eq!(decided(&data(), false), (false, false));
        assert_eq!(decided(&data(), true), (true, false));
        assert_eq!(decided(&marker(), false), (false, false));
        assert_eq!(decided(&marker(), true), (false, true));
    }
}
