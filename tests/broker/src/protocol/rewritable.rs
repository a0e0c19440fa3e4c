//! Requests that can be written again once they were read, by which the fuzz target proves their reading.

use super::newer::{
    FIRST_MARKERS_WITH_TRANSACTION_VERSION, FIRST_OFFSETS_WITH_IDS, OffsetCommit, OffsetFetch, Readable,
    WriteTxnMarkers,
};
use kafka_protocol::{
    messages::{OffsetCommitRequest, OffsetFetchRequest, WriteTxnMarkersRequest},
    protocol::Request,
};
use std::fmt::Debug;

/// A request that is read, and as `kafka-protocol` knows it.
pub(crate) trait Rewritable: Readable + PartialEq + Debug {
    /// What `kafka-protocol` writes.
    type Known: Request;

    /// The request as that; `None` in a version that it does not know.
    fn known(&self, version: i16) -> Option<Self::Known>;
}

impl<T: Request + Clone + PartialEq + Debug> Rewritable for T {
    type Known = T;

    fn known(&self, _: i16) -> Option<T> {
        Some(self.clone())
    }
}

impl Rewritable for OffsetCommit {
    type Known = OffsetCommitRequest;

    fn known(&self, version: i16) -> Option<OffsetCommitRequest> {
        (version < FIRST_OFFSETS_WITH_IDS).then(|| self.0.clone())
    }
}

impl Rewritable for OffsetFetch {
    type Known = OffsetFetchRequest;

    fn known(&self, version: i16) -> Option<OffsetFetchRequest> {
        (version < FIRST_OFFSETS_WITH_IDS).then(|| self.0.clone())
    }
}

impl Rewritable for WriteTxnMarkers {
    type Known = WriteTxnMarkersRequest;

    fn known(&self, version: i16) -> Option<WriteTxnMarkersRequest> {
        let markers = || self.0.iter().map(|(marker, _)| marker.clone()).collect();
        let is_known = version < FIRST_MARKERS_WITH_TRANSACTION_VERSION;
        is_known.then(|| WriteTxnMarkersRequest::default().with_markers(markers()))
    }
}
