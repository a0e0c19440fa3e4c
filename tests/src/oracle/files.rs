//! Harming the files of a log that is closed or crashed, and modification times.

use super::{
    Answer,
    answers::{self, Failure},
    request::Request,
};
use serde_json::{Value, json};
use std::{
    fs::{self, File, FileTimes, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

/// "file" is a name, or "suffix" with "nth" picks among the sorted names (nth counts modulo their number).
fn pick(dir: &Path, request: &Request) -> Result<Option<PathBuf>, Failure> {
    if request.0.get("file").is_some() {
        return Ok(Some(dir.join(request.text("file", ""))));
    }
    let suffix = request.text("suffix", ".log");
    let mut names = names(dir)?;
    names.retain(|name| name.ends_with(&suffix));
    let nth = request.optional("nth")?.unwrap_or(-1);
    let count = i64::try_from(names.len()).unwrap_or(0);
    let index = nth.checked_rem_euclid(count).and_then(|index| usize::try_from(index).ok());
    Ok(index.and_then(|index| names.get(index)).map(|name| dir.join(name)))
}

fn names(dir: &Path) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    if dir.exists() {
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn file_name(file: Option<&PathBuf>) -> Value {
    json!(file.and_then(|file| file.file_name()).map(|name| name.to_string_lossy().into_owned()))
}

/// A new name: whole, or "+.swap" for the old one with something added.
fn target(request: &Request, field: &str, file: &Path) -> PathBuf {
    let name = request.text(field, "");
    let own = file.file_name().map(|own| own.to_string_lossy().into_owned()).unwrap_or_default();
    file.with_file_name(name.strip_prefix('+').map_or(name.clone(), |added| format!("{own}{added}")))
}

pub(super) fn damage(dir: &Path, request: &Request) -> Answer {
    let file = pick(dir, request)?;
    let mut answer = answers::fields([("file", file_name(file.as_ref()))]);
    let Some(file) = file else {
        return Ok(answer);
    };
    let has = |field: &str| request.0.get(field).is_some();
    if has("write_hex") {
        fs::write(&file, request.hex("write_hex")?)?;
    }
    if !file.exists() {
        return Err(Failure::bad_request(format!("no file {}", file.display())));
    }
    if has("copy_to") {
        fs::copy(&file, target(request, "copy_to", &file))?;
    }
    if has("rename_to") {
        fs::rename(&file, target(request, "rename_to", &file))?;
    } else if request.flag("delete", false) {
        fs::remove_file(&file)?;
    } else {
        answer.insert("size".into(), json!(harm(&file, request)?));
    }
    Ok(answer)
}

/// Changes the bytes of a file; its new size.
fn harm(path: &Path, request: &Request) -> Result<u64, Failure> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let number = |field: &str| Ok::<_, Failure>(request.optional(field)?.and_then(|number| u64::try_from(number).ok()));
    let len = |file: &File| file.metadata().map(|metadata| metadata.len());
    if let Some(bytes) = number("truncate_by")? {
        file.set_len(len(&file)?.saturating_sub(bytes))?;
    }
    if let Some(bytes) = number("truncate_to")? {
        file.set_len(len(&file)?.min(bytes))?;
    }
    if let Some(bytes) = number("append_zeros")? {
        file.set_len(len(&file)? + bytes)?;
    }
    if request.0.get("append_hex").is_some() {
        file.seek(SeekFrom::End(0))?;
        file.write_all(&request.hex("append_hex")?)?;
    }
    let size = len(&file)?;
    if let Some(at) = request.optional("xor_at")?.filter(|_| size > 0) {
        let at = match request.optional("batch")? {
            Some(nth) => inside_batch(&mut file, nth, at)?,
            None => modulo(at, size),
        };
        let xor = u8::try_from(request.optional("xor")?.unwrap_or(255) & 255).unwrap_or(255);
        let mut byte = [0];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut byte)?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&byte.map(|old| old ^ xor))?;
    }
    Ok(size)
}

fn modulo(number: i64, count: u64) -> u64 {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    number.checked_rem_euclid(count).and_then(|rest| u64::try_from(rest).ok()).unwrap_or(0)
}

/// A position in what the checksum of the nth batch covers, or in the checksum itself.
fn inside_batch(file: &mut File, nth: i64, at: i64) -> Result<u64, Failure> {
    let size = file.metadata()?.len();
    let mut batches = Vec::new();
    let mut start = 0;
    while start + 17 < size {
        let mut length = [0; 4];
        file.seek(SeekFrom::Start(start + 8))?;
        file.read_exact(&mut length)?;
        let length = 12 + i64::from(i32::from_be_bytes(length));
        match u64::try_from(length) {
            Ok(length) if length > 17 && start + length <= size => {
                batches.push((start, length));
                start += length;
            }
            _ => break,
        }
    }
    let count = u64::try_from(batches.len()).unwrap_or(0);
    let index = usize::try_from(modulo(nth, count.max(1))).unwrap_or(0);
    Ok(batches.get(index).map_or(modulo(at, size), |(start, length)| start + 17 + modulo(at, length - 17)))
}

pub(super) fn set_mtime(dir: &Path, request: &Request) -> Answer {
    let file = pick(dir, request)?;
    if let Some(file) = &file {
        touch(file, request.int("ms")?)?;
    }
    Ok(answers::fields([("file", file_name(file.as_ref()))]))
}

fn touch(path: &Path, ms: i64) -> Result<(), Failure> {
    let modified = UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    OpenOptions::new().write(true).open(path)?.set_times(FileTimes::new().set_modified(modified))?;
    Ok(())
}

/// Gives every log file that the machine's clock has touched the script's time.
pub(super) fn stamp(dir: &Path, started_ms: i64, now_ms: i64) -> Result<(), Failure> {
    for name in names(dir)?.iter().filter(|name| name.ends_with(".log")) {
        let path = dir.join(name);
        let modified = fs::metadata(&path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        if i64::try_from(modified.as_millis()).unwrap_or(i64::MAX) > started_ms {
            touch(&path, now_ms)?;
        }
    }
    Ok(())
}
