//! From the batches of the log and its snapshots to what they say.
//!
//! Owns: the order in which records count, and metadata transactions. Knows nothing of where the batches come from. Keeps:
//! records of a transaction count when it ends, and those of one that was aborted, or is not ended, never do.

use super::{MetadataError, image::Image, quorum::Quorum, record::Record};
use duramen::{
    Offset,
    format::{batch::Batches, record::Record as LogRecord},
};

/// Most bytes that the records of a batch may decompress to. Kafka writes the metadata's batches uncompressed, 8 MiB at most.
const MAX_BATCH_BYTES: u64 = 64 << 20;

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Replay {
    image: Image,
    /// The image without the transaction that is under way.
    before: Option<Image>,
    quorum: Quorum,
}

impl Replay {
    /// Everything that counts, without the transaction that may be under way.
    pub(super) fn finish(self) -> (Image, Quorum) {
        let next_offset = self.image.next_offset();
        let mut image = self.before.unwrap_or(self.image);
        image.advance_to(next_offset);
        (image, self.quorum)
    }

    /// Whether a transaction is under way.
    pub(super) fn is_in_transaction(&self) -> bool {
        self.before.is_some()
    }

    /// Offset behind what was read.
    pub(super) fn next_offset(&self) -> Offset {
        self.image.next_offset()
    }

    /// Goes on from an image.
    pub(super) fn of(image: Image) -> Self {
        Self { image, ..Self::default() }
    }

    /// Takes a whole snapshot, which stands for all records below its end.
    ///
    /// # Errors
    /// [`MetadataError::Format`], [`MetadataError::Record`], [`MetadataError::Inconsistent`].
    pub(super) fn snapshot(&mut self, bytes: &[u8], file: &str, end: Offset) -> Result<(), MetadataError> {
        walk(bytes, file, 0, |item| self.item(item))?;
        self.image.advance_to(end);
        Ok(())
    }

    /// Takes the next piece of the log, whose last batch need not be whole. Records that were taken before are skipped.
    ///
    /// # Errors
    /// As [`Replay::snapshot`].
    pub(super) fn log(&mut self, bytes: &[u8]) -> Result<(), MetadataError> {
        let next_offset = walk(bytes, "the metadata log", self.next_offset(), |item| self.item(item))?;
        self.image.advance_to(next_offset);
        Ok(())
    }

    /// Takes records that are about to be appended.
    ///
    /// # Errors
    /// [`MetadataError::Inconsistent`].
    pub(super) fn records(&mut self, records: &[Record]) -> Result<(), MetadataError> {
        for (offset, record) in (self.next_offset()..).zip(records) {
            self.record(record).map_err(|why| {
                let (file, record) = ("a change".to_owned(), record.name());
                MetadataError::Inconsistent { file, offset, record, why }
            })?;
        }
        Ok(())
    }

    fn item(&mut self, item: Item<'_>) -> Result<(), &'static str> {
        match item {
            Item::Control(record) => self.quorum.note(record).map_err(|malformed| malformed.0),
            Item::Metadata(record) => self.record(&record),
        }
    }

    /// Follows `MetadataBatchLoader`.
    fn record(&mut self, record: &Record) -> Result<(), &'static str> {
        match record {
            Record::BeginTransaction { .. } if self.before.is_some() => Err("a transaction is under way"),
            Record::BeginTransaction { .. } => {
                self.before = Some(self.image.clone());
                Ok(())
            }
            Record::EndTransaction => self.before.take().map(drop).ok_or("no transaction is under way"),
            Record::AbortTransaction { .. } => {
                self.image = self.before.take().ok_or("no transaction is under way")?;
                Ok(())
            }
            record => self.image.apply(record),
        }
    }
}

/// A record on the way.
#[derive(Debug)]
pub(super) enum Item<'a> {
    /// One of KRaft's own.
    Control(&'a LogRecord<'a>),
    /// One of the metadata.
    Metadata(Record),
}

