//! `duramen append`.

use crate::{
    args::{AppendArgs, CodecName},
    files,
    output::{self, Failure, Output, now_ms},
};
use duramen::{
    AppendAsLeader, Log, LogDirectory, TopicPartition, ValidationPolicy,
    format::{
        builder::{BatchBuilder, NewRecord},
        compression::{Codec, Compression},
        names::DirectoryName,
    },
    validate,
};
use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// A batch is closed when it has so many bytes, whatever its number of records.
const BATCH_BYTES: usize = 512 << 10;

pub(crate) fn run(args: &AppendArgs) -> Result<ExitCode, Failure> {
    let (home, partition) = locate(&args.partition)?;
    let config = output::config(&args.properties)?;
    let input: Box<dyn BufRead> = match &args.file {
        Some(path) => Box::new(BufReader::new(File::open(path).map_err(Failure::at(path.display()))?)),
        None => Box::new(io::stdin().lock()),
    };
    let mut directory = LogDirectory::open(&home).map_err(Failure::new)?;
    let log = directory.get_or_create(&partition, &config).map_err(Failure::new)?;
    let first = log.offsets().log_end;
    let result = append(log, input, args);
    let end = log.offsets().log_end;
    // What was appended before a bad line stays, and the directory is left in order.
    directory.close().map_err(Failure::new)?;
    result.map_err(|failure| match failure {
        Failure::Message(why) => {
            Failure::new(format!("{why}; offsets {first} to {end} (exclusive) were appended and stay"))
        }
        other => other,
    })?;
    let mut out = Output::new();
    out.line(format!("{partition}: offsets {first} to {end} (exclusive) appended and flushed"))?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The log directory and the partition that a path names.
fn locate(path: &Path) -> Result<(PathBuf, TopicPartition), Failure> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let parsed = DirectoryName::parse(&name).map_err(Failure::new)?;
    let home = match path.parent() {
        Some(home) if !home.as_os_str().is_empty() => home.to_path_buf(),
        _ => PathBuf::from("."),
    };
    if home.exists() {
        files::log_directory(&home)?;
    }
    Ok((home, parsed.partition))
}

fn append(log: &mut Log, input: Box<dyn BufRead>, args: &AppendArgs) -> Result<(), Failure> {
    let compression = Compression::with_default_level(match args.codec {
        CodecName::None => Codec::None,
        CodecName::Gzip => Codec::Gzip,
        CodecName::Snappy => Codec::Snappy,
        CodecName::Lz4 => Codec::Lz4,
        CodecName::Zstd => Codec::Zstd,
    });
    let most = i32::try_from(args.batch).unwrap_or(i32::MAX);
    let mut builder = BatchBuilder::new().compression(compression);
    for line in input.split(b'\n') {
        let line = line.map_err(Failure::at("input"))?;
        let (key, value) = split(&line, args.key_separator.as_deref());
        builder.push(&NewRecord { timestamp: Some(now_ms()), key, value: Some(value), ..NewRecord::default() });
        if builder.records_count() >= most || builder.uncompressed_size() >= BATCH_BYTES {
            write(log, &builder)?;
            builder = BatchBuilder::new().compression(compression);
        }
    }
    if builder.records_count() > 0 {
        write(log, &builder)?;
    }
    log.flush().map_err(Failure::new)
}

fn split<'a>(line: &'a [u8], separator: Option<&str>) -> (Option<&'a [u8]>, &'a [u8]) {
    let Some(separator) = separator.map(str::as_bytes).filter(|separator| !separator.is_empty()) else {
        return (None, line);
    };
    match line.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (line.get(..at), line.get(at + separator.len()..).unwrap_or_default()),
        None => (None, line),
    }
}

fn write(log: &mut Log, builder: &BatchBuilder) -> Result<(), Failure> {
    let bytes = builder.build().map_err(Failure::new)?;
    let policy = ValidationPolicy::from_config(&log.config());
    let batch = validate(bytes, &policy, now_ms()).map_err(Failure::new)?;
    let leader_epoch = log.reader().latest_epoch().unwrap_or(0);
    log.append_as_leader(batch, AppendAsLeader::new(leader_epoch, now_ms())).map_err(Failure::new)?;
    Ok(())
}
