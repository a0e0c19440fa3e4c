"""Where duramen differs from Kafka on purpose, as random scripts meet it.

Each difference has the name by which docs/KAFKA.md explains it. A difference counts as named only if both what was seen
and what the script did before fit; whatever a script does after such a place is not compared any more.
"""


class Facts:
    """What a script has done so far that makes a difference possible."""

    def __init__(self):
        self.overlapping = self.preallocated = self.damaged = self.failed_open = False
        self.truncated = self.reopened_before_truncation = self.reopened = self.regressing_epochs = False

    def note(self, op, answer, config):
        name, failed = op["op"], "error" in answer
        if name in ("open", "reopen"):
            self.failed_open = failed
            self.reopened = name == "reopen"
        if str(config.get("preallocate")).lower() == "true": self.preallocated = True
        if name == "damage": self.damaged = True
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


def name_of(facts, d):
    """The name of a difference, or None if there is none for it."""
    op, what, message = d.request["op"], d.what, d.messages[0] or ""
    if op in ("append_as_follower", "reopen", "clean") and ("full index" in message or "full time index" in message): return "index-overfilled"
    if op == "reopen" and facts.damaged and "Split operation is only permitted" in message: return "offset-out-of-place"
    if op == "reopen" and "Expected transactional write" in message: return "forgotten-transaction"
    if facts.failed_open and facts.damaged and "is missing in B" in what: return "failed-open"
    if op == "reopen" and facts.damaged and "producer snapshot" in (d.messages[1] or ""): return "newer-version"
    if op == "clean" and facts.damaged and what.startswith("errors differ"): return "damaged-batch-cleaned"
    if op == "damage" and what.startswith("answers differ in"):
        if facts.preallocated: return "preallocated-length"
        if str(d.request.get("suffix", "")).endswith("index"): return "active-index"
    if op == "reopen" and what.startswith("file leader-epoch-checkpoint differs"): return "epoch-beyond-the-end"
    if facts.reopened_before_truncation and (".timeindex differs" in what or "time_index_entries" in what or op == "offset_for_timestamp"):
        return "greatest-timestamp-lost"
    if facts.truncated and ("offsets.last_stable" in what or op == "read" and d.request.get("isolation") == "read_committed"):
        return "decided-transactions-held-back"
    if facts.overlapping: return "overlapping-batches"
    return None
