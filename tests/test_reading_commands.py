"""`spinmark reading-sheets` and `score-readings`: blind, the same bytes twice, and scored as known."""

import base64
import csv
import hashlib
import json
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from spinmark import artefacts
from spinmark.__main__ import main
from spinmark.commands.score_readings import listed
from spinmark_biomarkers.embeddings import from_frame, open_embeddings, plain_strings
from spinmark_biomarkers.phenotypes.discover import Phenotypes
from spinmark_biomarkers.phenotypes.freeze import freeze
from spinmark_biomarkers.phenotypes.reading.key import read_key
from spinmark_biomarkers.phenotypes.store import VERSION, write_phenotypes
from spinmark_data.cohort.store import SequenceVolumes, write_cohort

SITE, SCANNER, SEQUENCE = "Quuxville", "Frobozz 7", "SAG_XYZZY"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of 36 people in three groups, whose images are brighter in another place each."""
    base = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    labels = np.arange(36) % 3
    volume = rng.integers(0, 200, (36, 6, 20, 24)).astype(np.int16)
    for n, label in enumerate(labels):
        volume[n, :, 5:10, 4 + 6 * label : 9 + 6 * label] += 600
    scans = pd.DataFrame(
        {
            "subject_id": [str(1000001 + n) for n in range(36)], "laterality": "R", "visit": "V00",
            "site": SITE, "scanner": SCANNER, "rank": 0, "days": 0.0,
        }
    )  # fmt: skip

    def cohort(folder: Path) -> None:
        write_cohort(
            folder,
            volumes={SEQUENCE: SequenceVolumes(volume=volume, scans=scans)},
            tables={},
            provenance={},
        )

    artefacts.make(base / "cohort", "cohort", cohort, config={})
    x = np.eye(3)[labels] * 6 + rng.normal(size=(36, 3))
    frame = scans.assign(**{f"f{i}": x[:, i] for i in range(3)})
    frame["scan_id"] = frame["subject_id"] + f":R:V00:{SEQUENCE}:0"
    made = from_frame(frame, fitted_subjects=frame["subject_id"][:24], features=["f0", "f1", "f2"])

    def embeddings(folder: Path) -> None:
        plain_strings(made).to_zarr(
            folder / "embeddings.zarr", mode="w", zarr_format=3, consolidated=False
        )

    artefacts.make(base / "embeddings", "embeddings", embeddings, config={})
    ds = open_embeddings(base / "embeddings")
    away = ((x[:, None] - 6 * np.eye(3)) ** 2).sum(axis=2)
    share = np.exp(-(away - away.min(axis=1, keepdims=True)) / 2)
    found = xr.Dataset(
        {
            "label": ("scan", labels.astype(np.int64)),
            "probability": (("scan", "phenotype"), share / share.sum(axis=1, keepdims=True)),
            "fitted": ("scan", ds["set"].values == "train"),
        },
        coords={name: ds[name] for name in ds.coords if ds[name].dims == ("scan",)},
        attrs={
            "schema": "spinmark/phenotypes", "version": VERSION, "method": "kmeans", "k": 3,
            "visits": "baseline",
        },
    )  # fmt: skip
    known_at = pd.DataFrame({"joint_id": ds["joint_id"].values, "known_at": 0.0})
    phenotypes = Phenotypes(
        dataset=freeze(found, known_at, {"method": "kmeans", "k": 3}), known_at=known_at, facts={}
    )
    artefacts.make(
        base / "phenotypes", "phenotypes", lambda folder: write_phenotypes(folder, phenotypes),
        config={}, inputs={"embeddings": base / "embeddings"},
    )  # fmt: skip
    return base


def words(study: Path, out: Path, *more: str) -> list[str]:
    inputs = [f"--{name}={study / name}" for name in ("cohort", "embeddings", "phenotypes")]
    return ["reading-sheets", "--preset", "smoke", *inputs, "--out", str(out), *more]


@pytest.fixture(scope="module")
def sheets(study: Path) -> Path:
    out = study / "sheets"
    assert main(words(study, out)) == 0
    return out


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def handed_out(folder: Path) -> dict[Path, bytes]:
    """All bytes that readers get, unpacked where they are packed in text."""
    found = {}
    for path in [*(folder / "sheets").rglob("*"), *(folder / "forms").rglob("*")]:
        if path.is_file():
            content = path.read_bytes()
            # Packed pixels hold any few letters by chance: pictures in a page are looked at unpacked.
            images = re.findall(rb"base64,([^\"]*)", content)
            content = re.sub(rb"base64,[^\"]*", b"", content)
            streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, flags=re.DOTALL)
            unpacked = [zlib.decompress(one) for one in streams if one[:1] == b"x"]
            found[path] = b"\n".join([content, *unpacked, *map(base64.b64decode, images)])
    return found


def test_it_makes_sheets_forms_and_a_key_apart(sheets: Path) -> None:
    plan = read_key(sheets / "key")
    codes = sorted(set(plan.sheets["code"]))
    assert sorted(path.name for path in (sheets / "sheets").iterdir()) == sorted(
        ["instructions.html", "odd-one-out.pdf", *(f"sheet-{code}.pdf" for code in codes)]
    )
    assert sorted(path.name for path in (sheets / "forms").glob("*.*")) == [
        "reader-1.csv", "reader-1.html", "reader-2.csv", "reader-2.html",
    ]  # fmt: skip
    assert len(plan.items) == 3 * 2 + 2 + 1
    readme = (sheets / "README.md").read_text()
    assert plan.set_id in readme
    assert "Do not hand out this file" in readme


def test_what_readers_get_is_blind(sheets: Path, study: Path) -> None:
    out = study / "html"
    assert main(words(study, out, "--format", "html")) == 0
    secrets = [SITE, SCANNER, SEQUENCE, ":V00", str(study), "reading-sheets.yaml", "matplotlib"]
    kinds = ["prototype", "boundary", "control", "repeat", "phenotype", "cluster"]
    for folder in (sheets, out):
        told = handed_out(folder)
        assert len(told) == 5 + 8
        for path, content in told.items():
            assert not re.search(rb"10000\d\d", content), path
            for word in secrets:
                assert word.encode() not in content, (path, word)
            # Compressed pixels hold any letters by chance, so that words are looked for in texts.
            if path.suffix != ".pdf":
                text = re.sub(rb"(?s)<style>.*?</style>", b"", content.lower())
                assert not [word for word in kinds if word.encode() in text], path
        assert not [path for path in told if re.search(r"\d{4}", path.name)]


def test_equal_seeds_give_equal_bytes(sheets: Path, study: Path, tmp_path: Path) -> None:
    assert main(words(study, tmp_path / "again")) == 0
    assert files(tmp_path / "again") == files(sheets)
    assert main(words(study, tmp_path / "other", "--seed", "1")) == 0
    assert not set(files(tmp_path / "other" / "sheets")) & {
        name for name in files(sheets / "sheets") if name.startswith("sheet-")
    }


def fill(sheets: Path, source: Path, target: Path, wrong: int = 0) -> Path:
    """A reader who finds all odd ones but some, and names every sheet by its phenotype."""
    plan = read_key(sheets / "key")
    answers = plan.items.set_index("code")["answer"]
    of = plan.sheets.drop_duplicates("code").set_index("code")["phenotype"]
    with source.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.reader(stream))
    missed = list(plan.items.loc[plan.items["type"] == "phenotype", "code"][:wrong])
    for row in rows[3:]:
        part, code, question, accepted = row[:4]
        if part == "odd one out":
            row[4] = (
                answers[code]
                if code not in missed
                else "ABCD"[("ABCD".index(answers[code]) + 1) % 4]
            )
        elif accepted != "free text":
            choices = accepted.split(" | ")
            row[4] = choices[int(of[code])] if question == "known sign" else choices[0]
        elif question == "what they have in common":
            row[4] = 'bright, "left"\nof the middle'
    with target.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return target


def test_completed_forms_are_scored(
    sheets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forms = [
        fill(sheets, sheets / "forms" / "reader-1.csv", tmp_path / "a.csv"),
        fill(sheets, sheets / "forms" / "reader-2.csv", tmp_path / "b.csv", wrong=3),
        fill(sheets, sheets / "forms" / "names" / "reader-1-names.csv", tmp_path / "c.csv"),
    ]
    given = [
        "score-readings",
        "--preset",
        "smoke",
        "--sheets",
        str(sheets),
        "--out",
        str(tmp_path / "s"),
    ]
    assert main([*given, "--readings", *map(str, forms)]) == 0
    said = capsys.readouterr().out
    assert "2 readers: reader-1, reader-2" in said
    assert "Next: open" in said
    table = pd.read_csv(tmp_path / "s" / "scores.csv")
    accuracy = table[(table["metric"] == "odd_one_out_accuracy") & (table["subset"] == "all")]
    assert accuracy.set_index("reader")["value"].groupby(level=0).first().to_dict() == {
        "all": 0.75, "reader-1": 1.0, "reader-2": 0.5,
    }  # fmt: skip
    sign = table[(table["metric"] == "alpha") & (table["subset"] == "known sign")]
    assert sign["value"].tolist() == [1]
    page = (tmp_path / "s" / "readings.html").read_text()
    assert "bright, &#34;left&#34;" in page
    assert not re.search(r"10000\d\d", re.sub(r"base64,[^\"]*", "", page))
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    # In another order and from another place they are the same forms.
    moved = shutil.copy(forms[0], tmp_path / "moved.csv")
    assert main([*given, "--readings", *map(str, forms[1:]), str(moved)]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_what_is_wrong_is_one_line(
    sheets: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    form = fill(sheets, sheets / "forms" / "reader-1.csv", tmp_path / "a.csv")
    score = ["score-readings", "--out", str(tmp_path / "s"), "--sheets", str(sheets), "--readings"]
    other = tmp_path / "other"
    assert main(words(study, other, "--seed", "5")) == 0
    foreign = fill(other, other / "forms" / "reader-1.csv", tmp_path / "f.csv")
    bad = tmp_path / "bad.csv"
    bad.write_text(form.read_text().replace("marrow lesion\n", "marow lesion\n"))
    shutil.copytree(sheets, tmp_path / "edited")
    key = tmp_path / "edited" / "key" / "sheets.csv"
    key.write_text(key.read_text().replace("random", "boundary"))
    edited = [*score[:3], "--sheets", str(tmp_path / "edited"), "--readings", str(form)]
    capsys.readouterr()
    for line, message in (
        ([*score, str(foreign)], "that of these sheets, so the form is of another study"),
        (
            [*score, str(bad)],
            "column answer: 'marow lesion'; accepted are marrow lesion, cartilage loss",
        ),
        ([*score, str(form), str(form)], "reader 'reader-1' stands in"),
        ([*score, str(tmp_path / "absent.csv")], "absent.csv: no such file"),
        ([*score[:5]], "readings: none were given"),
        (edited, "the key was changed after the sheets were made"),
        (
            words(study, tmp_path / "x", "--slices", "{medial: 2}"),
            "slices.medial: 2; accepted is a share",
        ),
        (words(study, tmp_path / "x", "--per_item", "2"), "per_item: 2; accepted is at least 3"),
    ):
        assert main(line) == 1, line
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert message in said
    assert not (tmp_path / "s").exists()
    assert not (tmp_path / "x").exists()


def test_other_embeddings_and_cohorts_without_these_scans_are_refused(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def changed(folder: Path) -> None:
        shutil.copytree(study / "embeddings" / "embeddings.zarr", folder / "embeddings.zarr")
        (folder / "note.txt").write_text("another")

    artefacts.make(tmp_path / "embeddings", "embeddings", changed, config={})
    line = [*words(study, tmp_path / "x"), "--embeddings", str(tmp_path / "embeddings")]
    assert main(line) == 1
    assert "are not those that" in capsys.readouterr().err

    def strangers(folder: Path) -> None:
        scans = pd.DataFrame({"subject_id": ["1000999"], "laterality": "R"})
        volume = np.ones((1, 4, 8, 8), np.int16)
        given = {SEQUENCE: SequenceVolumes(volume=volume, scans=scans)}
        write_cohort(folder, volumes=given, tables={}, provenance={})

    artefacts.make(tmp_path / "cohort", "cohort", strangers, config={})
    assert main([*words(study, tmp_path / "x"), "--cohort", str(tmp_path / "cohort")]) == 1
    assert "none of 36 scans with a phenotype" in capsys.readouterr().err


def test_files_may_follow_one_another() -> None:
    assert listed(["--readings", "a", "b", "--seed", "1"]) == [
        "--seed",
        "1",
        '--readings=["a", "b"]',
    ]
    assert listed(["--readings", "[a, b]", "--seed", "1"]) == [
        "--readings",
        "[a, b]",
        "--seed",
        "1",
    ]
    assert listed(["--readings=[a]"]) == ["--readings=[a]"]


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to run a form's script")
def test_what_a_form_saves_is_what_is_read(sheets: Path, tmp_path: Path) -> None:
    page = (sheets / "forms" / "reader-1.html").read_text(encoding="utf-8")
    script = page[page.index("function cell") : page.index("function inputs")]
    rows = re.search(r'id="rows">(.*?)</script>', page, flags=re.DOTALL)
    assert rows is not None
    form = json.loads(rows[1])
    answers = [
        accepted.split(" | ")[0] if accepted != "free text" else 'a "b",\nc'
        for *_, accepted in form["questions"]
    ]
    code = f"{script}\nprocess.stdout.write(toCsv({rows[1]}, 'Zo\u00eb', {json.dumps(answers)}));"
    run = subprocess.run(["node", "-e", code], capture_output=True, check=True)
    (tmp_path / "saved.csv").write_bytes(b"\xef\xbb\xbf" + run.stdout)
    from spinmark_biomarkers.phenotypes.reading.readings import read_readings

    found = read_readings(read_key(sheets / "key"), [tmp_path / "saved.csv"])
    assert set(found["reader"]) == {"Zo\u00eb"}
    assert (found["answer"] == 'a "b",\nc').sum() == 2 * 3
    assert (found["answer"] != "").all()
