//! A broker of one node on `duramen`, which speaks Kafka's protocol.
