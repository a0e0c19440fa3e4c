//! The first program: append, flush, read back, and send to a socket without a copy.
//!
//! `cargo run --example first`

use duramen::{
    AppendAsLeader, Fetch, Isolation, LogConfig, LogDirectory, TopicPartition, ValidationPolicy,
    format::{batch::Batches, builder::BatchBuilder},
    validate,
};
use std::{
    error::Error,
    io::Read,
    net::{TcpListener, TcpStream},
    time::{SystemTime, UNIX_EPOCH},
};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;

    // A log directory holds partitions; this one is new.
    let mut directory = LogDirectory::open(dir.path())?;
    let log = directory.get_or_create(&TopicPartition::new("orders", 0)?, &LogConfig::default())?;

    // What a producer would send: one record batch. It is checked before it comes near the log.
    let bytes = BatchBuilder::new()
        .record(now_ms, Some(b"order-1"), Some(b"two coffees"))
        .record(now_ms, Some(b"order-2"), Some(b"one tea"))
        .build()?;
    let batch = validate(bytes, &ValidationPolicy::from_config(&log.config()), now_ms)?;
    let info = log.append_as_leader(batch, AppendAsLeader::new(0, now_ms))?;
    println!("appended offsets {} to {}", info.first_offset, info.last_offset);

    // Written is readable; flushed survives power loss.
    log.flush()?;
    println!("flushed below offset {}", log.offsets().recovery_point);

    // A read finds bytes of a file; a socket gets them from the kernel.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let socket = TcpStream::connect(listener.local_addr()?)?;
    let fetched = log.reader().read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(0) })?;
    let records = fetched.records.ok_or("the log is empty")?;
    records.send_all(&socket, None)?;
    drop(socket);

    let mut received = Vec::new();
    listener.accept()?.0.read_to_end(&mut received)?;
    let mut scratch = Vec::new();
    for batch in Batches::new(&received) {
        for record in batch?.records(&mut scratch, 1 << 20)? {
            let record = record?;
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            println!("received {} {}: {}", record.offset(), text(record.key()), text(record.value()));
        }
    }
    directory.close()?;
    Ok(())
}
