//! What can be said on the command line.

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Look into Kafka log directories, check, repair and fill them.
///
/// A DIR is a log directory (what a broker has in log.dirs) or one partition's directory in it, such as data/orders-0.
#[derive(Debug, Parser)]
#[command(name = "duramen", version, propagate_version = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print what files hold: batches, records, indexes, snapshots, checkpoints
    Dump(DumpArgs),
    /// Check everything in a directory; exit status 1 if anything is wrong
    Verify(VerifyArgs),
    Info(InfoArgs),
    /// Print the records of a partition
    Read(ReadArgs),
    /// Append lines as records to a partition, which is created if there is none
    Append(AppendArgs),
    /// Bring a directory that was not closed in order into order, and close it
    Recover(RecoverArgs),
    Compact(CompactArgs),
    Retain(RetainArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct DumpArgs {
    /// Directories, or files such as 00000000000000000000.log, .index, .snapshot, leader-epoch-checkpoint
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Print keys, values and headers of every record
    #[arg(short, long)]
    pub(crate) records: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Print bytes as hexadecimal digits, even if they are text
    #[arg(long)]
    pub(crate) hex: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    pub(crate) dir: PathBuf,
    /// One JSON object a finding
    #[arg(long)]
    pub(crate) json: bool,
}

/// By what offsets, time and configuration a log is looked at.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Circumstances {
    /// A topic property for all partitions, for instance cleanup.policy=compact; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) properties: Vec<String>,
    /// Go by this time instead of the machine's, in ms since 1970
    #[arg(long, value_name = "MS")]
    pub(crate) at: Option<i64>,
    /// Take the log end for the high watermark, as the leader of a partition without other replicas does
    #[arg(long)]
    pub(crate) sole_replica: bool,
}

/// Show segments, offsets, producers, transactions, epochs, snapshots and health of a directory, one screen a partition.
///
/// Writes nothing and takes no lock, and works beside a running broker. Offsets are those that opening the directory now
/// would find, but for what a commit journal alone has; of the topic's configuration, which is not in the directory, only --set is known.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  duramen info /var/lib/kafka/orders-0 --set cleanup.policy=compact")]
pub(crate) struct InfoArgs {
    /// A log directory, or one partition's directory
    pub(crate) dir: PathBuf,
    /// One JSON object a partition
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) circumstances: Circumstances,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReadArgs {
    /// The partition's directory
    pub(crate) partition: PathBuf,
    /// Begin at this offset, not below the log start; negative counts from the end [default: the log start]
    #[arg(short, long, allow_negative_numbers = true)]
    pub(crate) offset: Option<i64>,
    /// Which records are shown: all, or those of committed transactions up to the first that is undecided
    #[arg(long, value_enum, default_value = "read_uncommitted")]
    pub(crate) isolation: IsolationLevel,
    /// Stop after so many records
    #[arg(short = 'n', long)]
    pub(crate) max: Option<u64>,
    /// Wait for more records at the end; not with read_committed
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// One JSON object a record
    #[arg(long)]
    pub(crate) json: bool,
    /// Print offset, timestamp and key as well
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Print bytes as hexadecimal digits, even if they are text
    #[arg(long)]
    pub(crate) hex: bool,
}

/// By Kafka's names, as in its consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum IsolationLevel {
    ReadUncommitted,
    ReadCommitted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CodecName {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AppendArgs {
    /// The partition's directory, for instance data/orders-0
    pub(crate) partition: PathBuf,
    /// Read lines from this file instead of standard input
    #[arg(short, long)]
    pub(crate) file: Option<PathBuf>,
    /// Split each line at the first occurrence into key and value
    #[arg(short, long)]
    pub(crate) key_separator: Option<String>,
    /// Codec of the batches
    #[arg(short, long, value_enum, default_value = "none")]
    pub(crate) codec: CodecName,
    /// Records of a batch at most
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch: u32,
    /// A topic property, for instance segment.bytes=1048576; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) properties: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RecoverArgs {
    /// The log directory
    pub(crate) dir: PathBuf,
    /// Cut logs before damage that was durable, as Kafka does, instead of refusing
    #[arg(long)]
    pub(crate) truncate: bool,
    /// A topic property for all partitions, for instance index.interval.bytes=4096; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) properties: Vec<String>,
}

/// Which partitions of a log directory are worked on, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Upkeep {
    /// The log directory
    pub(crate) dir: PathBuf,
    /// Only this partition, for instance orders-0, which is then taken at your word; may be repeated
    #[arg(short, long = "partition", value_name = "TOPIC-N")]
    pub(crate) partitions: Vec<String>,
    /// Say what would be done and do nothing: no lock is taken and no byte written
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove the files of replaced and removed segments at once instead of leaving that to the next open
    #[arg(long)]
    pub(crate) now: bool,
    /// Print JSON objects, one a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) circumstances: Circumstances,
}

/// Compact partitions: of each key the last value stays, offsets do not change.
///
/// A partition is due when its dirty ratio exceeds min.cleanable.dirty.ratio or its oldest dirty record is older than
/// max.compaction.lag.ms. Without --partition every partition is looked at, if cleanup.policy (--set) contains compact;
/// those that hold records without keys are left alone then, since compaction would drop these.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  duramen compact /var/lib/kafka --partition orders-0 --set delete.retention.ms=0 --dry-run"
)]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    pub(crate) upkeep: Upkeep,
    /// Compact what there is to compact, also where it is not due
    #[arg(long)]
    pub(crate) force: bool,
    /// Memory for the keys of one cleaning, 24 bytes a key
    #[arg(long, value_name = "BYTES", default_value_t = 128 << 20)]
    pub(crate) memory: usize,
    /// Read and write no more than this in a second
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_mb_per_second: Option<u64>,
}

/// Remove segments that are older than retention.ms, exceed retention.bytes, or lie below the log start.
///
/// Only segments below the high watermark go, the oldest first. Without --partition, compacted partitions and Kafka's
/// internal ones lose only what lies below their log start.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  duramen retain /var/lib/kafka --set retention.ms=86400000 --dry-run")]
pub(crate) struct RetainArgs {
    #[command(flatten)]
    pub(crate) upkeep: Upkeep,
}
