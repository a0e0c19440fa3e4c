//! Every feature of Kafka's log stands in `docs/KAFKA.md`, with tests that show it here or with the reason why it is left
//! out; and what stands there as a proof is there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen_tests::sources::root;
use std::{collections::BTreeSet, fs, path::Path};

/// The headings of the features, and how many each has.
const HEADINGS: [(&str, usize); 18] = [
    ("Record and batch formats", 14),
    ("Compression", 7),
    ("Files and directories", 9),
    ("Indexes", 8),
    ("State and checkpoint files", 12),
    ("Append (leader)", 14),
    ("Append (follower)", 5),
    ("Idempotence and transactions", 11),
    ("Segment lifecycle", 9),
    ("Reads", 9),
    ("Offset look-up", 6),
    ("Offsets, epochs, replication", 14),
    ("Retention and deletion", 8),
    ("Compaction", 13),
    ("Loading and recovery", 9),
    ("Disk failure and moves", 6),
    ("Tiered storage", 7),
    ("Configuration", 5),
];
const FEATURES: usize = 166;
/// How the proof of a feature begins that has none.
const LEFT_OUT: &str = "left out: ";

/// One row of the tables.
struct Feature {
    heading: String,
    name: String,
    proof: String,
}

/// The section of the document, without the sections around it.
fn section() -> String {
    let text = fs::read_to_string(root().join("docs/KAFKA.md")).unwrap();
    let (_, section) = text.split_once("\n## Features\n").expect("docs/KAFKA.md has no features");
    section.split("\n## ").next().unwrap().to_owned()
}

/// Every row of its tables; a line that begins as a row but is none is a fault.
fn features() -> Vec<Feature> {
    let mut heading = String::new();
    let mut features = Vec::new();
    for line in section().lines() {
        if let Some(name) = line.strip_prefix("### ") {
            name.clone_into(&mut heading);
        } else if line.starts_with('|') && !["| feature | proof |", "|---|---|"].contains(&line) {
            let row =
                line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")).unwrap_or_else(|| panic!("{line}"));
            let [name, proof] = row.split(" | ").collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            features.push(Feature { heading: heading.clone(), name: name.trim().to_owned(), proof: proof.to_owned() });
        }
    }
    features
}

/// What stands between back-quotes.
fn references(proof: &str) -> Vec<&str> {
    proof.split('`').skip(1).step_by(2).collect()
}

/// Whether the text holds a test of this name.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim_start).collect();
    let begin = format!("fn {name}(");
    lines.iter().enumerate().filter(|(_, line)| line.starts_with(&begin)).any(|(at, _)| {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        above.clone().any(|line| *line == "#[test]") && above.clone().all(|line| !line.starts_with("#[ignore"))
    })
}

/// What is wrong with a reference: it is `file: test, test` from the root, or a script, or a golden directory.
fn fault(reference: &str) -> Option<String> {
    let (path, tests) = match reference.split_once(": ") {
        Some((path, tests)) => (path, tests.split(", ").collect()),
        None => (reference, Vec::new()),
    };
    let is_file = |path: &str| root().join(path).is_file();
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    if extension == Some("rs") {
        let Ok(text) = fs::read_to_string(root().join(path)) else {
            return Some(format!("there is no {path}"));
        };
        let missing = tests.iter().find(|test| !has_test(&text, test));
        return match missing {
            Some(test) => Some(format!("{path} has no test {test}")),
            None => tests.is_empty().then(|| format!("{path}: no test is named")),
        };
    }
    let is_script = path.starts_with("tests/oracle/scripts/") && extension == Some("jsonl") && is_file(path);
    let case = path.strip_prefix("tests/golden/").filter(|case| !case.is_empty() && !case.contains('/'));
    let is_case = case.is_some() && is_file(&format!("{path}/expected.json"));
    (!(is_script || is_case) || !tests.is_empty()).then(|| format!("{reference} is nothing that shows a feature"))
}

#[test]
fn table_has_every_feature_under_its_heading_once() {
    let features = features();
    let headings: Vec<_> = HEADINGS.iter().map(|(name, count)| format!("{name}: {count}")).collect();
    let section = section();
    let written: Vec<_> = section.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(written, headings);
    for (heading, (_, count)) in headings.iter().zip(HEADINGS) {
        let rows: Vec<_> = features.iter().filter(|feature| feature.heading == *heading).collect();
        assert_eq!(rows.len(), count, "{heading}");
        let names: BTreeSet<_> = rows.iter().map(|feature| &feature.name).collect();
        assert!(names.len() == count && names.iter().all(|name| !name.is_empty()), "{heading}: a name is there twice");
    }
    assert_eq!((features.len(), HEADINGS.iter().map(|(_, count)| count).sum()), (FEATURES, FEATURES));
}

#[test]
fn every_feature_has_a_proof_that_is_there_or_a_reason_for_having_none() {
    let mut faults = Vec::new();
    let mut left_out = 0;
    for Feature { heading, name, proof } in features() {
        let place = format!("{heading}, {name}");
        if let Some(reason) = proof.strip_prefix(LEFT_OUT) {
            left_out += 1;
            if reason.split_whitespace().count() < 3 {
                faults.push(format!("{place}: no reason"));
            }
        } else if !proof.starts_with('`') || proof.matches('`').count() % 2 != 0 {
            faults.push(format!("{place}: no proof"));
        }
        let wrong = references(&proof).into_iter().filter_map(fault);
        faults.extend(wrong.map(|why| format!("{place}: {why}")));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    let stated = format!("{left_out} are left out");
    let words = section().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&stated), "the section does not say that {stated}");
}

#[test]
fn reference_that_leads_nowhere_is_found() {
    let here = "tests/tests/features.rs";
    for (reference, leads_somewhere) in [
        ("tests/tests/features.rs: reference_that_leads_nowhere_is_found", true),
        ("tests/tests/features.rs: reference_that_leads_nowhere", false),
        ("tests/tests/features.rs: reference_that_leads_nowhere_is_found, fault", false),
        ("tests/tests/features.rs: fault", false),
        ("tests/tests/no-such-file.rs: fault", false),
        (here, false),
        ("tests/golden/clients", true),
        ("tests/golden/no-such-case", false),
        ("tests/golden/", false),
        ("tests/golden/clients: a_test", false),
        ("tests/oracle/scripts/lookup_by_timestamp.jsonl", true),
        ("tests/oracle/scripts/no_such_script.jsonl", false),
        ("docs/KAFKA.md", false),
        ("", false),
    ] {
        assert_eq!(fault(reference).is_none(), leads_somewhere, "{reference}");
    }
    let ignored = "#[test]\n#[ignore = \"slow\"]\nfn slow() {";
    assert!(!has_test(ignored, "slow") && has_test("#[test]\n#[allow(a)]\n// why\n    fn quick(n in 0..5) {", "quick"));
}
