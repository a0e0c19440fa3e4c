//! Printing: failures, bytes, colours, and pipes that close early.

use duramen::LogConfig;
use std::{
    fmt::Display,
    io::{self, BufWriter, IsTerminal, StdoutLock, Write},
};

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of our output went away, which is no error.
    PipeClosed,
    /// What to tell the user.
    Message(String),
}

impl Failure {
    pub(crate) fn new(message: impl Display) -> Self {
        Self::Message(message.to_string())
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

/// A configuration of KEY=VALUE pairs.
pub(crate) fn config(properties: &[String]) -> Result<LogConfig, Failure> {
    let pairs: Result<Vec<_>, _> = properties
        .iter()
        .map(|pair| pair.split_once('=').ok_or_else(|| Failure::new(format!("'{pair}' is not KEY=VALUE"))))
        .collect();
    LogConfig::from_properties(pairs?).map_err(Failure::new)
}
