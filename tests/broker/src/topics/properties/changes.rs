//! Incremental changes of properties: set, delete, append to a list, subtract from one.

use super::Kind;
use crate::metadata::Configs;

/// What to do with a property (`AlterConfigOp.OpType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Gives it the value.
    Set,
    /// Takes back what was set.
    Delete,
    /// Adds the values to a list, as far as they are not in it.
    Append,
    /// Removes the values from a list.
    Subtract,
}

impl Operation {
    /// The operation of a number of the protocol.
    pub(crate) fn from_id(id: i8) -> Option<Self> {
        Some(match id {
            0 => Self::Set,
            1 => Self::Delete,
            2 => Self::Append,
            3 => Self::Subtract,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Delete => "DELETE",
            Self::Append => "APPEND",
            Self::Subtract => "SUBTRACT",
        }
    }
}

/// A change that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeError {
    /// A value is missing.
    #[error("{name} is to be changed, and to no value")]
    NoValue {
        /// The property.
        name: String,
    },
    /// Only lists are appended to and subtracted from.
    #[error("Can't {operation} to key {name} because its type is not LIST.")]
    NoList {
        /// The property.
        name: String,
        /// What was to be done with it.
        operation: &'static str,
    },
}

/// The value of a property after an operation; `None` if none is set any more. Follows
/// `ConfigurationControlManager.incrementalAlterConfigResource`: a list that was not set begins as its default.
///
/// # Errors
/// [`ChangeError`].
pub(crate) fn changed(
    (name, kind, default): (&str, Option<Kind>, Option<&str>),
    set: &Configs,
    operation: Operation,
    value: Option<&str>,
) -> Result<Option<String>, ChangeError> {
    let given = || value.ok_or_else(|| ChangeError::NoValue { name: name.to_owned() });
    match operation {
        Operation::Set => given().map(|value| Some(value.to_owned())),
        Operation::Delete => Ok(None),
        Operation::Append | Operation::Subtract => {
            let given = given()?;
            if kind != Some(Kind::List) {
                return Err(ChangeError::NoList { name: name.to_owned(), operation: operation.name() });
            }
            let known = set.get(name).map(String::as_str).or(default).unwrap_or_default();
            Ok(Some(match operation {
                Operation::Append => appended(known, given),
                _ => subtracted(known, given),
            }))
        }
    }
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn appended(list: &str, more: &str) -> String {
    let mut all: Vec<&str> = words(list).collect();
    for word in words(more) {
        if !all.contains(&word) {
            all.push(word);
        }
    }
    all.join(",")
}

fn subtracted(list: &str, less: &str) -> String {
    let gone: Vec<&str> = words(less).collect();
    words(list).filter(|word| !gone.contains(word)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const POLICY: (&str, Option<Kind>, Option<&str>) = ("cleanup.policy", Some(Kind::List), Some("delete"));
    const BYTES: (&str, Option<Kind>, Option<&str>) = ("segment.bytes", Some(Kind::Int), Some("7"));

    fn set(value: &str) -> Configs {
        Configs::from([("cleanup.policy".to_owned(), value.to_owned())])
    }

    #[test]
    fn values_are_set_and_deleted() {
        assert_eq!(changed(BYTES, &Configs::new(), Operation::Set, Some("9")), Ok(Some("9".to_owned())));
        assert_eq!(changed(BYTES, &Configs::new(), Operation::Delete, None), Ok(None));
        let error = ChangeError::NoValue { name: "segment.bytes".to_owned() };
        assert_eq!(changed(BYTES, &Configs::new(), Operation::Set, None), Err(error));
    }

    #[test]
    fn lists_grow_and_shrink() {
        let append = |set: &Configs, more| changed(POLICY, set, Operation::Append, Some(more)).unwrap().unwrap();
        let subtract = |set: &Configs, less| changed(POLICY, set, Operation::Subtract, Some(less)).unwrap().unwrap();
        assert_eq!(append(&Configs::new(), "compact"), "delete,compact");
        assert_eq!(append(&set("compact"), "compact, delete"), "compact,delete");
        assert_eq!(append(&set(""), "compact"), "compact");
        assert_eq!(subtract(&Configs::new(), "delete"), "");
        assert_eq!(subtract(&set("compact,delete"), "delete,other"), "compact");
    }

    #[test]
    fn what_is_no_list_is_neither_appended_to_nor_subtracted_from() {
        for operation in [Operation::Append, Operation::Subtract] {
            let error = changed(BYTES, &Configs::new(), operation, Some("1")).unwrap_err();
            assert!(error.to_string().contains("not LIST"), "{error}");
        }
    }

    #[test]
    fn numbers_of_the_protocol_are_known() {
        let known = [Operation::Set, Operation::Delete, Operation::Append, Operation::Subtract];
        assert_eq!([0, 1, 2, 3].map(|id| Operation::from_id(id).unwrap()), known);
        assert_eq!((Operation::from_id(4), Operation::from_id(-1)), (None, None));
    }
}
