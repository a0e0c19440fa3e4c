//! A page with the tables and plots: rate against partitions and load, latencies, cost against batch size.

use super::{
    case::{Case, Load},
    summary::{QUANTILES, Row},
    table::{self, LEGEND},
};
use crate::{Failure, machine::Machine};
use plotters::prelude::*;
use std::{fs, path::Path};

const SIZE: (u32, u32) = (900, 480);

/// What is shown of a row.
type Point = (f64, f64);

/// A plot's lines, each with its name.
struct Lines {
    title: &'static str,
    x: &'static str,
    y: &'static str,
    lines: Vec<(&'static str, Vec<Point>)>,
}

/// Writes the page.
pub(crate) fn write_html(path: &Path, machine: &Machine, rows: &[Row]) -> Result<(), Failure> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut page = format!(
        "<!doctype html><meta charset=utf-8><title>duramen, durable</title><style>body{{font:15px system-ui;\
         max-width:64em;margin:2em auto;padding:0 1em}}pre{{overflow-x:auto;font-size:12px}}svg{{max-width:100%}}</style>\
         <h1>Durable appends</h1><p>{machine}</p>"
    );
    for lines in plots(rows) {
        // What was measured at one place only is no line; the table has it.
        if lines.lines.iter().any(|(_, points)| points.len() > 1) {
            page.push_str(&format!("<h2>{}</h2>{}", lines.title, draw(&lines)?));
        }
    }
    page.push_str(&format!("<h2>All figures</h2><pre>{}</pre><p>{LEGEND}</p>", escaped(&table::text(rows))));
    fs::write(path, page)?;
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Away from the smallest batches, the most partitions and the highest load of each kind, one axis at a time.
fn plots(rows: &[Row]) -> Vec<Lines> {
    let bytes = rows.iter().map(|row| row.case.batch_bytes).min().unwrap_or(0);
    let partitions = rows.iter().map(|row| row.case.partitions).max().unwrap_or(0);
    let is_full = |case: &Case| {
        let same_kind = |other: &Load| std::mem::discriminant(other) == std::mem::discriminant(&case.load);
        let most = rows.iter().map(|row| row.case.load).filter(same_kind).max();
        most == Some(case.load) && !matches!(case.load, Load::Half(_))
    };
    let at_base = |case: &Case| case.batch_bytes == bytes && case.partitions == partitions;
    let lines = |title, x, y, chosen: &dyn Fn(&Case) -> bool, points: &dyn Fn(&Row) -> Vec<Point>| Lines {
        title,
        x,
        y,
        lines: lines_of(rows, chosen, points),
    };
    let cost = |row: &Row| row.processor_us_per_append.map(|us| (row.case.batch_bytes as f64, us));
    vec![
        lines(
            "Rate against partitions",
            "partitions, at the highest load",
            "appends/s",
            &|case| case.batch_bytes == bytes && is_full(case),
            &|row| vec![(row.case.partitions as f64, row.median)],
        ),
        lines(
            "Rate against load",
            "threads, or appends in flight",
            "appends/s",
            &|case| at_base(case) && !matches!(case.load, Load::Half(_)),
            &|row| vec![(row.case.load.at_once() as f64, row.median)],
        ),
        lines(
            "Latency at the highest load",
            "one of so many appends takes longer",
            "ms",
            &|case| at_base(case) && is_full(case),
            &latency_points,
        ),
        lines(
            "Latency at half of the highest load",
            "one of so many appends takes longer",
            "ms",
            &|case| at_base(case) && matches!(case.load, Load::Half(_)),
            &latency_points,
        ),
        lines(
            "Processor time against batch size",
            "bytes of a batch",
            "us for each append",
            &|case| case.partitions == partitions && is_full(case),
            &|row| cost(row).into_iter().collect(),
        ),
    ]
}

fn latency_points(row: &Row) -> Vec<Point> {
    let known = QUANTILES.iter().zip(&row.latencies_ms);
    known.filter_map(|(quantile, ms)| Some((1.0 / (1.0 - quantile), (*ms)?))).collect()
}

fn lines_of(
    rows: &[Row],
    chosen: &dyn Fn(&Case) -> bool,
    points: &dyn Fn(&Row) -> Vec<Point>,
) -> Vec<(&'static str, Vec<Point>)> {
    let mut lines: Vec<(&'static str, Vec<Point>)> = Vec::new();
    for row in rows.iter().filter(|row| chosen(&row.case)) {
        let positive = points(row).into_iter().filter(|(x, y)| *x > 0.0 && *y > 0.0);
        match lines.iter_mut().find(|(name, _)| *name == row.subject) {
            Some((_, points)) => points.extend(positive),
            None => lines.push((row.subject, positive.collect())),
        }
    }
    for (_, points) in &mut lines {
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    lines
}

/// Both axes are logarithmic.
fn draw(plot: &Lines) -> Result<String, Failure> {
    let all = || plot.lines.iter().flat_map(|(_, points)| points);
    let range = |of: fn(&Point) -> f64| {
        let (low, high) = all().map(of).fold((f64::MAX, 0.0), |(low, high), value| (value.min(low), value.max(high)));
        (low / 1.3..high * 1.3).log_scale()
    };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let (plotted, names) = area.split_horizontally(SIZE.0 - 200);
        let mut chart = ChartBuilder::on(&plotted)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(80)
            .build_cartesian_2d(range(|point| point.0), range(|point| point.1))?;
        let number = |value: &f64| table::figure(*value);
        chart
            .configure_mesh()
            .x_desc(plot.x)
            .y_desc(plot.y)
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 15))
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (index, (name, points)) in plot.lines.iter().enumerate() {
            let colour = Palette99::pick(index).to_rgba();
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3))?;
            let y = 20 + 20 * i32::try_from(index)?;
            names.draw(&PathElement::new([(4, y), (24, y)], colour.stroke_width(3)))?;
            names.draw(&Text::new(*name, (30, y - 7), ("sans-serif", 14)))?;
        }
        area.present()?;
    }
    Ok(svg)
}