/// Goes through the records of batches, but for those before an offset; the offset behind the last batch.
///
/// # Errors
/// [`MetadataError::Format`], [`MetadataError::Record`]; [`MetadataError::Inconsistent`] where `each` says why.
pub(super) fn walk(
    bytes: &[u8],
    file: &str,
    from: Offset,
    mut each: impl FnMut(Item<'_>) -> Result<(), &'static str>,
) -> Result<Offset, MetadataError> {
    let damaged = |source| MetadataError::Format { file: file.to_owned(), source };
    let mut next_offset = from;
    let mut scratch = Vec::new();
    for batch in Batches::new(bytes) {
        let batch = batch.map_err(damaged)?;
        batch.check_crc().map_err(damaged)?;
        let is_control = batch.header().attributes().is_control();
        for record in batch.records(&mut scratch, MAX_BATCH_BYTES).map_err(damaged)? {
            let record = record.map_err(damaged)?;
            let offset = record.offset();
            if offset < from {
                continue;
            }
            let (name, taken) = if is_control {
                ("a control record", each(Item::Control(&record)))
            } else {
                let decoded = Record::decode(record.value().unwrap_or_default());
                let unreadable = |source| MetadataError::Record { file: file.to_owned(), offset, source };
                let (record, _) = decoded.map_err(unreadable)?;
                (record.name(), each(Item::Metadata(record)))
            };
            taken.map_err(|why| MetadataError::Inconsistent { file: file.to_owned(), offset, record: name, why })?;
        }
        next_offset = next_offset.max(batch.header().next_offset());
    }
    Ok(next_offset)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use duramen::format::builder::{BatchBuilder, NewRecord};

    fn level(level: i16) -> Record {
        Record::FeatureLevel { name: "f".to_owned(), level }
    }

    fn begin() -> Record {
        Record::BeginTransaction { name: None }
    }

    fn batch(base_offset: Offset, records: &[Record]) -> Vec<u8> {
        let mut builder = BatchBuilder::new().base_offset(base_offset);
        for record in records {
            builder.push(&NewRecord { value: Some(&record.encode(0)), ..NewRecord::default() });
        }
        builder.build().unwrap()
    }

    fn replayed(records: &[Record]) -> Result<(Image, bool), MetadataError> {
        let mut replay = Replay::default();
        replay.log(&batch(0, records))?;
        let in_transaction = replay.is_in_transaction();
        Ok((replay.finish().0, in_transaction))
    }

    #[test]
    fn transaction_counts_once_it_has_ended() {
        let (image, _) = replayed(&[level(1), begin(), level(2), Record::EndTransaction]).unwrap();
        assert_eq!((image.feature("f"), image.next_offset()), (2, 4));
    }

    #[test]
    fn aborted_and_unfinished_transactions_do_not_count() {
        let abort = Record::AbortTransaction { reason: None };
        let (image, in_transaction) = replayed(&[level(1), begin(), level(2), abort]).unwrap();
        assert_eq!((image.feature("f"), image.next_offset(), in_transaction), (1, 4, false));
        let (image, in_transaction) = replayed(&[level(1), begin(), level(2)]).unwrap();
        assert_eq!((image.feature("f"), image.next_offset(), in_transaction), (1, 3, true));
    }

    #[test]
    fn transactions_that_do_not_fit_are_refused() {
        for records in [vec![begin(), begin()], vec![Record::EndTransaction]] {
            let error = replayed(&records).unwrap_err();
            assert!(matches!(error, MetadataError::Inconsistent { offset, .. } if offset == records.len() as i64 - 1));
        }
    }

    #[test]
    fn log_goes_on_where_the_snapshot_ends() {
        let mut replay = Replay::default();
        replay.snapshot(&batch(0, &[level(5)]), "a snapshot", 7).unwrap();
        assert_eq!(replay.next_offset(), 7);
        // The batch in which the snapshot ends, and the one behind it.
        let log = [batch(5, &[level(1), level(1), level(3)]), batch(8, &[Record::NoOp])].concat();
        replay.log(&log).unwrap();
        assert_eq!((replay.next_offset(), replay.finish().0.feature("f")), (9, 3));
    }

    #[test]
    fn error_names_offset_and_record() {
        let mut log = batch(0, &[level(1)]);
        log.extend(batch(1, &[Record::RemoveTopic { topic_id: duramen::format::uuid::Uuid::ZERO }]));
        let error = Replay::default().log(&log).unwrap_err();
        let text = "the metadata log, offset 1: RemoveTopicRecord: there is no topic of this id";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn damaged_batch_is_refused() {
        let mut log = batch(0, &[level(1)]);
        let last = log.len() - 1;
        log[last] ^= 1;
        assert!(matches!(Replay::default().log(&log), Err(MetadataError::Format { .. })));
    }
}
