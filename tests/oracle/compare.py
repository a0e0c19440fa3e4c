#!/usr/bin/env python3
"""Runs two log drivers on the same scripts and reports the first difference, in answers and then in files.

    compare.py --b './duramen-driver' scripts/*.jsonl            hand-written scripts
    compare.py --b './duramen-driver' --seeds 1..300             random scripts (see generate.py)
    compare.py --b './duramen-driver' --seeds 17 --minimise      shrink a failing one by removing operations

Driver A is the oracle unless --a says otherwise. Both are kept alive; each script gets a fresh directory per driver by
"reset". Offsets such as "@log_end-1" and structured "batches" are resolved by A ("resolve"), so that both drivers
receive the same numbers and bytes. PROTOCOL.md says which answers and files must be equal.
Differences that docs/KAFKA.md names (see named.py) are counted; --unnamed makes them differences like any other.
Exit status: 0 equal but for named differences, 1 a difference, 2 a driver failed.
"""
import argparse
import fnmatch
import json
import os
import re
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import generate
import named

HERE = os.path.dirname(os.path.abspath(__file__))
# What stays comparable once a codec has rewritten a batch: offsets and records, not sizes, positions or places of roll.
LOOSE_FIELDS = ("error", "first_offset", "last_offset", "max_timestamp", "log_append_time", "offset", "timestamp", "leader_epoch",
                "end_offset", "changed", "truncated", "high_watermark", "leader_epochs", "producers", "invalid_records")


class DriverFailed(Exception):
    pass


