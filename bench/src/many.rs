//! Opening many partitions: after a clean close and after none, and what they cost while they are idle.
//!
//! Each measurement is a process of its own, so that memory and open files are those of one open. It opens the directory,
//! loads all partitions, waits until they have come to rest, counts, and then closes; or appends to each partition, durably,
//! and ends without closing, so that the next one recovers.

use crate::{
    Failure, machine,
    place::{Place, PlaceArgs},
    workloads::shapes,
};
use comfy_table::{Table, presets};
use duramen::{
    AppendAsLeader, Durability, LogConfig, LogManager, ManagerOptions, TopicPartition, ValidationPolicy, validate,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The timestamp of what is appended.
const NOW_MS: i64 = 1_700_000_000_000;
const BATCH_BYTES: usize = 1024;
/// What a partition's directory and its files take on a disk at most.
const PARTITION_BYTES: u64 = 64 << 10;
/// Journals and what else there is once.
const FIXED_BYTES: u64 = 2 << 30;
/// Files that may be open for each partition, with what there is once.
const FILES: u64 = 4;
const FIXED_FILES: u64 = 1024;
/// After this the partitions have come to rest: the manager looks twice a second.
const REST: Duration = Duration::from_millis(1600);

/// Measure opening and recovery of many partitions, and what they cost while they are idle
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// How many partitions, with one batch each at first
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    partitions: Vec<usize>,
    /// Threads that load them
    #[arg(long, value_delimiter = ',', default_value = "2,8")]
    threads: Vec<usize>,
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Write one object per row to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Of the program itself: open this directory once
    #[arg(long, hide = true)]
    once: Option<PathBuf>,
    /// Of the program itself: append, and do not close
    #[arg(long, hide = true, requires = "once")]
    leave: bool,
}

/// What one process measured.
#[derive(Debug, Clone, Copy)]
struct Once {
    open_ms: f64,
    memory_bytes: f64,
    files: f64,
}

/// Measures and shows.
pub(crate) fn run(args: &Args, stop: &AtomicBool) -> Result<(), Failure> {
    if let Some(dir) = &args.once {
        let threads = args.threads.first().copied().unwrap_or(1);
        println!("{}", once(dir, threads, args.leave)?);
        return Ok(());
    }
    if args.rounds == 0 || [&args.partitions, &args.threads].iter().any(|list| list.contains(&0)) {
        return Err("--rounds, --partitions and --threads may not be 0".into());
    }
    let place = Place::open(&args.place)?;
    let machine = machine::describe(place.path())?;
    println!("{machine}");
    let mut rows = Vec::new();
    for &partitions in &args.partitions {
        rows.extend(measure(args, partitions, place.path(), stop)?);
    }
    println!("{}", table(&rows));
    println!(
        "memory and files: while all are open and idle, of all partitions together over that of the empty manager"
    );
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&json!({"machine": machine.to_string(), "rows": rows}))? + "\n")?;
    }
    Ok(())
}

/// All rounds with so many partitions, in a directory that is deleted: two rows for each number of threads, and the floor.
fn measure(args: &Args, partitions: usize, place: &Path, stop: &AtomicBool) -> Result<Vec<Value>, Failure> {
    enough_space(place, partitions)?;
    allow_files(partitions)?;
    let dir = place.join("partitions");
    create(&dir, partitions)?;
    let mut floor_ms = Vec::new();
    let mut rows = Vec::new();
    for &threads in &args.threads {
        let (mut clean, mut unclean) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            if stop.load(Ordering::SeqCst) {
                fs::remove_dir_all(&dir)?;
                return Err("interrupted; the disk is left clean".into());
            }
            floor_ms.push(list(&dir)?);
            clean.push(child(&dir, threads, false)?);
            child(&dir, threads, true)?;
            unclean.push(child(&dir, threads, false)?);
        }
        rows.push(row(partitions, &format!("clean, {threads} threads"), &clean));
        rows.push(row(partitions, &format!("recovery, {threads} threads"), &unclean));
    }
    fs::remove_dir_all(&dir)?;
    floor_ms.sort_by(f64::total_cmp);
    let what = "list all files, ask for their lengths";
    rows.push(json!({"partitions": partitions, "what": what, "open_ms": median(&floor_ms)}));
    Ok(rows)
}

fn enough_space(place: &Path, partitions: usize) -> Result<(), Failure> {
    let needed = FIXED_BYTES + partitions as u64 * PARTITION_BYTES;
    let free = machine::free_bytes(place)?;
    if free < needed {
        let (free, needed) = (indicatif::HumanBytes(free), indicatif::HumanBytes(needed));
        return Err(format!("{free} are free, {partitions} partitions may need {needed}").into());
    }
    Ok(())
}

