"""Where duramen differs from Kafka on purpose, as random scripts meet it.

Each difference has the name by which docs/KAFKA.md explains it. A difference counts as named only if both what was seen
and what the script did before fit; whatever a script does after such a place is not compared any more.
"""


class Facts:
    """What a script has done so far that makes a difference possible."""

    def __init__(self):
        self.overlapping = self.preallocated = self.damaged = self.failed_open = False
        self.truncated = self.reopened_before_truncation = self.reopened = self.regressing_epochs = False
        self.cleaned = self.base_offset_damaged = self.log_start_moved = self.without_time = False
        self.last_stable = None

    def note(self, op, answer, config, log):
        """`log` reads the file of the partition that the answer names."""
        name, failed = op["op"], "error" in answer
        if name in ("open", "reopen"):
            self.failed_open = failed
            self.reopened = name == "reopen"
        if str(config.get("preallocate")).lower() == "true": self.preallocated = True
        self.last_stable = answer.get("offsets", {}).get("last_stable")
        if name == "increment_log_start_offset": self.log_start_moved |= answer.get("changed", False)
        if name.startswith("append") and not failed: self.without_time |= answer.get("max_timestamp") == -1
        if name == "clean": self.cleaned |= not failed and answer.get("cleaned", False)
        if name == "damage":
            self.damaged = True
            self.base_offset_damaged |= "xor_at" in op and "batch" not in op and hits_a_base_offset(log(), op["xor_at"])
        if name == "append_as_follower" and not failed:
            headers = list(batches(bytes.fromhex(op.get("hex", ""))))
            if any(b[0] <= a[1] for a, b in zip(headers, headers[1:])): self.overlapping = True
        if name == "truncate_to" and answer.get("truncated"):
            self.truncated = True
            if self.reopened: self.reopened_before_truncation = True


def batches(data):
    """Base and last offset of every whole batch."""
    at = 0
    while at + 61 <= len(data):
        size = 12 + int.from_bytes(data[at + 8:at + 12], "big", signed=True)
        if size < 61 or at + size > len(data): return
        base = int.from_bytes(data[at:at + 8], "big", signed=True)
        yield base, base + int.from_bytes(data[at + 23:at + 27], "big", signed=True)
        at += size


def hits_a_base_offset(data, position):
    """Whether a byte of a log file belongs to the base offset of a batch."""
    at = 0
    while data and at + 61 <= len(data):
        size = 12 + int.from_bytes(data[at + 8:at + 12], "big", signed=True)
        if size < 61: return False
        if at <= position % len(data) < at + 8: return True
        at += size
    return False


def without_producers_of_no_epoch(snapshot):
    """The entries of a producer snapshot but for those that stand for an emptied marker alone."""
    entries = [snapshot[at:at + 46] for at in range(10, len(snapshot), 46)]
    return sorted(entry for entry in entries if entry[8:10] != b"\xff\xff")


def only_an_emptied_marker(d):
    """Whether A knows a producer without an epoch, and that is the whole difference."""
    if d.contents and None not in d.contents and ".snapshot differs" in d.what:
        return without_producers_of_no_epoch(d.contents[0]) == without_producers_of_no_epoch(d.contents[1])
    return d.what.startswith("answers differ in producers;") and '"producer_epoch": -1,' in d.a


def name_of(facts, d):
    """The name of a difference, or None if there is none for it."""
    op, what, message = d.request["op"], d.what, d.messages[0] or ""
    if op in ("append_as_follower", "reopen", "clean") and ("full index" in message or "full time index" in message): return "index-overfilled"
    if op == "reopen" and facts.damaged and "Split operation is only permitted" in message: return "offset-out-of-place"
    if op in ("reopen", "truncate_to") and "Expected transactional write" in message: return "forgotten-transaction"
    if facts.failed_open and facts.damaged and "is missing in B" in what: return "failed-open"
    if op == "reopen" and facts.damaged and "producer snapshot" in (d.messages[1] or ""): return "newer-version"
    if op == "clean" and facts.damaged and what.startswith("errors differ"): return "damaged-batch-cleaned"
    if op == "damage" and what.startswith("answers differ in"):
        if facts.preallocated: return "preallocated-length"
        if str(d.request.get("suffix", "")).endswith("index"): return "active-index"
    if op == "reopen" and facts.base_offset_damaged and what.startswith("answers differ in offsets"): return "base-offset-damaged"
    if op == "clean" and facts.log_start_moved and what.endswith("first at first_uncleanable_offset") and int(d.b) < int(d.a) == facts.last_stable:
        return "undecided-behind-the-log-start"
    if op == "state" and facts.without_time and what.startswith("answers differ in segments;") and what.endswith("].index_entries"):
        return "index-without-times"
    if facts.cleaned and only_an_emptied_marker(d): return "emptied-marker"
    if op == "reopen" and what.startswith("file leader-epoch-checkpoint differs"): return "epoch-beyond-the-end"
    if facts.reopened_before_truncation and (".timeindex differs" in what or "time_index_entries" in what or op == "offset_for_timestamp"):
        return "greatest-timestamp-lost"
    if facts.truncated and ("offsets.last_stable" in what or op == "read" and d.request.get("isolation") == "read_committed"):
        return "decided-transactions-held-back"
    if facts.overlapping: return "overlapping-batches"
    return None
