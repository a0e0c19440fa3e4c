//! Record batches of real clients, to be replayed.

use crate::Failure;
use duramen::format::{
    batch::{self, Batch, Batches},
    builder::{BatchBuilder, NewRecord},
};
use std::{fs, path::Path};

/// Bytes of a replayed batch, about: what a busy producer sends.
const BATCH_BYTES: usize = 64 << 10;

/// Batches to replay.
#[derive(Debug)]
pub(crate) struct Corpus {
    /// The batches as their clients made them, as a producer sends them: base offset 0, no leader epoch.
    pub(crate) originals: Vec<Vec<u8>>,
    /// Their records gathered into uncompressed batches of about 64 KiB.
    pub(crate) gathered: Vec<Vec<u8>>,
    source: String,
}

impl Corpus {
    pub(crate) fn describe(&self) -> String {
        let bytes: usize = self.originals.iter().map(Vec::len).sum();
        let gathered: usize = self.gathered.iter().map(Vec::len).sum();
        format!(
            "{} batches of {} from {}; gathered into {} batches of {} each",
            self.originals.len(),
            indicatif::HumanBytes(bytes as u64),
            self.source,
            self.gathered.len(),
            indicatif::HumanBytes((gathered / self.gathered.len().max(1)) as u64),
        )
    }
}

/// The corpus of the repository, or the batches of a partition's directory.
pub(crate) fn load(input: Option<&Path>) -> Result<Corpus, Failure> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let dir = input.unwrap_or(&own);
    let mut originals = Vec::new();
    let mut paths: Vec<_> = fs::read_dir(dir)
        .map_err(|error| format!("{}: {error}", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    paths.sort();
    for path in &paths {
        let bytes = fs::read(path)?;
        for batch in Batches::new(&bytes) {
            let batch = batch.map_err(|error| format!("{}: {error}", path.display()))?;
            if let Some(sent) = as_sent(&batch) {
                originals.push(sent);
            }
        }
    }
    if originals.is_empty() {
        return Err(format!("{} holds no log with record batches", dir.display()).into());
    }
    let gathered = gather(&originals)?;
    let source = if input.is_some() { dir.display().to_string() } else { "Java, Go, Python and C clients".to_owned() };
    Ok(Corpus { originals, gathered, source })
}

/// A data batch as a producer sends it; none if compaction left holes in it.
fn as_sent(batch: &Batch<'_>) -> Option<Vec<u8>> {
    let header = batch.header();
    let whole = i64::from(header.records_count()) == i64::from(header.last_offset_delta()) + 1;
    if header.attributes().is_control()
        || header.attributes().is_transactional()
        || !whole
        || batch.check_crc().is_err()
    {
        return None;
    }
    let mut bytes = batch.bytes().to_vec();
    batch::assign_in_place(&mut bytes, 0, -1).ok()?;
    without_producer(&mut bytes)?;
    Some(bytes)
}

/// Takes the producer and its sequence away: replayed, the batch would be a duplicate, of which a log stores nothing.
fn without_producer(bytes: &mut [u8]) -> Option<()> {
    bytes.get_mut(batch::PRODUCER_ID_AT..batch::RECORDS_COUNT_AT)?.fill(0xff);
    let crc = crc32c::crc32c(bytes.get(batch::ATTRIBUTES_AT..)?);
    bytes.get_mut(batch::CRC_AT..batch::ATTRIBUTES_AT)?.copy_from_slice(&crc.to_be_bytes());
    Some(())
}

/// All records once more, in uncompressed batches of about 64 KiB, repeated until there are enough for one.
fn gather(originals: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut gathered = Vec::new();
    let mut builder = BatchBuilder::new();
    let mut scratch = Vec::new();
    while gathered.len() < 16 {
        let before = (gathered.len(), builder.records_count());
        for bytes in originals {
            let batch = Batch::parse(bytes)?;
            for record in batch.records(&mut scratch, 1 << 30)? {
                let record = record?;
                let headers: Vec<_> = record.headers().collect();
                let size = record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
                if builder.records_count() > 0 && builder.uncompressed_size() + size > BATCH_BYTES {
                    gathered.push(builder.build()?);
                    builder = BatchBuilder::new();
                }
                builder.push(&NewRecord {
                    timestamp: record.timestamp(),
                    key: record.key(),
                    value: record.value(),
                    headers: &headers,
                    offset_delta: None,
                });
            }
        }
        if before == (gathered.len(), builder.records_count()) {
            return Err("the input holds no record".into());
        }
    }
    Ok(gathered)
}
