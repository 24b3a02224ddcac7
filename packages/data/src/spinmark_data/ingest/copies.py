"""Series of the same content: the copy of a scan is no rescan."""

from collections import defaultdict
from collections.abc import Sequence

from spinmark_data.cohort.ledger import Record

_WHOSE = ("subject_id", "laterality", "visit", "sequence")


def without_copies(records: Sequence[Record]) -> list[Record]:
    """The same records, with copies turned into refusals.

    Of copies that are one person's at one visit the first by name is taken. Where the same images
    stand under two people, sides, visits or sequences, nobody can tell whose they are, and all of
    them are quarantined.

    Args:
        records: Of staged series, as `stage` returns them.
    """
    same: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record["status"] == "taken":
            same[record["source_sha256"]].append(record)
    changed: dict[str, Record] = {}
    for group in same.values():
        if len(group) == 1:
            continue
        group = sorted(group, key=lambda record: str(record["source"]))
        differ = [key for key in _WHOSE if len({record[key] for record in group}) > 1]
        names = [str(record["source"]) for record in group]
        for place, record in enumerate(group):
            other = names[0] if place else names[1]
            if differ:
                reason = f"the same images stand in {other} under another {differ[0]}"
                told = ("quarantined", reason, "keep the one that is right")
            elif place:
                told = ("refused", f"a copy of the images in {other}", "none needed")
            else:
                continue
            kind, reason, action = told
            status = {"status": "refused", "kind": kind, "reason": reason, "action": action}
            kept = ("source", "key", "fingerprint", "listing", "code", "config")
            changed[record["source"]] = {k: record[k] for k in kept if k in record} | status
    return [changed.get(record["source"], record) for record in records]
