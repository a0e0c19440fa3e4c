//! `duramen recover`.

use crate::{
    args::RecoverArgs,
    files,
    output::{self, Failure, Output},
};
use duramen::{DirectoryOptions, LogDirectory, OnCorruption, OpenError};
use std::{process::ExitCode, time::Duration};

pub(crate) fn run(args: &RecoverArgs) -> Result<ExitCode, Failure> {
    // A path that is not a log directory must not become one.
    files::partitions(files::log_directory(&args.dir)?)?;
    let config = output::config(&args.properties)?;
    let on_corruption = if args.truncate { OnCorruption::Truncate } else { OnCorruption::Report };
    let options =
        DirectoryOptions { on_corruption, lock_timeout: Duration::from_secs(3), ..DirectoryOptions::default() };
    let mut directory = LogDirectory::open_with(&args.dir, options).map_err(Failure::new)?;
    let mut out = Output::new();
    let mut refused = 0;
    for partition in directory.partitions().to_vec() {
        let bar = output::progress_bar(&partition, 0);
        let opened = directory.get_or_create_with(&partition, &config, &mut |progress| {
            bar.set_length(progress.bytes_total);
            bar.set_position(progress.bytes_done);
        });
        bar.finish_and_clear();
        match opened {
            Ok(_) => {
                let title = out.bold(&partition);
                out.line(match directory.report().partitions.get(&partition) {
                    Some((report, took)) => format!("{title}: {report}, {} ms", took.as_millis()),
                    None => format!("{title}: clean, as it was left"),
                })?;
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
