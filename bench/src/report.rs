//! Showing the result: a table, JSON, and a page with plots.

use crate::{Failure, machine::Machine, measure::Row};
use comfy_table::{Table, presets};
use plotters::prelude::*;
use serde_json::json;
use std::{collections::BTreeMap, fs, path::Path};

fn figure(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// The table for the terminal.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["workload", "subject", "median", "min .. max", "unit", "of raw", "aim", "syncs"]);
    for row in rows {
        table.add_row([
            row.workload.to_owned(),
            row.subject.to_owned(),
            figure(row.median),
            format!("{} .. {}", figure(row.min), figure(row.max)),
            row.unit.to_owned(),
            match (row.ratio, row.over_kafka) {
                (Some(ratio), _) => format!("{:.0} %", ratio * 100.0),
                (None, Some(times)) => format!("duramen {times:.2} times"),
                (None, None) => String::new(),
            },
            row.bar.map_or(String::new(), |bar| format!("{:.0} %", bar * 100.0)),
            row.syncs.to_string(),
        ]);
    }
    table
}

/// One object a figure.
pub(crate) fn write_json(path: &Path, rows: &[Row]) -> Result<(), Failure> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({"workload": row.workload, "subject": row.subject, "unit": row.unit, "median": row.median,
                   "min": row.min, "max": row.max, "syncs": row.syncs, "ratio": row.ratio, "over_kafka": row.over_kafka})
        })
        .collect();
    fs::write(path, serde_json::to_string_pretty(&rows)? + "\n")?;
    Ok(())
}

/// A page with the machine, the table and a plot for each workload.
pub(crate) fn write_html(path: &Path, machine: &Machine, rows: &[Row]) -> Result<(), Failure> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut workloads: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        workloads.entry(row.workload).or_default().push(row);
    }
    let mut page = format!(
        "<!doctype html><meta charset=utf-8><title>duramen</title><style>body{{font:15px system-ui;max-width:60em;\
         margin:2em auto;padding:0 1em}}pre{{overflow-x:auto}}</style><h1>duramen beside the raw system calls</h1>\
         <p>{machine}</p><pre>{}</pre>",
        table(rows)
    );
    for (name, rows) in workloads {
        page.push_str(&format!("<h2>{name}</h2>{}", plot(&rows)?));
    }
    fs::write(path, page)?;
    Ok(())
}

/// Bars of the medians, with lines from minimum to maximum.
fn plot(rows: &[&Row]) -> Result<String, Failure> {
    let mut svg = String::new();
    let most = rows.iter().map(|row| row.max).fold(0.0, f64::max) * 1.1;
    let unit = rows.first().map_or("", |row| row.unit);
    let better = if rows.iter().any(|row| row.time) { "less is better" } else { "more is better" };
    {
        let height = 70 + 40 * u32::try_from(rows.len())?;
        let area = SVGBackend::with_string(&mut svg, (800, height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(130)
            .build_cartesian_2d(0.0..most, (0..rows.len()).into_segmented())?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .x_desc(format!("{unit}, {better}"))
            .y_label_formatter(&|at| match at {
                SegmentValue::CenterOf(index) => rows.get(*index).map_or(String::new(), |row| row.subject.to_owned()),
                _ => String::new(),
            })
            .draw()?;
        for (index, row) in rows.iter().enumerate() {
            let colour = if row.subject == "raw" { RGBColor(150, 150, 150) } else { RGBColor(120, 70, 30) };
            let (low, high) = (SegmentValue::Exact(index), SegmentValue::Exact(index + 1));
            let mut bar = Rectangle::new([(0.0, low), (row.median, high)], colour.filled());
            bar.set_margin(6, 6, 0, 0);
            chart.draw_series(std::iter::once(bar))?;
            let middle = SegmentValue::CenterOf(index);
            let range = PathElement::new([(row.min, middle.clone()), (row.max, middle)], BLACK.stroke_width(2));
            chart.draw_series(std::iter::once(range))?;
        }
        area.present()?;
    }
    Ok(svg)
}
