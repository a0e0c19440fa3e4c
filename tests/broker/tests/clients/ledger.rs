//! Ledgers as the programs in Go write them: a line for each message, with its partition, its offset and its value.

use std::{collections::BTreeMap, fs, path::Path};

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) value: String,
}

/// All entries of a ledger, in the order in which they were written; none where there is no ledger yet.
pub(crate) fn read(path: &Path) -> Vec<Entry> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // A line that is being written is not there yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(entry).collect()
}

fn entry(line: &str) -> Entry {
    let mut words = line.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("no entry: {line:?}"));
    Entry { partition: word().parse().unwrap(), offset: word().parse().unwrap(), value: word().to_owned() }
}

/// Asserts that consumers have received what was produced, each message once.
pub(crate) fn assert_each_once(produced: &[Entry], received: &[Entry]) {
    let mut count: BTreeMap<&Entry, i32> = produced.iter().map(|entry| (entry, 0)).collect();
    for entry in received {
        *count.get_mut(entry).unwrap_or_else(|| panic!("{entry:?} was never produced")) += 1;
    }
    let not_once: Vec<_> = count.iter().filter(|(_, times)| **times != 1).take(10).collect();
    assert!(not_once.is_empty(), "of {} messages, {} received, not once: {not_once:?}", produced.len(), received.len());
}

/// Asserts that one consumer has received the messages of each partition in order.
pub(crate) fn assert_in_order(received: &[Entry]) {
    let mut last: BTreeMap<i32, &Entry> = BTreeMap::new();
    for entry in received {
        if let Some(before) = last.insert(entry.partition, entry) {
            assert!(before.offset < entry.offset, "{entry:?} came after {before:?}");
        }
    }
}
