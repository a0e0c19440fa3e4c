//! Clients of other languages: librdkafka and Python's own, Java's, and Kafka's command line tools.

use crate::{
    broker::Broker,
    programs::{clients, run},
};
use duramen_tests::kafka::{Kafka, skip, tools_missing};
use std::process::Command;

/// Runs a program in Python with all of its cases.
fn python(program: &str) {
    if let Some(tool) = tools_missing(&["python3"]) {
        return skip(&format!("{tool} is not installed"));
    }
    let Some(broker) = Broker::shared() else { return };
    let got = run(Command::new(clients().join("python/get"))).succeeded();
    let mut command = Command::new(got.lines.last().unwrap());
    command.arg(clients().join("python").join(program)).arg(broker.address());
    run(command).succeeded();
}

/// Runs cases of Kafka's tools.
fn tools(cases: &str) {
    let kafka = match Kafka::get() {
        Ok(kafka) => kafka,
        Err(why) => return skip(&why),
    };
    let Some(broker) = Broker::shared() else { return };
    let mut command = Command::new(clients().join("java/tools"));
    command.env("KAFKA_LIBS", kafka.libs()).arg(broker.address()).args(cases.split_whitespace());
    run(command).succeeded();
}

#[test]
fn confluent_kafka() {
    python("confluent.py");
}

#[test]
fn kafka_python() {
    python("kafka_python.py");
}

#[test]
fn java_programs() {
    tools("programs");
}

#[test]
fn java_tools() {
    tools("console groups delete_records transactional_copier compatibility");
}
