//! What of one file is durable, and what may become of the rest when the power fails.
//!
//! A disk keeps or loses each sector by itself, but a sector that is kept holds the page cache's bytes of some moment:
//! several unsynced writes to one sector survive as a prefix of them. The length is metadata and survives on its own,
//! ahead of the data (a tail of zeros) or behind it. A cut frees blocks: once it is durable nothing from before it
//! comes back, and until then nothing written after it shows where it cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::random::Random;

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

type Sector = [u8; SECTOR_BYTES];

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Arc<[u8]> },
    SetLen(usize),
}

/// Which unsynced changes of a file outlive a power failure.
#[derive(Debug)]
pub(super) enum Survivors<'r> {
    None,
    All,
    LengthOnly,
    Random { rng: &'r mut Random, tear: bool },
}

/// Durable bytes of a file and the changes made since its last sync.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    durable: Arc<Vec<u8>>,
    unsynced: Vec<Change>,
    len: usize,
}

impl Content {
    pub(super) fn durable(bytes: Arc<Vec<u8>>) -> Self {
        Self { len: bytes.len(), durable: bytes, unsynced: Vec::new() }
    }

    /// The length as the running system sees it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.len = self.len.max(at + bytes.len());
            self.unsynced.push(Change::Write { at, bytes: bytes.into() });
        }
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.len = len;
        self.unsynced.push(Change::SetLen(len));
    }

    pub(super) fn sync(&mut self) {
        let durable = Arc::make_mut(&mut self.durable);
        for change in self.unsynced.drain(..) {
            apply(durable, &change);
        }
    }

    /// Makes the last write durable, with as much of the length as it needs. What else was changed stays unsynced, unless
    /// it lies under the write or cut the file: then the disk had to write that, too.
    pub(super) fn sync_last_write(&mut self) {
        let Some(Change::Write { at, bytes }) = self.unsynced.last() else { return };
        let sectors = |at: usize, len: usize| at / SECTOR_BYTES..(at + len).div_ceil(SECTOR_BYTES);
        let own = sectors(*at, bytes.len());
        let (_, earlier) = self.unsynced.split_last().expect("there is a last one");
        let stands_alone = earlier.iter().all(|change| match change {
            Change::SetLen(_) => false,
            Change::Write { at, bytes } => {
                let other = sectors(*at, bytes.len());
                other.end <= own.start || own.end <= other.start
            }
        });
        if !stands_alone {
            return self.sync();
        }
        if let Some(write) = self.unsynced.pop() {
            apply(Arc::make_mut(&mut self.durable), &write);
        }
    }

    /// What a failed write-back does: the pages count as clean and their bytes are gone, the length lives on.
    pub(super) fn drop_unsynced_data(&mut self) {
        let shortest = self.lengths().into_iter().min().unwrap_or(0);
        self.unsynced = vec![Change::SetLen(shortest), Change::SetLen(self.len)];
    }

    /// The bytes found after a power failure.
    pub(super) fn image(&self, survivors: Survivors<'_>) -> Vec<u8> {
        let all = self.unsynced.len();
        match survivors {
            Survivors::None => self.durable.to_vec(),
            Survivors::All => {
                let mut bytes = self.durable.to_vec();
                self.unsynced.iter().for_each(|change| apply(&mut bytes, change));
                bytes
            }
            Survivors::LengthOnly => self.image_with(all, |_| (0, None)),
            Survivors::Random { rng, tear } => {
                let metadata = match rng.below(4) {
                    0 => 0,
                    1 => all,
                    _ => rng.below(all + 1),
                };
                let taste = rng.below(4);
                self.image_with(metadata, |writes| {
                    let kept = match taste {
                        0 => writes,
                        1 => rng.below(2) * writes,
                        _ => rng.below(writes + 1),
                    };
                    let torn = tear && kept < writes && rng.coin();
                    (kept, torn.then(|| rng.below(SECTOR_BYTES)))
                })
            }
        }
    }

    /// The image in which the first `metadata` changes reached the disk as far as they concern the length, and of the
    /// writes to each sector as many as `choose` says for their number; and of the one after those, with `Some(tear)`,
    /// the sector's first `tear` bytes.
    fn image_with(&self, metadata: usize, mut choose: impl FnMut(usize) -> (usize, Option<usize>)) -> Vec<u8> {
        let lengths = self.lengths();
        let cuts: Vec<(usize, usize)> =
            (0..self.unsynced.len()).filter(|&i| lengths[i + 1] < lengths[i]).map(|i| (i, lengths[i + 1])).collect();
        let (durable_cuts, lost_cuts) = cuts.split_at(cuts.partition_point(|&(i, _)| i < metadata));

        let mut bytes = self.durable.to_vec();
        durable_cuts.iter().for_each(|&(_, len)| bytes.truncate(len));
        bytes.resize(lengths[metadata], 0);
        for (sector, mut writes) in self.writes_by_sector() {
            let end = (sector + 1) * SECTOR_BYTES;
            if let Some(&(cut, _)) = lost_cuts.iter().find(|&&(_, len)| len < end) {
                writes.retain(|&write| write < cut);
            }
            let (kept, tear) = choose(writes.len());
            let mut image = self.sector(sector, &writes[..kept], durable_cuts);
            if let Some(tear) = tear {
                let next = self.sector(sector, &writes[..=kept], durable_cuts);
                image[..tear].copy_from_slice(&next[..tear]);
            }
            put(&mut bytes, sector * SECTOR_BYTES, &image);
        }
        bytes
    }

    /// The length before the first unsynced change and after each.
    fn lengths(&self) -> Vec<usize> {
        let mut len = self.durable.len();
        let mut lengths = vec![len];
        for change in &self.unsynced {
            len = match change {
                Change::Write { at, bytes } => len.max(at + bytes.len()),
                Change::SetLen(len) => *len,
            };
            lengths.push(len);
        }
        lengths
    }

    fn writes_by_sector(&self) -> BTreeMap<usize, Vec<usize>> {
        let mut sectors: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, change) in self.unsynced.iter().enumerate() {
            if let Change::Write { at, bytes } = change {
                for sector in at / SECTOR_BYTES..=(at + bytes.len() - 1) / SECTOR_BYTES {
                    sectors.entry(sector).or_default().push(i);
                }
            }
        }
        sectors
    }

    /// A sector with the given writes and cuts applied in the order in which they were made.
    fn sector(&self, sector: usize, writes: &[usize], cuts: &[(usize, usize)]) -> Sector {
        let start = sector * SECTOR_BYTES;
        let mut image = [0; SECTOR_BYTES];
        put_from(&mut image, start, 0, &self.durable);
        let steps: BTreeSet<(usize, Option<usize>)> =
            writes.iter().map(|&i| (i, None)).chain(cuts.iter().map(|&(i, len)| (i, Some(len)))).collect();
        for (i, cut) in steps {
            match (cut, &self.unsynced[i]) {
                (Some(len), _) => image[len.clamp(start, start + SECTOR_BYTES) - start..].fill(0),
                (None, Change::Write { at, bytes }) => put_from(&mut image, start, *at, bytes),
                (None, Change::SetLen(_)) => unreachable!("only writes are listed by sector"),
            }
        }
        image
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::SetLen(len) => bytes.resize(*len, 0),
        Change::Write { at, bytes: new } => {
            bytes.resize(bytes.len().max(at + new.len()), 0);
            bytes[*at..at + new.len()].copy_from_slice(new);
        }
    }
}

/// Copies `from` to position `at` of `bytes` as far as it fits.
fn put(bytes: &mut [u8], at: usize, from: &[u8]) {
    let end = bytes.len().min(at + from.len());
    if at < end {
        bytes[at..end].copy_from_slice(&from[..end - at]);
    }
}

/// Copies to the sector at `start` what it shares with `from`, which lies at `at`.
fn put_from(sector: &mut Sector, start: usize, at: usize, from: &[u8]) {
    let begin = at.max(start);
    let end = (at + from.len()).min(start + SECTOR_BYTES);
    if begin < end {
        sector[begin - start..end - start].copy_from_slice(&from[begin - at..end - at]);
    }
}
