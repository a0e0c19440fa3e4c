//! Random operation scripts on real Kafka's log and on ours, side by side: the same answers and the same files after every
//! operation, but for what `docs/KAFKA.md` names.
//!
//! `DURAMEN_SEED` and `DURAMEN_ORACLE_SCRIPTS` choose the first seed and the number of scripts; `CONTRIBUTING.md` has the
//! command for a campaign.
#![allow(clippy::unwrap_used)]

use duramen_tests::kafka::{skip, tools_missing};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn oracle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle")
}

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Whether Kafka's log can be driven here; it is built when it is first asked for.
fn is_ready() -> bool {
    if let Some(tool) = tools_missing(&["java", "mvn", "python3"]) {
        skip(&format!("{tool} is not installed"));
        return false;
    }
    let built = Command::new(oracle().join("build")).output().unwrap();
    assert!(built.status.success(), "the oracle was not built: {}", text(&built));
    true
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn compare(args: &[String]) {
    let driver = env!("CARGO_BIN_EXE_oracle-driver");
    let output =
        Command::new("python3").arg(oracle().join("compare.py")).args(["--b", driver]).args(args).output().unwrap();
    println!("{}", text(&output));
    assert!(output.status.success(), "{args:?}: {}", text(&output));
}

#[test]
fn scripts_give_the_answers_and_files_of_kafka() {
    if !is_ready() {
        return;
    }
    let mut scripts: Vec<_> = fs::read_dir(oracle().join("scripts"))
        .unwrap()
        .map(|entry| entry.unwrap().path().to_string_lossy().into_owned())
        .collect();
    scripts.sort();
    assert!(scripts.len() > 40);
    compare(&scripts);
    let (first, count) = (number("DURAMEN_SEED", 1), number("DURAMEN_ORACLE_SCRIPTS", 200));
    println!("DURAMEN_SEED={first}");
    let seeds = |from: u64, count: u64| format!("{from}..{}", from + count.max(1) - 1);
    let (half, quarter) = (count / 2, count / 4);
    compare(&["--seeds".into(), seeds(first, half), "--realistic".into()]);
    compare(&["--seeds".into(), seeds(first + half, quarter)]);
    compare(&["--seeds".into(), seeds(first + half + quarter, quarter), "--realistic".into(), "--recompress".into()]);
}

#[test]
fn every_named_difference_is_explained() {
    let named = fs::read_to_string(oracle().join("named.py")).unwrap();
    let explained = fs::read_to_string(oracle().join("../../docs/KAFKA.md")).unwrap();
    let names: Vec<_> = named.split("return \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(names.len() > 5);
    for name in names {
        assert!(explained.contains(&format!("`{name}`")), "docs/KAFKA.md does not explain {name}");
    }
}
