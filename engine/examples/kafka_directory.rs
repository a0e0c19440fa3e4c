//! Reads a partition of an existing Kafka log directory.
//!
//! `cargo run --example kafka_directory -- DIR TOPIC PARTITION` (a copy: the directory is opened as its owner)

use duramen::{Fetch, Isolation, LogConfig, LogDirectory, TopicPartition, format::batch::Batches};
use std::{env, error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [dir, topic, partition] = args.as_slice() else {
        return Err("usage: kafka_directory DIR TOPIC PARTITION".into());
    };
    let mut directory = LogDirectory::open(Path::new(dir))?;
    let partition = TopicPartition::new(topic, partition.parse()?)?;
    let log = directory.get(&partition, &LogConfig::default())?;
    let (reader, offsets) = (log.reader(), log.offsets());
    println!("{partition}: offsets {} to {} (exclusive)", offsets.log_start, offsets.log_end);
    let mut offset = offsets.log_start;
    let mut scratch = Vec::new();
    while offset < offsets.log_end {
        let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(offset) })?;
        let Some(records) = fetched.records.filter(|records| !records.is_empty()) else {
            break;
        };
        for batch in Batches::new(&records.to_vec()?) {
            let batch = batch?;
            if !batch.header().attributes().is_control() {
                for record in batch.records(&mut scratch, 1 << 30)? {
                    let record = record?;
                    let text = |bytes: Option<&[u8]>| {
                        bytes.map_or("null".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
                    };
                    println!("{}\t{}\t{}", record.offset(), text(record.key()), text(record.value()));
                }
            }
            offset = batch.header().next_offset();
        }
    }
    directory.close()?;
    Ok(())
}
