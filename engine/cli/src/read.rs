//! `duramen read`.

use crate::{
    args::ReadArgs,
    dump::{DECOMPRESSED_BYTES, optional},
    files::{self, At, LogFile},
    output::{Failure, Output, show},
};
use duramen::format::{batch::Batch, record::Record};
use serde_json::json;
use std::{path::PathBuf, process::ExitCode, thread, time::Duration};

/// How often a followed partition is looked at.
const POLL: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &ReadArgs) -> Result<ExitCode, Failure> {
    let mut reader = Reader { args, out: Output::new(), left: args.max.unwrap_or(u64::MAX), next_offset: start(args)? };
    loop {
        reader.read_segments()?;
        reader.out.flush()?;
        if !args.follow || reader.left == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        thread::sleep(POLL);
    }
}

/// The first offset wanted.
fn start(args: &ReadArgs) -> Result<i64, Failure> {
    let segments = segments(args)?;
    if args.offset >= 0 {
        return Ok(args.offset);
    }
    let Some((base_offset, path)) = segments.last() else {
        return Ok(0);
    };
    let mut log = LogFile::open(path)?;
    let mut end = *base_offset;
    while let At::Batch(_, Ok(())) = log.step()? {
        end = log.batch().map_or(end, |batch| batch.header().next_offset());
    }
    Ok((end + args.offset).max(0))
}

fn segments(args: &ReadArgs) -> Result<Vec<(i64, PathBuf)>, Failure> {
    let segments = files::segments(&args.partition)?;
    if segments.is_empty() {
        return Err(Failure::new(format!("{} holds no segment of a log", args.partition.display())));
    }
    Ok(segments)
}

struct Reader<'a> {
    args: &'a ReadArgs,
    out: Output,
    left: u64,
    next_offset: i64,
}

impl Reader<'_> {
    fn read_segments(&mut self) -> Result<(), Failure> {
        let segments = segments(self.args)?;
        let ends = segments.iter().skip(1).map(|(base_offset, _)| *base_offset).chain([i64::MAX]);
        for ((_, path), end) in segments.iter().zip(ends) {
            if end > self.next_offset && self.left > 0 {
                self.read_segment(path)?;
            }
        }
        Ok(())
    }

    fn read_segment(&mut self, path: &std::path::Path) -> Result<(), Failure> {
        let mut log = LogFile::open(path)?;
        while self.left > 0 {
            match log.step()? {
                // What follows is being written, or torn: a recovery's business.
                At::End | At::Rest(..) => return Ok(()),
                At::Batch(position, checked) => {
                    let batch = checked.and_then(|()| log.batch());
                    let result = batch.and_then(|batch| batch.check_crc().map(|()| batch));
                    match result {
                        Ok(batch) => self.print_batch(&batch)?,
                        Err(_) if self.args.follow => return Ok(()),
                        Err(error) => {
                            return Err(Failure::new(format!("{} at byte {position}: {error}", path.display())));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn print_batch(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let header = batch.header();
        if header.next_offset() <= self.next_offset {
            return Ok(());
        }
        if !header.attributes().is_control() {
            let mut scratch = Vec::new();
            for record in batch.records(&mut scratch, DECOMPRESSED_BYTES).map_err(Failure::new)? {
                let record = record.map_err(Failure::new)?;
                if record.offset() >= self.next_offset && self.left > 0 {
                    self.left -= 1;
                    self.print(&record)?;
                    self.next_offset = record.offset() + 1;
                }
            }
        }
        if self.left > 0 {
            self.next_offset = header.next_offset();
        }
        Ok(())
    }

    fn print(&mut self, record: &Record<'_>) -> Result<(), Failure> {
        let hex = self.args.hex;
        if self.args.json {
            let headers: Vec<_> = record
                .headers()
                .map(|(key, value)| json!({"key": show(Some(key), false), "value": value.map(|value| show(Some(value), hex))}))
                .collect();
            return self.out.line(json!({"offset": record.offset(), "timestamp": record.timestamp(),
                "key": record.key().map(|key| show(Some(key), hex)),
                "value": record.value().map(|value| show(Some(value), hex)), "headers": headers}));
        }
        if self.args.verbose {
            let (key, value) = (show(record.key(), hex), show(record.value(), hex));
            return self.out.line(format!("{}\t{}\t{key}\t{value}", record.offset(), optional(record.timestamp())));
        }
        self.out.line(show(record.value(), hex))
    }
}
