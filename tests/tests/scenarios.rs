//! The scenarios of Kafka's own tests, by their numbers in our reading of them (1 to 253): each is asked by a test of
//! ours, which says so in a comment above its `fn` (`M` and the numbers), or stands here with the reason why not.
#![allow(clippy::unwrap_used)]

use duramen_tests::sources::{root, rust_files};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::RangeInclusive,
};

const SCENARIOS: RangeInclusive<u16> = 1..=253;

/// Scenarios that no test asks, and why.
const NOT_APPLICABLE: [(RangeInclusive<u16>, &str); 15] = [
    (34..=35, "tiered storage: no log here has a remote part"),
    (54..=54, "tiered storage: nothing waits for an upload"),
    (74..=74, "a partition's directory is renamed when its log is closed, so no open log changes its place"),
    (106..=106, "tiered storage: the log start is never below the first segment"),
    (129..=129, "indexes are written as long as they are, and never resized"),
    (202..=202, "such a segment is split when the log is opened, so no cleaning meets one"),
    (210..=210, "a cleaning is a value that is finished or dropped, and has no states to be in"),
    (
        212..=212,
        "nothing is paused: a truncation revokes a cleaning, and a cleaning that finds other segments gives up",
    ),
    (213..=213, "there is one directory, so none to choose"),
    (233..=233, "formats before magic 2 are refused: Kafka 4 takes them from no producer"),
    (245..=245, "moves between disks are not built: future directories are reported and left alone"),
    (249..=249, "which replica serves a reader, and how fast, is the host's to decide"),
    (250..=250, "tiered storage: nothing is copied to it"),
    (251..=251, "tiered storage: nothing is read from it"),
    (252..=252, "tiered storage: no follower begins with it"),
];

/// The numbers in a line that is such a comment; what follows a colon is for people.
fn numbers(line: &str) -> Option<Vec<u16>> {
    let text = line.trim_start().strip_prefix("// M ")?;
    let list = text.split(':').next().unwrap_or_default();
    list.split(',').map(|number| number.trim().parse().ok()).collect()
}

/// The function that a comment stands above, attributes and further comments between them.
fn function_below(lines: &[&str]) -> Option<String> {
    let mut rest = lines.iter().map(|line| line.trim_start());
    let line = rest.find(|line| !line.starts_with("//") && !line.starts_with("#["))?;
    Some(line.strip_prefix("fn ")?.split('(').next()?.to_owned())
}

/// By scenario the tests that ask it.
fn marked() -> BTreeMap<u16, Vec<String>> {
    let mut paths = Vec::new();
    for dir in ["engine", "tests"] {
        rust_files(&root().join(dir), &mut paths);
    }
    let mut marked: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if !line.trim_start().starts_with("// M ") {
                continue;
            }
            let place = format!("{}:{}", path.display(), at + 1);
            let numbers = numbers(line).unwrap_or_else(|| panic!("{place} names no scenarios"));
            let test = function_below(&lines[at + 1..]).unwrap_or_else(|| panic!("{place} stands above no test"));
            for number in numbers {
                assert!(SCENARIOS.contains(&number), "{place}: there is no scenario {number}");
                marked.entry(number).or_default().push(test.clone());
            }
        }
    }
    marked
}

#[test]
fn every_scenario_of_kafkas_tests_has_a_test_or_a_reason() {
    let marked = marked();
    let mut excused = BTreeSet::new();
    for (range, reason) in NOT_APPLICABLE {
        assert!(!reason.is_empty());
        for number in range {
            assert!(excused.insert(number), "scenario {number} is excused twice");
            assert!(!marked.contains_key(&number), "scenario {number} is excused, but {:?} asks it", marked[&number]);
        }
    }
    let missing: Vec<_> =
        SCENARIOS.filter(|number| !marked.contains_key(number) && !excused.contains(number)).collect();
    let tests: BTreeSet<_> = marked.values().flatten().collect();
    println!(
        "{} scenarios: {} asked by {} tests, {} do not apply",
        SCENARIOS.count(),
        marked.len(),
        tests.len(),
        excused.len()
    );
    assert!(missing.is_empty(), "scenarios without a test or a reason: {missing:?}");
}

#[test]
fn comments_are_read_with_their_notes() {
    assert_eq!(numbers("    // M 57, 58: here only"), Some(vec![57, 58]));
    assert_eq!(numbers("// Many"), None);
    assert_eq!(numbers("// M x"), None);
    assert_eq!(function_below(&["// more", "#[test]", "    fn name() {"]).as_deref(), Some("name"));
    assert_eq!(function_below(&["struct Name;"]), None);
}
