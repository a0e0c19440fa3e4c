//! What the tests of duramen share: golden directories, the simulated disk, a log on it and what a log owes after it crashed, a
//! cluster, and the suite that every backend of the disk must pass.

#[allow(clippy::unwrap_used, clippy::expect_used)] // a broken promise is a failed test
pub mod cluster;

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::expect_used)] // a simulation may panic
pub mod disk;

#[allow(clippy::unwrap_used, clippy::expect_used)] // a broken promise is a failed test
pub mod durable;

#[allow(clippy::unwrap_used)] // a log that does not do what a test needs is a failed test
pub mod fixture;

#[allow(clippy::unwrap_used, clippy::expect_used)] // a case that is not whole is a failed test
pub mod golden;

#[allow(clippy::unwrap_used, clippy::expect_used)] // the input is cut before it is indexed
pub mod fuzz;

#[allow(clippy::unwrap_used, clippy::expect_used)] // a broken promise is a failed test
pub mod history;

#[allow(clippy::expect_used)] // a broker that cannot be driven is a failed test
pub mod kafka;

pub mod oracle;

#[allow(clippy::cast_possible_truncation)] // the bound is a usize
pub mod random;

#[allow(clippy::unwrap_used)] // numbers that fit, and files that Linux has
pub mod soak;

#[allow(clippy::unwrap_used)] // a workspace that cannot be read is a failed test
pub mod sources;

#[allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // cases of tests: their names say what they are
pub mod storage_suite;
