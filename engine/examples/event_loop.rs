//! One thread with an event loop of its own: it keeps many appends going and hears of them by a file descriptor.

use duramen::{
    AppendAsLeader, CompletionQueue, Durability, LogConfig, LogManager, ManagerOptions, TopicPartition,
    ValidationPolicy, format::builder::BatchBuilder, validate,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{error::Error, os::fd::AsFd, time::SystemTime};

const APPENDS: u64 = 10_000;
const IN_FLIGHT: u64 = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let manager = LogManager::open(&[home.path()], ManagerOptions::default())?;
    manager.prepare()?;
    let config = LogConfig::default();
    let policy = ValidationPolicy::from_config(&config);
    let now_ms = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis())?;
    let partitions = (0..10)
        .map(|number| Ok(manager.get_or_create(&TopicPartition::new("orders", number)?, &config)?))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let queue = CompletionQueue::new()?;
    let (mut begun, mut ended, mut completions) = (0, 0, Vec::new());
    while ended < APPENDS {
        while begun < APPENDS && begun - ended < IN_FLIGHT {
            let batch = BatchBuilder::new().record(now_ms, Some(b"key"), Some(b"value")).build()?;
            let batch = validate(batch, &policy, now_ms)?;
            let partition = partitions.get(usize::try_from(begun)? % partitions.len()).ok_or("no partition")?;
            let append = partition.append_as_leader(batch, AppendAsLeader::new(0, now_ms), Durability::Flushed)?;
            append.into_ticket().enqueue(&queue, begun);
            begun += 1;
        }
        // Sockets would be polled beside it.
        poll(&mut [PollFd::new(queue.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
        queue.drain(&mut completions);
        for completion in completions.drain(..) {
            completion.result?;
            ended += 1;
        }
    }
    println!("{ended} durable appends in {} writes", manager.metrics().remove(0).journal_blocks);
    manager.close()?;
    Ok(())
}
