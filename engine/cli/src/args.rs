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
    /// Show segments, offsets, sizes, epochs and health of a directory on one screen
    Info(InfoArgs),
    /// Print the records of a partition
    Read(ReadArgs),
    /// Append lines as records to a partition, which is created if there is none
    Append(AppendArgs),
    /// Bring a directory that was not closed in order into order, and close it
    Recover(RecoverArgs),
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

#[derive(Debug, clap::Args)]
pub(crate) struct InfoArgs {
    pub(crate) dir: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReadArgs {
    /// The partition's directory
    pub(crate) partition: PathBuf,
    /// Begin at this offset; negative counts from the end
    #[arg(short, long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) offset: i64,
    /// Stop after so many records
    #[arg(short = 'n', long)]
    pub(crate) max: Option<u64>,
    /// Wait for more records at the end
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
