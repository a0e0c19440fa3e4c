//! Printing: failures, bytes, colours, and pipes that close early.

use comfy_table::{Table, presets};
use duramen::{LogConfig, Timestamp};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fmt::Display,
    io::{self, BufWriter, IsTerminal, StdoutLock, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const DAY_MS: i64 = 86_400_000;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of our output went away, which is no error.
    PipeClosed,
    /// What to tell the user who asked for something that cannot be.
    Message(String),
    /// What to tell the user when something went wrong on the way.
    Failed(String),
}

impl Failure {
    pub(crate) fn new(message: impl Display) -> Self {
        Self::Message(message.to_string())
    }

    /// Something that went wrong, as opposed to a wrong request.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self::Failed(message.to_string())
    }

    /// Names what failed.
    pub(crate) fn at(what: impl Display) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Message(format!("{what}: {error}"))
    }
}

/// Standard output, with colours if it is a terminal.
pub(crate) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    colours: bool,
}

impl Output {
    pub(crate) fn new() -> Self {
        let out = io::stdout().lock();
        let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { out: BufWriter::new(out), colours }
    }

    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        writeln!(self.out, "{text}").map_err(pipe)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(pipe)
    }

    /// The text in bold, on a terminal.
    pub(crate) fn bold(&self, text: impl Display) -> String {
        if self.colours { format!("\x1b[1m{text}\x1b[0m") } else { text.to_string() }
    }

    /// The text in red, on a terminal.
    pub(crate) fn red(&self, text: impl Display) -> String {
        if self.colours { format!("\x1b[31m{text}\x1b[0m") } else { text.to_string() }
    }
}

fn pipe(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::PipeClosed
    } else {
        Failure::new(format!("output: {error}"))
    }
}

/// Bytes as text if they are text, else as hexadecimal digits.
pub(crate) fn show(bytes: Option<&[u8]>, hex: bool) -> String {
    let Some(bytes) = bytes else {
        return "null".to_owned();
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if !hex && !text.chars().any(|letter| letter.is_control() && letter != '\t') => text.to_owned(),
        _ => bytes.iter().fold(String::from("0x"), |mut digits, byte| {
            digits.push_str(&format!("{byte:02x}"));
            digits
        }),
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// A bar of bytes on standard error, if that is a terminal.
pub(crate) fn progress_bar(prefix: impl Display, bytes_total: u64) -> ProgressBar {
    let bar = if io::stderr().is_terminal() { ProgressBar::new(bytes_total) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(prefix.to_string());
    bar
}

/// An empty table with a header.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header(header);
    table
}

/// The machine's time, in ms.
pub(crate) fn now_ms() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A timestamp for people, in UTC to the second.
pub(crate) fn time(timestamp: Timestamp) -> String {
    let seconds = timestamp.rem_euclid(DAY_MS) / 1000;
    let (year, month, day) = date(timestamp.div_euclid(DAY_MS));
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The date of a day since 1970-01-01: in 400 years there are 146,097 days, and a year that begins in March has its
/// leap day last.
fn date(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let from_january = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(from_january <= 2), from_january, day)
}

/// A number of ms for people.
pub(crate) fn duration(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { indicatif::HumanDuration(Duration::from_millis(ms)).to_string() }
}

/// How long ago something was.
pub(crate) fn age(timestamp: Timestamp, now_ms: Timestamp) -> String {
    match u64::try_from(now_ms.saturating_sub(timestamp)) {
        Ok(ms) => format!("{} ago", duration(ms)),
        Err(_) => format!("{} ahead", duration(timestamp.abs_diff(now_ms))),
    }
}

/// A configuration of KEY=VALUE pairs.
pub(crate) fn config(properties: &[String]) -> Result<LogConfig, Failure> {
    let pairs: Result<Vec<_>, _> = properties
        .iter()
        .map(|pair| pair.split_once('=').ok_or_else(|| Failure::new(format!("'{pair}' is not KEY=VALUE"))))
        .collect();
    LogConfig::from_properties(pairs?).map_err(Failure::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00:00Z");
        assert_eq!(time(-1), "1969-12-31 23:59:59Z");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00Z");
        assert_eq!(time(1_700_000_000_123), "2023-11-14 22:13:20Z");
        assert_eq!(time(4_107_542_399_000), "2100-02-28 23:59:59Z");
        assert_eq!(time(4_107_542_400_000), "2100-03-01 00:00:00Z");
        assert!(time(i64::MAX).ends_with('Z') && time(i64::MIN).ends_with('Z'));
    }

    #[test]
    fn ages_are_for_people() {
        assert_eq!(age(0, 500), "500 ms ago");
        assert_eq!(age(0, 3 * DAY_MS), "3 days ago");
        assert_eq!(age(3 * DAY_MS, 0), "3 days ahead");
    }
}
