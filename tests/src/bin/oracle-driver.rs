//! Drives one log by JSON lines on stdin, as real Kafka's log is driven, and answers on stdout.

fn main() -> std::io::Result<()> {
    duramen_tests::oracle::serve(std::io::stdin().lock(), std::io::stdout().lock())
}
