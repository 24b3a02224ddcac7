"""Names for people that tell nothing: keyed codes in the place of identifiers.

A code is the beginning of HMAC-SHA256 (RFC 2104) of an identifier under a key that only the site
holds. Without the key nobody can make the code of a known identifier, nor try them all.
"""

import hashlib
import hmac
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.ingest.tableset import TableSet

_SHORTEST = 32
_CODE = 16
_WITH_SUBJECTS = ("subjects", "visits", "joints", "missing", "outcomes")


@dataclass(frozen=True)
class SiteKey:
    """The secret of a site; its text never shows.

    Args:
        secret: The key.
    """

    secret: bytes = field(repr=False)

    def code(self, identifier: str, purpose: str = "subject") -> str:
        """The code of an identifier.

        Args:
            identifier: Such as a hospital number.
            purpose: What it identifies; codes of one text under two purposes have nothing in common.
        """
        text = f"spinmark:{purpose}:{identifier}".encode()
        return hmac.new(self.secret, text, hashlib.sha256).hexdigest()[:_CODE]

    def subject(self, identifier: str) -> str:
        """The name that a person has in the cohort."""
        return f"p{self.code(identifier)}"

    @property
    def check(self) -> str:
        """What tells two keys apart without telling either."""
        return self.code("", "check")


def read_key(path: Path) -> SiteKey:
    """Read a site's key: the text of a file, without white space at its ends.

    Raises:
        InputError: The file is absent, or holds fewer than 32 characters, which could be guessed.
    """
    try:
        secret = path.read_bytes().strip()
    except OSError:
        raise InputError(
            f"pseudonymise {path} cannot be read; give a file with a key of at least {_SHORTEST} "
            "characters, such as 'openssl rand -hex 32' writes."
        ) from None
    if len(secret) < _SHORTEST:
        raise InputError(
            f"pseudonymise {path} holds {len(secret)} characters; a key of at least {_SHORTEST} is "
            "needed, such as 'openssl rand -hex 32' writes."
        )
    return SiteKey(secret)


def pseudonymise_tables(tables: TableSet, key: SiteKey) -> TableSet:
    """The same tables with a code in the place of each person's identifier.

    Columns `subject_id` and `joint_id` change, `enrolment` with them; rows keep their order.
    """

    def coded(frame: pd.DataFrame) -> pd.DataFrame:
        names = frame["subject_id"].astype(str)
        codes = {name: key.subject(name) for name in set(names)}
        out = frame.assign(subject_id=names.map(codes).astype(object))
        if "joint_id" in out and "laterality" in out:
            joint = out["subject_id"].astype(str) + ":" + out["laterality"].astype(str)
            out["joint_id"] = joint.astype(object)
        return out

    changed = {name: coded(getattr(tables, name)) for name in _WITH_SUBJECTS}
    enrolment = None if tables.enrolment is None else coded(tables.enrolment)
    return replace(tables, **changed, enrolment=enrolment).check()