/// Raises the limit of open files as far as these partitions may need; children inherit it.
fn allow_files(partitions: usize) -> Result<(), Failure> {
    let needed = FIXED_FILES + FILES * partitions as u64;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= needed {
        return Ok(());
    }
    // The hard limit only root may raise.
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed))
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))?;
    let (now, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if now < needed {
        println!("{partitions} partitions may need {needed} open files; the limit is {now}");
    }
    Ok(())
}

fn create(dir: &Path, partitions: usize) -> Result<(), Failure> {
    fs::create_dir(dir)?;
    let manager = LogManager::open(&[dir], ManagerOptions::default())?;
    let config = LogConfig::default();
    for number in 0..partitions {
        manager.get_or_create(&TopicPartition::new("bench", i32::try_from(number)?)?, &config)?;
    }
    append_to_all(&manager)?;
    Ok(manager.close()?)
}

fn append_to_all(manager: &LogManager) -> Result<(), Failure> {
    let batch = shapes::batch_of(BATCH_BYTES)?;
    let policy = ValidationPolicy::from_config(&LogConfig::default());
    let mut appends = Vec::new();
    for name in manager.partitions() {
        let partition = manager.get(&name).ok_or("a partition is not open")?;
        let batch = validate(batch.clone(), &policy, NOW_MS)?;
        appends.push(partition.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS), Durability::Flushed)?);
    }
    for append in appends {
        append.wait(None)?;
    }
    Ok(())
}

/// Milliseconds to list all files and to ask for the length of each: less an open cannot do.
fn list(dir: &Path) -> Result<f64, Failure> {
    let begun = Instant::now();
    let mut bytes = 0;
    for partition in fs::read_dir(dir)? {
        let partition = partition?;
        if partition.file_type()?.is_dir() {
            for file in fs::read_dir(partition.path())? {
                bytes += file?.metadata()?.len();
            }
        }
    }
    std::hint::black_box(bytes);
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// Has a process of its own open the directory.
fn child(dir: &Path, threads: usize, leave: bool) -> Result<Once, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["open", "--threads", &threads.to_string(), "--once"]).arg(dir).stdout(Stdio::piped());
    if leave {
        command.arg("--leave");
    }
    let mut child = command.spawn()?;
    let mut text = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_to_string(&mut text)?;
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the process that opens the partitions ended with {status}").into());
    }
    let value: Value = serde_json::from_str(&text)?;
    let figure = |name: &str| value.get(name).and_then(Value::as_f64).ok_or(format!("no {name} was measured"));
    Ok(Once { open_ms: figure("open_ms")?, memory_bytes: figure("memory_bytes")?, files: figure("files")? })
}

/// The process: opens, waits, counts; closes or not.
fn once(dir: &Path, threads: usize, leave: bool) -> Result<Value, Failure> {
    let begun = Instant::now();
    let manager = LogManager::open(&[dir], ManagerOptions::default())?;
    let opened = begun.elapsed();
    let (memory, files) = (resident_bytes()?, open_files()?);
    let begun = Instant::now();
    manager.load(threads, &|_| LogConfig::default(), &|_| {})?;
    let open_ms = (opened + begun.elapsed()).as_secs_f64() * 1e3;
    thread::sleep(REST);
    let value = json!({
        "open_ms": open_ms,
        "memory_bytes": resident_bytes()?.saturating_sub(memory),
        "files": open_files()?.saturating_sub(files),
    });
    if leave {
        append_to_all(&manager)?;
        drop(manager);
    } else {
        manager.close()?;
    }
    Ok(value)
}

fn resident_bytes() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the kernel tells no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

fn open_files() -> Result<u64, Failure> {
    Ok(fs::read_dir("/proc/self/fd")?.count() as u64)
}

fn row(partitions: usize, what: &str, rounds: &[Once]) -> Value {
    let of = |figure: fn(&Once) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let open_ms = of(|once| once.open_ms);
    json!({
        "partitions": partitions,
        "what": what,
        "open_ms": median(&open_ms),
        "open_ms_min": open_ms.first(),
        "open_ms_max": open_ms.last(),
        "bytes_per_partition": median(&of(|once| once.memory_bytes)) / partitions as f64,
        "files_per_partition": median(&of(|once| once.files)) / partitions as f64,
    })
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn table(rows: &[Value]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["partitions", "open", "ms", "min .. max", "B/partition", "files/partition"]);
    for row in rows {
        let figure = |name: &str, digits: usize| {
            row.get(name).and_then(Value::as_f64).map_or(String::new(), |value| format!("{value:.digits$}"))
        };
        let range = format!("{} .. {}", figure("open_ms_min", 0), figure("open_ms_max", 0));
        table.add_row([
            figure("partitions", 0),
            row.get("what").and_then(Value::as_str).unwrap_or_default().to_owned(),
            figure("open_ms", 0),
            if row.get("open_ms_min").is_some() { range } else { String::new() },
            figure("bytes_per_partition", 0),
            figure("files_per_partition", 1),
        ]);
    }
    table
}
