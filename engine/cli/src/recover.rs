//! `duramen recover`.

use crate::{
    args::RecoverArgs,
    files,
    output::{self, Failure, Output},
};
use duramen::{DirectoryOptions, LogDirectory, OnCorruption, OpenError};
use indicatif::{ProgressBar, ProgressStyle};
use std::{io::IsTerminal, process::ExitCode, time::Duration};

pub(crate) fn run(args: &RecoverArgs) -> Result<ExitCode, Failure> {
    // A path that is not a log directory must not become one.
    files::partitions(&args.dir)?;
    if args.dir.join(duramen::format::names::LEADER_EPOCH_CHECKPOINT).exists() {
        return Err(Failure::new(format!(
            "{} is a partition's directory: name the log directory above it",
            args.dir.display()
        )));
    }
    let config = output::config(&args.properties)?;
    let on_corruption = if args.truncate { OnCorruption::Truncate } else { OnCorruption::Report };
    let options =
        DirectoryOptions { on_corruption, lock_timeout: Duration::from_secs(3), ..DirectoryOptions::default() };
    let mut directory = LogDirectory::open_with(&args.dir, options).map_err(Failure::new)?;
    let mut out = Output::new();
    let mut refused = 0;
    for partition in directory.partitions().to_vec() {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(partition.to_string());
        let opened = directory.get_or_create_with(&partition, &config, &mut |progress| {
            bar.set_length(progress.bytes_total);
            bar.set_position(progress.bytes_done);
        });
        bar.finish_and_clear();
        match opened {
            Ok(_) => {
                if let Some((report, took)) = directory.report().partitions.get(&partition) {
                    let title = out.bold(&partition);
                    out.line(format!("{title}: {report}, {} ms", took.as_millis()))?;
                }
            }
            Err(OpenError::Partition { source, .. }) => {
                refused += 1;
                let line = out.red(format!("{partition}: {source}"));
                out.line(line)?;
            }
            Err(error) => return Err(Failure::new(error)),
        }
    }
    for name in &directory.report().foreign {
        out.line(format!("{name}: not Kafka's, left alone"))?;
    }
    directory.close().map_err(Failure::new)?;
    if refused > 0 {
        out.line(format!("{refused} partitions were refused and are untouched; --truncate cuts them as Kafka would"))?;
    }
    out.flush()?;
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
