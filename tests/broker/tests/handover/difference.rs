//! Where two digests differ, told by the path to it.

use serde_json::Value;

/// Asserts that what clients see is the same.
pub(crate) fn assert_none(before: &Value, after: &Value, what: &str) {
    let mut found = Vec::new();
    collect(before, after, "", &mut found);
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

fn collect(before: &Value, after: &Value, path: &str, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let (one, other) = (one.get(name).unwrap_or(&Value::Null), other.get(name).unwrap_or(&Value::Null));
                collect(one, other, &format!("{path}/{name}"), found);
            }
        }
        _ if before == after => {}
        _ => found.push(format!("{path}: {before} before, {after} after")),
    }
}
