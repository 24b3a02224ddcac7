"""Damaged tables: whatever a file holds, the reader gives tables or one line that says what is wrong.

Each case changes one file of a small release by a seeded mutation and reads it, some with the whole
release. The normal run takes 120, the slow one ten thousand and watches the memory.
"""

import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.collect import Collector, missing_rows, place_in_time
from spinmark_data.ingest.oai.config import OaiConfig
from spinmark_data.ingest.oai.files import one_row_a_subject, read_table, table_key
from spinmark_data.ingest.oai.nda_names import read_names
from spinmark_data.ingest.oai.nda_tables import raw_tables, read_structure
from spinmark_data.ingest.oai.outcomes import read_outcomes
from spinmark_data.ingest.oai.tables import read_oai_tables, take_table, wanted_columns

ASCII = {
    "Enrollees.txt": "ID|VERSION|P02SEX|P02RACE|V00COHORT|V00SITE\r\n"
    + "".join(f"10000{n:02d}|25|{n % 2 + 1}|1: White|2: Incidence|A\r\n" for n in range(12)),
    "AllClinical00.txt": "ID|V00EVDATE|V00AGE|P01BMI|V00WOMKPR|V00WOMKPL|V00NOTE\r\n"
    + "".join(
        f"10000{n:02d}|03/24/2004|6{n % 10}|2{n % 10}.5|{n}|.A: Not Expected|caf\xe9\r\n"
        for n in range(12)
    ),
    "AllClinical03.txt": "ID|V03VISDYS|V03FVDATE|V03BMI\r\n"
    + "".join(f"10000{n:02d}|7{n:02d}|04/03/2006|2{n % 10}\r\n" for n in range(12)),
    "kXR_SQ_BU00.txt": "ID|SIDE|READPRJ|V00XRKL|V00XRJSM\r\n"
    + "".join(f"10000{n:02d}|{n % 2 + 1}: x|{(15, 37)[n % 2]}|{n % 5}|.P\r\n" for n in range(12)),
    "kMRI_SQ_MOAKS_BICL00.txt": "ID|SIDE|READPRJ|V00MCMFMA\r\n"
    + "".join(f"10000{n:02d}|1|63A|{n % 4}.{n % 3}: some\r\n" for n in range(12)),
    "Outcomes99.txt": "id|V99ERKRPCF|V99ERKDAYS|V99ERKDATE|V99EDDCF|V99EDDDATE|V99RNTCNT\r\n"
    + "".join(f"10000{n:02d}|3: yes|{n}00|.|.|.|3: 24-month\r\n" for n in range(12)),
}
_HEAD = '"subjectkey"\t"src_subject_id"\t"visit"\t"interview_date"\t"sex"\t'
NDA = {
    "oai_enrollee01.txt": _HEAD + '"e_cohort"\t"race"\n' + "\t".join(['"what it is"'] * 7) + "\n"
    + "".join(f'"N"\t"10000{n:02d}"\t"V00"\t"03/24/2004"\t"M"\t"1"\t"White"\n' for n in range(12)),
    "oai_koos_womac01.txt": _HEAD + '"womac_pain_right"\n' + "\t".join(['"what it is"'] * 6) + "\n"
    + "".join(f'"N"\t"10000{n:02d}"\t"V0{n % 2 * 3}"\t"03/24/2005"\t"M"\t"{n}"\n' for n in range(12)),
    "oai_kxrsemiquant01.txt": _HEAD + '"readprj"\t"side"\t"xrkl"\n'
    + "\t".join(['"what it is"'] * 8) + "\n"
    + "".join(f'"N"\t"10000{n:02d}"\t"V00"\t""\t"M"\t"15"\t"1"\t"{n % 5}"\n' for n in range(12)),
    "oai_outcome01.txt": _HEAD + '"rkrpcf"\t"rkdays"\t"rntcnt"\n'
    + "\t".join(['"what it is"'] * 8) + "\n"
    + "".join(f'"N"\t"10000{n:02d}"\t"V99"\t""\t"M"\t"3"\t"{n}00"\t"3"\n' for n in range(12)),
}  # fmt: skip
_BITS = (
    b"\x00",
    b"\xff\xfe",
    b'"',
    b"|",
    b"\t",
    b",",
    b"\r",
    b"\n",
    b"\x1a",
    b"\xe9",
    b"\xef\xbb\xbf",
)
_WORDS = (
    b".P",
    b"-9",
    b"1e999",
    b"9" * 400,
    b"nan",
    b"99/99/9999",
    b"02/29/2001",
    b": ",
    b"V99",
    b"5:",
)
# No mutation reaches this size, so that every file is read.
CONFIG = OaiConfig(table_limit_bytes=10_000_000)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One damage to a file."""
    place = rng.randrange(len(data) + 1)
    kind = rng.randrange(13)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    if kind == 2:
        return data[:place] + rng.choice(_BITS) + data[place:]
    if kind == 3:
        return data[:place] + rng.choice(_WORDS) + data[place + rng.randrange(6) :]
    if kind == 4:
        return data[:place] + rng.randbytes(rng.randrange(1, 300)) + data[place:]
    if kind == 5:
        return rng.randbytes(rng.randrange(2000))
    if kind == 6:
        return data.replace(b"|" if b"|" in data else b"\t", rng.choice([b",", b";", b" ", b"\t"]))
    if kind == 7:
        return data.decode("latin-1").encode(rng.choice(["utf-16", "utf-32", "cp037", "utf-7"]))
    if kind == 8:
        lines = data.split(b"\n")
        chosen = rng.randrange(len(lines))
        lines.insert(chosen, rng.choice(lines) * rng.choice([1, 2, 50]))
        return b"\n".join(lines)
    if kind == 9:
        lines = data.split(b"\n")
        lines.pop(rng.randrange(len(lines)))
        return b"\n".join(lines)
    if kind == 10:
        # A column moves: the first cell of every row goes to its end.
        sign = b"|" if b"|" in data else b"\t"
        rows = [line.rstrip(b"\r").split(sign) for line in data.split(b"\n")]
        return b"\n".join(sign.join([*row[1:], row[0]]) for row in rows)
    if kind == 11:
        return data.replace(b"1000001", rng.choice(_WORDS)).replace(b"3", rng.choice(_WORDS))
    return mutate(mutate(data, rng), rng)


def cases(n: int, seed: int) -> Iterator[tuple[dict[str, str], str, random.Random]]:
    rng = random.Random(seed)
    for _ in range(n):
        files = rng.choice([ASCII, NDA])
        yield files, rng.choice(sorted(files)), rng


def _of_outcomes(name: str) -> bool:
    return name.startswith("V99")


def read_one(path: Path) -> None:
    """Read one table as the whole release would, among persons who are enrolled."""
    subjects = pd.Index([f"10000{n:02d}" for n in range(12)], dtype=object, name="subject_id")
    collector = Collector(subjects, CONFIG)
    if path.parent.name == "nda":
        tables = raw_tables(read_structure(path, path.parent, 10**7), read_names(None), CONFIG)
    else:
        wanted = wanted_columns(table_key(path)[0], CONFIG)
        if path.name == "Outcomes99.txt":
            wanted = _of_outcomes
        tables = iter([read_table(path, path.parent, wanted, limit=10**7)])
    fates = []
    for table in tables:
        if table.stem == "OUTCOMES":
            one_row_a_subject(table)
            fates.append(table)
        else:
            take_table(table, collector)
    collector.mark_prostheses()
    visits, enrolment, nominal = place_in_time(collector)
    missing_rows(collector, nominal)
    for table in fates:
        read_outcomes(table, visits, enrolment, subjects, CONFIG, collector.prostheses())


def read_mutated(root: Path, n: int, seed: int, whole_every: int) -> tuple[int, int]:
    """Read `n` damaged tables, some with the whole release; how many were read and refused."""
    for name, files in (("ascii", ASCII), ("nda", NDA)):
        (root / name).mkdir()
        for file, text in files.items():
            (root / name / file).write_bytes(text.encode("latin-1"))
    read = refused = 0
    for number, (files, name, rng) in enumerate(cases(n, seed)):
        folder = root / ("ascii" if files is ASCII else "nda")
        data = files[name].encode("latin-1")
        (folder / name).write_bytes(mutate(data, rng))
        try:
            if number % whole_every:
                read_one(folder / name)
            else:
                read_oai_tables(folder, CONFIG)
            read += 1
        except InputError as error:
            message = str(error)
            assert "\n" not in message
            assert len(message) < 1500
            refused += 1
        (folder / name).write_bytes(data)
    return read, refused


def test_damaged_tables_are_read_or_refused(tmp_path: Path) -> None:
    read, refused = read_mutated(tmp_path, 120, seed=3, whole_every=20)
    assert read + refused == 120
    assert min(read, refused) > 20


@pytest.mark.slow
def test_ten_thousand_damaged_tables_are_read_or_refused_in_bounded_memory(tmp_path: Path) -> None:
    read_mutated(tmp_path / "", 1, seed=1, whole_every=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (tmp_path / "more").mkdir()
    read, refused = read_mutated(tmp_path / "more", 10_000, seed=11, whole_every=25)
    assert read + refused == 10_000
    assert min(read, refused) > 1000
    # In kilobytes, as Linux counts them.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\x00" * 5000,
        bytes(range(256)) * 20,
        b"ID",
        b"ID|V00AGE",
        b"|||||\n|||||",
        b"ID|V00AGE\r1000001|61\r1000002|62",
        "ID|V00AGE\n1000001|61".encode("utf-16"),
    ],
)
@pytest.mark.parametrize("name", ["Enrollees.txt", "AllClinical03.txt", "Outcomes99.txt"])
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    for file, text in ASCII.items():
        (tmp_path / file).write_bytes(text.encode("latin-1"))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_oai_tables(tmp_path)


def test_an_error_does_not_repeat_what_a_cell_says(tmp_path: Path) -> None:
    for file, text in ASCII.items():
        (tmp_path / file).write_bytes(text.encode("latin-1"))
    secret = ASCII["AllClinical00.txt"].replace("|60|", "|Jane Doe 03/24/1950|")
    (tmp_path / "AllClinical00.txt").write_bytes(secret.encode("latin-1"))
    issues = read_oai_tables(tmp_path).issues.to_csv()
    assert "aaaa aaa 99/99/9999" in issues
    assert "Jane" not in issues
    assert "1950" not in issues
