//! Showing the rows: a table for each case, and JSON.

use super::{
    case::Case,
    summary::{QUANTILES, Row},
};
use crate::Failure;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde_json::json;
use std::{fs, path::Path};

const HEADER: [&str; 19] = [
    "subject",
    "appends/s",
    "min .. max",
    "MB/s",
    "p50 ms",
    "p99",
    "p99.9",
    "CPU us",
    "written",
    "flushes/s",
    "appends/flush",
    "synced",
    "read MB/s",
    "read p50 ms",
    "read p99",
    "read p99.9",
    "of model",
    "of raw journal",
    "over raft-engine",
];

/// What the columns mean, for under the tables.
pub(crate) const LEGEND: &str = "CPU us: processor time of the process for each append, generator and all. \
    written: bytes that the disk got for each byte appended. flushes: requests that the disk completed, counted by the \
    kernel, as are others' on the same disk. synced: whether these can cover what was acknowledged. read: by tail \
    consumers, from before the append to when they have it.";

/// Three digits, or whole.
pub(crate) fn figure(value: f64) -> String {
    match value {
        100.0.. => thousands(value),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The tables of all cases, each under its name.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut cases: Vec<Case> = rows.iter().map(|row| row.case).collect();
    cases.dedup();
    let mut text = String::new();
    for case in cases {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.case == case).collect();
        text.push_str(&format!("\n{case}\n{}\n", table(&rows)));
        for row in rows.iter().filter(|row| !row.note.is_empty()) {
            text.push_str(&format!("{}: {}\n", row.subject, row.note));
        }
        for (row, done) in rows.iter().filter_map(|row| Some((row, row.upkeep?))) {
            let cleaned = done.bytes_cleaned as f64 / 1e6;
            text.push_str(&format!(
                "{}: {} segments removed; {} compactions of {cleaned:.0} MB, in all rounds\n",
                row.subject, done.segments_removed, done.cleanings
            ));
        }
    }
    text
}

fn table(rows: &[&Row]) -> Table {
    // A column that no row fills is left out.
    let lines: Vec<[String; HEADER.len()]> = rows.iter().map(|row| cells(row)).collect();
    let kept: Vec<usize> =
        (0..HEADER.len()).filter(|at| lines.iter().any(|line| line.get(*at).is_some_and(|c| !c.is_empty()))).collect();
    let keep = |line: &[String]| kept.iter().filter_map(|at| line.get(*at).cloned()).collect::<Vec<_>>();
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(keep(&HEADER.map(str::to_owned)));
    for line in &lines {
        let cells = keep(line).into_iter().enumerate().map(|(at, text)| {
            Cell::new(text).set_alignment(if at == 0 { CellAlignment::Left } else { CellAlignment::Right })
        });
        table.add_row(cells.collect::<Vec<_>>());
    }
    table
}

fn cells(row: &Row) -> [String; HEADER.len()] {
    let maybe = |value: Option<f64>| value.map_or(String::new(), figure);
    let percent = |value: Option<f64>| value.map_or(String::new(), |value| format!("{:.0} %", value * 100.0));
    [
        row.subject.to_owned(),
        figure(row.median),
        format!("{} .. {}", figure(row.min), figure(row.max)),
        figure(row.payload_mb_per_s()),
        maybe(row.latency_ms(0.5)),
        maybe(row.latency_ms(0.99)),
        maybe(row.latency_ms(0.999)),
        maybe(row.processor_us_per_append),
        maybe(row.write_amplification),
        row.flushes_per_s.map_or("n/a".to_owned(), figure),
        maybe(row.appends_per_flush),
        row.synced.word().to_owned(),
        maybe(row.read_mb_per_s),
        maybe(row.end_to_end_ms(0.5)),
        maybe(row.end_to_end_ms(0.99)),
        maybe(row.end_to_end_ms(0.999)),
        percent(row.of_model),
        percent(row.of_raw_journal),
        row.over_raft_engine.map_or(String::new(), |times| format!("{times:.2} times")),
    ]
}

/// One object a row.
pub(crate) fn write_json(path: &Path, machine: &str, rows: &[Row]) -> Result<(), Failure> {
    let rows: Vec<_> = rows.iter().map(object).collect();
    let all = json!({"machine": machine, "quantiles": QUANTILES, "rows": rows});
    fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(())
}

fn object(row: &Row) -> serde_json::Value {
    json!({
        "batch_bytes": row.case.batch_bytes,
        "partitions": row.case.partitions,
        "load": row.case.load.to_string(),
        "subject": row.subject,
        "note": row.note,
        "appends_per_s": {"median": row.median, "min": row.min, "max": row.max},
        "latencies_ms": row.latencies_ms,
        "processor_us_per_append": row.processor_us_per_append,
        "write_amplification": row.write_amplification,
        "flushes_per_s": row.flushes_per_s,
        "appends_per_flush": row.appends_per_flush,
        "synced": row.synced.word(),
        "read_mb_per_s": row.read_mb_per_s,
        "end_to_end_ms": row.end_to_end_ms,
        "segments_removed": row.upkeep.map(|done| done.segments_removed),
        "compactions": row.upkeep.map(|done| done.cleanings),
        "of_model": row.of_model,
        "of_raw_journal": row.of_raw_journal,
        "over_raft_engine": row.over_raft_engine,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_or_are_whole() {
        let values = [0.123, 12.34, 123.4, 1_234_567.0].map(figure);
        assert_eq!(values, ["0.12", "12.3", "123", "1,234,567"].map(str::to_owned));
    }
}