class Driver:
    def __init__(self, name, command, stderr, timeout):
        self.name, self.command, self.stderr, self.timeout = name, command, stderr, timeout
        self.start()

    def start(self):
        self.process = subprocess.Popen(shlex.split(self.command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr)
        self.buffer = b""

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def send(self, request):
        try:
            self.process.stdin.write(json.dumps(request, separators=(",", ":")).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise DriverFailed(f"{self.name} is gone (exit status {self.process.wait()})")

    def receive(self, request):
        deadline = time.monotonic() + self.timeout
        while b"\n" not in self.buffer:
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                self.process.kill()
                raise DriverFailed(f"{self.name} did not answer {request['op']} within {self.timeout} s")
            got = os.read(self.process.stdout.fileno(), 1 << 16)
            if not got:
                raise DriverFailed(f"{self.name} ended (exit status {self.process.wait()}) on {json.dumps(request)[:300]}")
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        try:
            return json.loads(line)
        except ValueError:
            raise DriverFailed(f"{self.name} answered no JSON: {line[:300]!r}")

    def ask(self, request):
        self.send(request)
        return self.receive(request)


EPOCHS = "leader-epoch-checkpoint"
SPOILING = {"xor_at", "truncate_by", "truncate_to", "append_zeros", "append_hex"}


class Difference(Exception):
    """The first thing that differs: after which operation, what, and both sides of it."""

    def __init__(self, index, request, what, a, b):
        super().__init__(what)
        self.index, self.request, self.what, self.a, self.b = index, request, what, a, b
        self.messages, self.name, self.contents = (None, None), None, None

    def __str__(self):
        return f"  operation {self.index}: {short(self.request)}\n  {self.what}\n    A: {self.a}\n    B: {self.b}"


def depends_on_sizes(op):
    """Whether an operation hits other records where batches have other sizes: certain bytes of a log file, or segments."""
    spoils_a_log = op["op"] == "damage" and op.get("suffix", op.get("file", "")).endswith(".log") and bool(SPOILING & op.keys())
    return spoils_a_log or op["op"] == "delete_old_segments"


def short(value, limit=700):
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= limit else text[:limit] + f"... ({len(text)} characters)"


class Run:
    """One script on both drivers."""

    def __init__(self, a, b, options, root):
        self.a, self.b, self.options = a, b, options
        self.dirs = [os.path.join(root, "a"), os.path.join(root, "b")]
        self.phase = "none"
        self.config = {}
        self.loose = self.compressed = False
        self.facts, self.messages = named.Facts(), (None, None)

    def run(self, ops):
        first = ops[0] if ops and ops[0]["op"] == "reset" else {"op": "reset"}
        for driver, directory in zip((self.a, self.b), self.dirs):
            os.makedirs(directory)
            answer = driver.ask({**first, "dir": directory})
            if "error" in answer: raise DriverFailed(f"{driver.name}: reset: {answer}")
        for index, op in enumerate(ops):
            if op["op"] in ("note", "reset"): continue
            self.step(index, op)
        self.compare_files(len(ops) - 1, {"op": "(end of script)"})

    def step(self, index, op):
        op = dict(op)
        expected = op.pop("expect", None)
        self.watch_codecs(op)
        resolved = self.a.ask({"op": "resolve", "request": op})
        if "error" in resolved:
            if resolved["error"] == "BAD_REQUEST": raise DriverFailed(f"script error at operation {index} {short(op)}: {resolved['message']}")
            return  # Kafka's own builder refuses to write such a batch
        op = resolved["request"]
        name = op["op"]
        if name in ("files", "dump"):
            return self.compare_files(index, op)
        if self.loose and (depends_on_sizes(op) or op["op"] == "clean" and self.segments_differ()): return
        self.before(op)
        self.a.send(op)
        self.b.send(op)
        left, right = self.a.receive(op), self.b.receive(op)
        if self.options.show: print(json.dumps(op)[:200], "->", json.dumps(left))
        if left.get("error") == "BAD_REQUEST": raise DriverFailed(f"script error at operation {index} {short(op)}: {left['message']}")
        self.after(op, left)
        self.messages = (left.get("message"), right.get("message"))
        self.facts.note(op, left, self.config, lambda: self.file_of_a(left))
        if expected is not None: self.check(index, op, expected, left)
        self.compare_answers(index, op, left, right)
        if self.options.files == "every": self.compare_files(index, op)

    def segments_differ(self):
        """Whether the sides, whose batches have other sizes, have begun segments at other offsets."""
        logs = [sorted(n for p in os.listdir(d) for n in os.listdir(os.path.join(d, p)) if n.endswith(".log")) for d in self.dirs]
        return logs[0] != logs[1]

    def file_of_a(self, answer):
        """Content of the file that A's answer names."""
        paths = [os.path.join(self.dirs[0], partition, answer.get("file") or "") for partition in os.listdir(self.dirs[0])]
        return next((read(path) for path in paths if os.path.isfile(path)), b"")

    # ---- preparing ----

    def before(self, op):
        if op["op"] == "open": self.config = dict(op.get("config", {}))
        if op["op"] in ("reopen", "update_config"): self.config.update(op.get("config", {}))
        if op["op"] == "clean" and self.compressed: self.loose = True

    def watch_codecs(self, op):
        """Bytes stop being comparable when a batch is compressed anew: by the leader, or later by the cleaner."""
        target = self.config.get("compression.type", "producer")
        for batch in op.get("batches", []):
            codec = batch.get("codec", "none")
            if codec != "none": self.compressed = True
            if op["op"] != "append" or "control" in batch: continue
            if target not in ("producer", "uncompressed"):
                self.compressed = True
                if codec != target: self.loose = True
            if codec != "none" and target != "uncompressed" and any("offset_delta" in r for r in batch["records"]): self.loose = True

    def after(self, op, answer):
        if op["op"] in ("open", "reopen"): self.phase = "closed" if "error" in answer else "open"
        if op["op"] == "close" and "error" not in answer: self.phase = "closed"
        if op["op"] == "crash" and "error" not in answer: self.phase = "crashed"

    # ---- comparing answers ----

    def check(self, index, op, expected, answer):
        """A script may say what it is about: the fields in "expect" must be in A's answer ("offsets" and objects in part)."""
        if "error" not in expected and "error" in answer: raise Difference(index, op, "expected success", expected, short(answer))
        for key, want in expected.items():
            got = answer.get(key)
            if isinstance(want, dict) and isinstance(got, dict): got = {k: got.get(k) for k in want}
            if got != want: raise Difference(index, op, f"A's answer is not what the script expects in {key}", short(want), short(got))

    def compare_answers(self, index, op, left, right):
        left, right = self.comparable(left), self.comparable(right)
        if left == right: return
        if "error" in left or "error" in right:
            what = "errors differ"
        else:
            what = "answers differ in " + ", ".join(sorted(k for k in set(left) | set(right) if left.get(k) != right.get(k)))
        path, a, b = first_difference(left, right)
        raise Difference(index, op, f"{what}; first at {path}", short(a), short(b))

    def comparable(self, answer):
        kept = {k: v for k, v in answer.items() if not k.startswith("_") and k not in ("message", "id", "op")}
        if "error" in kept: kept = {k: v for k, v in kept.items() if k in ("error", "invalid_records", "offsets")}
        if self.loose:
            offsets = {k: v for k, v in kept.get("offsets", {}).items() if k != "recovery_point"}
            kept = {k: v for k, v in kept.items() if k in LOOSE_FIELDS} | ({"offsets": offsets} if offsets else {})
        for pattern in self.options.ignore: remove(kept, pattern.split("."))
        return kept

    # ---- comparing files ----

    def compare_files(self, index, op):
        if self.options.files == "none": return
        partitions = [sorted(os.listdir(d)) for d in self.dirs]
        if partitions[0] != partitions[1]: raise Difference(index, op, "directories differ", *partitions)
        for partition in partitions[0]:
            dirs = [os.path.join(d, partition) for d in self.dirs]
            if self.loose:
                self.compare_epochs(index, op, dirs)
                self.compare_records(index, op, dirs)
            else: self.compare_directory(index, op, dirs)

    def compare_directory(self, index, op, dirs):
        names = [set(os.listdir(d)) for d in dirs]
        logs = sorted(n for n in names[0] if n.endswith(".log"))
        active = logs[-1][:20] if logs else ""
        for name in sorted(names[0] | names[1]):
            if any(fnmatch.fnmatch(name, p) for p in self.options.ignore_file): continue
            if name.endswith(".deleted") and not self.options.strict: continue
            if self.phase != "closed" and name in (active + ".index", active + ".timeindex"): continue
            contents = [read(os.path.join(d, name)) for d in dirs]
            if contents[0] == contents[1]: continue
            if not self.options.strict:
                if name.endswith(".txnindex") and not any(contents): continue  # absent and empty mean the same
                if name.endswith(".snapshot") and None not in contents and sorted_snapshot(contents[0]) == sorted_snapshot(contents[1]): continue
                if name == active + ".log" and str(self.config.get("preallocate")).lower() == "true" and self.phase != "closed" \
                        and None not in contents and contents[0].rstrip(b"\0") == contents[1].rstrip(b"\0"): continue
            if None in contents:
                missing = [n for n, c in zip("AB", contents) if c is None][0]
                raise Difference(index, op, f"file {name} is missing in {missing} ({self.phase} log)", sorted(names[0]), sorted(names[1]))
            self.explain(index, op, dirs, name, contents)

    def explain(self, index, op, dirs, name, contents):
        a, b = contents
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        start = max(0, at - 8)
        what = f"file {name} differs at byte {at} ({self.phase} log; sizes {len(a)} and {len(b)})"
        sides = [f"{start:#06x}: {c[start:at + 16].hex(' ')}" for c in contents]
        described = []
        for d in dirs:
            files = self.a.ask({"op": "dump", "dir": d}).get("files", [])
            described.append(next((f for f in files if f["name"] == name), {}))
        for f in described: f.pop("sha256", None)
        path, x, y = first_difference(*described)
        if path: sides = [s + f"\n       {path}: {short(v, 400)}" for s, v in zip(sides, (x, y))]
        difference = Difference(index, op, what, *sides)
        difference.contents = contents
        raise difference

    def compare_epochs(self, index, op, dirs):
        """Epochs do not depend on how batches are compressed."""
        contents = [read(os.path.join(d, EPOCHS)) for d in dirs]
        if contents[0] != contents[1]: self.explain(index, op, dirs, EPOCHS, [content or b"" for content in contents])

    def compare_records(self, index, op, dirs):
        """After recompression: the same records at the same offsets, whatever the sizes and segments."""
        sides = []
        for d in dirs:
            if str(self.config.get("preallocate")).lower() == "true" and self.phase != "closed": d = without_reserved_space(d)
            files = self.a.ask({"op": "dump", "dir": d}).get("files", [])
            batches = [b for f in files if f["name"].endswith(".log") for b in f.get("batches", [])]
            sides.append([{k: v for k, v in b.items() if k not in ("size", "crc")} for b in batches])
        if sides[0] != sides[1]:
            path, a, b = first_difference(*sides)
            raise Difference(index, op, f"records differ at {path}", short(a), short(b))


def read(path):
    try:
        with open(path, "rb") as f: return f.read()
    except FileNotFoundError:
        return None


def without_reserved_space(directory):
    """A copy of a directory whose files end where the batches do; Kafka cannot list a file with zeros behind them."""
    copy = os.path.join(os.path.dirname(directory) + ".copy", os.path.basename(directory))
    shutil.rmtree(copy, ignore_errors=True)
    os.makedirs(copy)
    for name in os.listdir(directory):
        if not name.endswith(".log"): continue
        content = read(os.path.join(directory, name))
        end = 0
        while (size := int.from_bytes(content[end + 8:end + 12], "big", signed=True)) > 0: end += 12 + size
        with open(os.path.join(copy, name), "wb") as f: f.write(content[:end])
    return copy


def sorted_snapshot(content):
    """Kafka writes producers in the order of a Java hash map; order and the CRC over it are not part of the meaning."""
    if len(content) < 10 or (len(content) - 10) % 46: return content
    return content[:2] + content[6:10] + b"".join(sorted(content[i:i + 46] for i in range(10, len(content), 46)))


def remove(value, path):
    if not isinstance(value, dict): return
    if len(path) == 1: value.pop(path[0], None)
    else: remove(value.get(path[0]), path[1:])


def first_difference(a, b, path=""):
    if isinstance(a, dict) and isinstance(b, dict):
        for k in list(a) + [k for k in b if k not in a]:
            if a.get(k) != b.get(k): return first_difference(a.get(k), b.get(k), f"{path}.{k}" if path else k)
    if isinstance(a, list) and isinstance(b, list):
        for i in range(max(len(a), len(b))):
            x, y = (a[i] if i < len(a) else None), (b[i] if i < len(b) else None)
            if x != y: return first_difference(x, y, f"{path}[{i}]")
    return (path, a, b)


class Comparison:
    def __init__(self, options):
        self.options = options
        self.stderr = None if options.verbose else subprocess.DEVNULL
        self.root = tempfile.mkdtemp(prefix="compare-", dir=options.work)
        self.count = 0
        self.a = Driver("A", options.a, self.stderr, options.timeout)
        self.b = Driver("B", options.b, self.stderr, options.timeout)
        for d in (self.a, self.b): print(f"{d.name}: {d.ask({'op': 'hello'})}")

    def attempt(self, ops):
        """Runs one script; answers None or what went wrong."""
        self.count += 1
        root = os.path.join(self.root, str(self.count))
        os.makedirs(root)
        run = Run(self.a, self.b, self.options, root)
        try:
            run.run(ops)
            return None
        except Difference as difference:
            difference.messages = run.messages
            difference.name = None if self.options.unnamed else named.name_of(run.facts, difference)
            return difference
        except DriverFailed as failure:
            for d in (self.a, self.b):
                d.process.kill()
                d.process.wait()
                d.start()
            return failure
        finally:
            if not self.options.keep: shutil.rmtree(root, ignore_errors=True)

    def minimise(self, ops, failure):
        """Delta debugging: drops ever smaller runs of operations while some difference remains."""
        size = max(1, len(ops) // 2)
        while True:
            at, shrunk = 1, False
            while at < len(ops):
                candidate = ops[:at] + ops[at + size:]
                found = self.attempt(candidate)
                if found is not None and type(found) is type(failure) and not str(found).startswith("script error"):
                    ops, failure, shrunk = candidate, found, True
                else:
                    at += size
            if size == 1 and not shrunk: return ops, failure
            size = max(1, size // 2)

    def close(self):
        self.a.stop()
        self.b.stop()
        if not self.options.keep: shutil.rmtree(self.root, ignore_errors=True)


def load(path):
    with open(path) as f: return [json.loads(line) for line in f if line.strip()]


def seeds(text):
    for part in text.split(","):
        first, _, last = part.partition("..")
        yield from range(int(first), int(last or first) + 1)


def main():
    oracle = os.path.join(HERE, "kafka-oracle")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*")
    parser.add_argument("--a", default=oracle, help="command of driver A; it must be able to encode and dump (default: the oracle)")
    parser.add_argument("--b", default=oracle, help="command of driver B (default: a second oracle, to check determinism)")
    parser.add_argument("--seeds", help="random scripts, for example 1..300 or 7,9")
    parser.add_argument("--profile", default="all", help="of the random scripts; 'all' takes each in turn")
    parser.add_argument("--ops", type=int, default=60)
    parser.add_argument("--recompress", action="store_true")
    parser.add_argument("--realistic", action="store_true", help="random scripts with high watermarks and truncations at batch boundaries only, damage only where a CRC sees it")
    parser.add_argument("--minimise", action="store_true", help="shrink every failing script and write it next to the others in --out")
    parser.add_argument("--out", default=".", help="where --minimise writes (default: here)")
    parser.add_argument("--files", choices=["every", "end", "none"], default="every", help="compare files after every operation, at the end, or not")
    parser.add_argument("--ignore", action="append", default=[], metavar="FIELD", help="of the answers, for example offsets.recovery_point")
    parser.add_argument("--ignore-file", action="append", default=[], metavar="GLOB")
    parser.add_argument("--strict", action="store_true", help="also compare retired files, empty against absent .txnindex, and the order in snapshots")
    parser.add_argument("--work", help="where directories are made (default: memory if there is /dev/shm)")
    parser.add_argument("--unnamed", action="store_true", help="report named differences too")
    parser.add_argument("--keep", action="store_true", help="keep the directories")
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--max-failures", type=int, default=10)
    parser.add_argument("--show", action="store_true", help="print every operation and A's answer")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the drivers' stderr")
    options = parser.parse_args()
    if options.work is None and os.path.isdir("/dev/shm"): options.work = "/dev/shm"
    jobs = [(path, lambda path=path: load(path)) for path in options.scripts]
    profiles = sorted(generate.PROFILES) if options.profile == "all" else [options.profile]
    for seed in seeds(options.seeds) if options.seeds else []:
        profile = profiles[seed % len(profiles)]
        jobs.append((f"seed {seed} profile {profile}", lambda s=seed, p=profile: generate.script(s, options.ops, p, options.recompress, options.realistic)))
    if not jobs: parser.error("give scripts or --seeds")
    comparison = Comparison(options)
    ran = failures = broken = operations = 0
    by_name = {}
    started = time.monotonic()
    for name, make in jobs:
        ops = make()
        ran += 1
        operations += len(ops)
        found = comparison.attempt(ops)
        if found is None: continue
        if getattr(found, "name", None):
            by_name[found.name] = by_name.get(found.name, 0) + 1
            continue
        failures += 1
        broken += isinstance(found, DriverFailed)
        print(f"DIFFERENT {name}\n{found}")
        if options.minimise:
            ops, found = comparison.minimise(ops, found)
            path = os.path.join(options.out, "minimised-" + re.sub(r"\W+", "-", name) + ".jsonl")
            with open(path, "w") as f: f.writelines(json.dumps(op) + "\n" for op in ops)
            print(f"  minimised to {len(ops)} operations in {path}\n{found}")
        if failures >= options.max_failures: break
    comparison.close()
    for name, count in sorted(by_name.items()): print(f"{count} scripts end at a difference named {name}")
    print(f"{ran} scripts, {operations} operations, {failures} different, {time.monotonic() - started:.1f} s")
    sys.exit(2 if broken else 1 if failures else 0)


if __name__ == "__main__":
    main()
