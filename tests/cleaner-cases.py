#!/usr/bin/env python3
"""Makes the cases of tests/cleaner_golden.rs with real Kafka: cleaner-cases.py ORACLE OUT COUNT [FIRST_SEED].

ORACLE is the program that runs Kafka's own log behind a line protocol. A case is a pass of Kafka's cleaner: the
directory before it and after it, both as a clean close leaves them, and what the pass answered (`case.json`).
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

START_MS = 1_700_000_000_000
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


class Case:
    def __init__(self, driver, seed):
        self.driver = driver
        self.random = random.Random(seed)
        self.seed = seed
        self.now_ms = START_MS
        self.sequences = {}
        self.open_txns = set()
        self.checkpoint = None
        self.dir = tempfile.mkdtemp()
        choice = self.random.choice
        # Records without a key are refused by a compacted topic, but not by one that becomes compacted later; the
        # cleaner does not ask.
        self.config = {
            "cleanup.policy": "delete",
            "delete.retention.ms": str(choice([0, 1000, 60000])),
            "segment.bytes": str(choice([700, 1400, 3000, 20000])),
            "index.interval.bytes": str(choice([100, 300, 4096])),
            "segment.index.bytes": "1200",
            "min.compaction.lag.ms": str(choice([0, 0, 0, 500])),
            "message.timestamp.type": choice(["CreateTime"] * 4 + ["LogAppendTime"]),
        }
        self.codecs = CODECS if seed % 3 == 0 else ["none"]
        self.dedupe = choice([1 << 20, 1 << 20, 24 * 12, 24 * 30])
        self.ask("reset", dir=self.dir, now_ms=self.now_ms)
        self.ask("open", config=self.config)

    def ask(self, op, **fields):
        self.driver.stdin.write(json.dumps({"op": op, **fields}) + "\n")
        self.driver.stdin.flush()
        answer = json.loads(self.driver.stdout.readline())
        if "error" in answer:
            raise SystemExit(f"seed {self.seed}: {answer}")
        return answer

    def advance(self, ms):
        self.now_ms += ms
        self.ask("advance_clock", ms=ms)

    def records(self):
        keys = [f"key-{n}" for n in range(self.random.choice([3, 10, 40]))]
        found = []
        for _ in range(self.random.randint(1, 6)):
            key = None if self.random.random() < 0.05 else self.random.choice(keys)
            value = f"value {self.random.random()} " + "x" * self.random.randint(0, 60)
            record = {"key": key, "value": None if self.random.random() < 0.2 else value}
            record["timestamp_delta"] = self.random.randint(-50, 50)
            if self.random.random() < 0.2:
                record["headers"] = [["header", self.random.choice([None, "text"])]]
            found.append(record)
        return found

    def step(self):
        producer = self.random.randint(1, 5)
        if producer in self.open_txns and self.random.random() < 0.4:
            self.open_txns.remove(producer)
            self.ask("end_txn", producer_id=producer, control=self.random.choice(["commit", "abort"]))
            return
        codec = self.random.choice(self.codecs)
        batch = {"codec": codec, "timestamp": self.now_ms, "records": self.records()}
        if self.random.random() < 0.6:
            first = self.sequences.get(producer, 0)
            transactional = producer in self.open_txns or (producer > 2 and self.random.random() < 0.6)
            batch |= {"producer_id": producer, "base_sequence": first, "transactional": transactional}
            self.sequences[producer] = first + len(batch["records"])
            if transactional:
                self.open_txns.add(producer)
        self.ask("append", batches=[batch])
        if self.random.random() < 0.03:
            self.ask("roll")

    def run(self, out):
        for number in range(self.random.randint(2, 5)):
            for _ in range(self.random.randint(10, 50)):
                self.step()
                if self.random.random() < 0.3:
                    self.advance(self.random.randint(1, 400))
            for producer in sorted(self.open_txns) if self.random.random() < 0.8 else []:
                self.open_txns.remove(producer)
                self.ask("end_txn", producer_id=producer, control=self.random.choice(["commit", "abort"]))
            if self.random.random() < 0.7:
                self.ask("roll")
            self.ask("update_high_watermark", offset=10**9)
            self.advance(self.random.choice([0, 0, 100_000]))
            case = f"{out}/{self.seed:04}-{number}"
            self.ask("close")
            shutil.copytree(self.dir, f"{case}/before")
            offsets = self.ask("reopen")["offsets"]
            cleaned = self.ask("clean", dedupe_buffer_bytes=self.dedupe)
            self.ask("close")
            shutil.copytree(self.dir, f"{case}/after")
            self.ask("reopen")
            told = {"config": self.config, "dedupe_buffer_bytes": self.dedupe, "now_ms": self.now_ms}
            told |= {"exact": self.codecs != CODECS, "checkpoint": self.checkpoint, "offsets": offsets, "clean": cleaned}
            with open(f"{case}/case.json", "w") as file:
                json.dump(told, file, indent=1)
            if cleaned["cleaned"]:
                self.checkpoint = cleaned["end_offset"]
        shutil.rmtree(self.dir)


def main():
    oracle, out, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    first = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    driver = subprocess.Popen([oracle], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    for seed in range(first, first + count):
        Case(driver, seed).run(out)
    driver.stdin.close()
    driver.wait()


main()
