//! The harness: measures the engine beside the same system calls without it, on your disk, in one run.
//!
//! Real record batches (of real clients, from `bench/corpus`, or of any partition directory) are replayed at volume.
//! Subject and floor take turns; the table shows medians and their ratio. Every byte that is read back is compared.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

mod corpus;
mod durable;
mod floors;
mod kafka;
mod loopback;
mod machine;
mod many;
mod measure;
#[cfg(feature = "peers")]
mod peers;
mod place;
mod report;
mod workloads;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use measure::Row;
use place::{Place, PlaceArgs};
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Measure duramen beside the raw system calls on this disk.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    place: PlaceArgs,
    /// Seconds to spend, about
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Replay the batches of this Kafka partition directory instead of the corpus
    #[arg(long)]
    input: Option<PathBuf>,
    /// Only workloads whose names contain one of these words
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Measure Kafka's own log too, where there is a like: needs Java and `tests/oracle/build`, and takes minutes
    #[arg(long)]
    kafka: bool,
    /// Write one row per figure to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the report with plots to this file
    #[arg(long, default_value = "target/duramen-report.html")]
    report: PathBuf,
    /// Leave out the short measurement of durable appends, which takes about half a minute more; so does --only
    #[arg(long)]
    no_durable: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Durable(durable::Args),
    Open(many::Args),
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duramen-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn run(args: &Args) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    ctrlc::set_handler(move || seen.store(true, Ordering::SeqCst))?;
    match &args.command {
        None => {
            buffered(args, &stop)?;
            if args.no_durable || !args.only.is_empty() {
                return Ok(());
            }
            println!("\nDurable appends, in short; the whole is `durable`");
            let report = args.report.with_extension("durable.html");
            durable::run(&durable::Args::short(args.place.clone(), report), &stop)
        }
        Some(Command::Durable(args)) => durable::run(args, &stop),
        Some(Command::Open(args)) => many::run(args, &stop),
    }
}

/// The workloads that wait for no disk, or for one file at a time.
fn buffered(args: &Args, stop: &AtomicBool) -> Result<(), Failure> {
    let scratch = Place::open(&args.place)?;
    let machine = machine::describe(scratch.path())?;
    println!("{machine}");
    let batches = corpus::load(args.input.as_deref())?;
    println!("{}", batches.describe());
    let wanted: Vec<_> = workloads::ALL
        .iter()
        .filter(|workload| args.only.is_empty() || args.only.iter().any(|word| workload.name.contains(word.as_str())))
        .collect();
    if wanted.is_empty() {
        let names: Vec<_> = workloads::ALL.iter().map(|workload| workload.name).collect();
        return Err(format!("--only names no workload; there are: {}", names.join(", ")).into());
    }
    let plan = measure::Plan::new(args.seconds, wanted.len(), scratch.path())?;
    let kafka = if args.kafka {
        kafka::Kafka::find().inspect_err(|why| println!("Kafka's own log is left out: {why}")).ok()
    } else {
        None
    };
    let bar = ProgressBar::new(u64::try_from(wanted.len() * plan.rounds)?);
    bar.set_style(ProgressStyle::with_template("{msg:32} {wide_bar} {pos}/{len}")?);
    let mut rows: Vec<Row> = Vec::new();
    for workload in wanted {
        bar.set_message(workload.name);
        rows.extend(measure::interleave(workload, &batches, &plan, scratch.path(), stop, &bar)?);
        if stop.load(Ordering::SeqCst) {
            bar.abandon();
            return Err("interrupted; the disk is left clean".into());
        }
        let ours = rows.iter().find(|row| row.workload == workload.name).cloned();
        if let (Some(kafka), Some(ours)) = (&kafka, ours) {
            rows.extend(kafka.measure(workload, &ours, &plan, scratch.path())?);
        }
    }
    bar.finish_and_clear();
    println!("{}", report::table(&rows));
    report::write_html(&args.report, &machine, &rows)?;
    println!("report: {}", args.report.display());
    if let Some(path) = &args.json {
        report::write_json(path, &rows)?;
    }
    Ok(())
}
