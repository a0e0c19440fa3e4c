//! Reads a partition of an existing Kafka log directory.
//!
//! `cargo run --example kafka_directory -- DIR TOPIC PARTITION` (a copy: the directory is opened as its owner)

use duramen::{Isolation, LogConfig, LogDirectory, TopicPartition};
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
    let mut scratch = Vec::new();
    reader.for_each_batch(offsets.log_start, Isolation::LogEnd, |batch| {
        if batch.header().attributes().is_control() {
            return Ok(());
        }
        for record in batch.records(&mut scratch, 1 << 30)? {
            let record = record?;
            let text = |bytes: Option<&[u8]>| {
                bytes.map_or("null".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
            };
            println!("{}\t{}\t{}", record.offset(), text(record.key()), text(record.value()));
        }
        Ok::<(), Box<dyn Error>>(())
    })?;
    directory.close()?;
    Ok(())
}
