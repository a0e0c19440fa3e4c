//! The house rules that a machine can keep: imports go downwards, files stay small, `unsafe` stays where it is named,
//! nothing is left over.
#![allow(clippy::unwrap_used)]

use duramen_tests::sources::{root, rust_files};
use std::fs;

/// Folders and files of the engine by floor, the lowest first.
const FLOORS: [&[&str]; 6] =
    [&["types", "error", "config"], &["format"], &["storage"], &["segment"], &["log", "replica"], &["manager"]];
/// The same of the reference broker, as `docs/BROKER.md` draws it. What holds the broker together stands above all floors.
const BROKER_FLOORS: [&[&str]; 8] = [
    &["config", "protocol", "stop", "trace"],
    &["records", "group", "transaction"],
    &["internal"],
    &["metadata"],
    &["topics"],
    &["coordinator"],
    &["api"],
    &["net"],
];
/// The only files that may hold `unsafe`.
const UNSAFE: [&str; 10] = [
    "bench/src/floors/ring.rs",
    "engine/src/storage/buffer.rs",
    "engine/src/storage/map.rs",
    "engine/src/storage/prefetch.rs",
    "engine/src/storage/ring_queue.rs",
    "engine/src/storage/uring.rs",
    "engine/src/storage/writeback.rs",
    "tests/src/fuzz/counting.rs",
    "tests/src/soak/heap.rs",
    "tests/tests/real_crash.rs",
];
/// Lines of a file, without its tests, at most; and the few that may be longer until they are split.
const MAX_LINES: usize = 500;
const LONGER: [(&str, usize); 1] = [("engine/src/log/open.rs", 560)];

/// Every source file of the workspace: its path from the root, and its text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for dir in ["engine", "bench", "tests", "fuzz"] {
        rust_files(&root().join(dir), &mut found);
    }
    let named = found.iter().map(|path| {
        (path.strip_prefix(root()).unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap())
    });
    named.collect()
}

fn floor_of(floors: &[&[&str]], module: &str) -> Option<usize> {
    floors.iter().position(|floor| floor.contains(&module))
}

/// The text before the unit tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

#[test]
fn imports_go_to_lower_floors_only() {
    // The words of the engine's floor 0 explain each other, and so do those of the broker's floor 1.
    check_floors("engine/src/", &FLOORS, 0);
    check_floors("tests/broker/src/", &BROKER_FLOORS, 1);
}

fn check_floors(root: &str, floors: &[&[&str]], talkative: usize) {
    let mut checked = 0;
    for (path, text) in sources() {
        let Some(inside) = path.strip_prefix(root) else {
            continue;
        };
        let own = inside.split(['/', '.']).next().unwrap();
        // Whole files of tests may look at everything.
        let is_test = inside.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "fixtures.rs");
        let Some(floor) = floor_of(floors, own).filter(|_| !is_test) else {
            continue;
        };
        for module in imported(code(&text)) {
            if let Some(other) = floor_of(floors, &module) {
                assert!(
                    other < floor || module == own || (other, floor) == (talkative, talkative),
                    "{path} imports {module}, which is not below it"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "only {checked} imports of {root} were seen");
}

/// First words behind every `crate::`, also in a list of braces.
fn imported(text: &str) -> Vec<String> {
    let word =
        |text: &str| text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect::<String>();
    let mut modules = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => modules.push(word(rest)),
            Some(list) => {
                let mut depth = 0;
                let mut item = true;
                for (index, letter) in list.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => item = true,
                        letter if item && letter.is_alphabetic() => {
                            modules.push(word(&list[index..]));
                            item = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    modules
}

#[test]
fn files_stay_small() {
    for (path, text) in sources() {
        if path.contains("/tests/") || path.ends_with("/tests.rs") {
            continue;
        }
        let most = LONGER.iter().find(|(long, _)| *long == path).map_or(MAX_LINES, |(_, most)| *most);
        let lines = code(&text).lines().count();
        assert!(lines <= most, "{path} has {lines} lines, and may have {most}");
    }
}

#[test]
fn unsafe_stays_in_the_named_files() {
    for (path, text) in sources().iter().filter(|(path, _)| path != "tests/tests/tidy.rs") {
        let uses = text.lines().any(|line| {
            let line = line.trim_start();
            !line.starts_with("//")
                && (line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"))
        });
        assert!(!uses || UNSAFE.contains(&path.as_str()) || path.starts_with("fuzz/"), "{path} holds unsafe code");
    }
}

#[test]
fn nothing_is_left_over() {
    let words = ["TO\u{44}O", "FIX\u{4d}E", "XX\u{58}", "db\u{67}!(", "todo\u{21}", "unimplemented\u{21}"];
    for (path, text) in sources().iter().filter(|(path, _)| path != "tests/tests/tidy.rs") {
        for word in words {
            assert!(!text.contains(word), "{path} holds {word}");
        }
        for (number, line) in (1..).zip(text.lines()) {
            assert!(line.chars().count() <= 160, "{path}:{number} is too long");
            assert!(!line.ends_with(' '), "{path}:{number} ends with a space");
        }
    }
}

#[test]
fn public_modules_begin_with_what_they_own() {
    for (path, text) in sources().iter().filter(|(path, _)| path.starts_with("engine/")) {
        assert!(text.starts_with("//!"), "{path} has no module documentation");
    }
}
