"""Comparing phenotypes, and what keeps outcomes from labels that are not frozen, on made-up embeddings."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark import artefacts, unsealing
from spinmark.__main__ import main
from spinmark.commands.prognose import main as prognose
from spinmark.errors import InputError
from spinmark_biomarkers.embeddings import from_frame
from spinmark_biomarkers.errors import InputError as PackageError
from spinmark_biomarkers.phenotypes.history import LEDGER
from spinmark_biomarkers.phenotypes.store import read_phenotypes

QUICK = [
    *("--bootstrap", "1", "--seeds", "0", "--splits", "1", "--resamples", "2", "--null_draws", "0"),
    *("--permutations", "19", "--restarts", "1", "--k_max", "3", "--criteria", "false"),
]


def embed(
    folder: Path, cohort: str, *, seed: int = 0, shift: float = 0.0, noise: float = 1.0
) -> Path:
    """Embeddings of 60 people, both knees, in three clusters of people; the last 15 held out."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.random.default_rng(9).integers(0, 3, 60), 2)
    x = 8 * np.eye(5)[kind] + noise * rng.normal(size=(120, 5)) + shift * np.eye(5)[0]
    frame = pd.DataFrame(x).add_prefix("f")
    frame["subject_id"] = [f"S{i // 2:02d}" for i in range(120)]
    frame["laterality"] = ["R", "L"] * 60
    frame["site"] = [f"site{i // 2 % 3}" for i in range(120)]
    ds = from_frame(frame, fitted_subjects=[f"S{i:02d}" for i in range(45)])
    ds = ds.assign_attrs(sequence="X", encoder_hash="e0", cohort_hash="c0")

    def write(out: Path) -> None:
        ds.to_zarr(out / "embeddings.zarr", consolidated=False)

    artefacts.make(
        folder,
        "embeddings",
        write,
        config={"cohort": cohort, "seed": seed},
        inputs={"cohort": "c0"},
    )
    return folder


def discover(embeddings: Path, out: Path, k: int = 3, *more: str) -> Path:
    words = ["--embeddings", str(embeddings), "--out", str(out), "--k", str(k), *QUICK, *more]
    assert main(["discover", *words]) == 0
    return out


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("study")
    for name, words in {"a": {}, "b": {"seed": 1}, "moved": {"shift": 30.0}}.items():
        embed(base / name, "cohort", **words)  # type: ignore[arg-type]
    discover(base / "a", base / "pa")
    discover(base / "b", base / "pb")
    return base


@pytest.fixture(scope="module")
def compared(study: Path) -> Path:
    out = study / "compared"
    words = ["compare-phenotypes", "--preset", "smoke", "--reference", str(study / "pa")]
    words += ["--others.second", str(study / "pb"), "--embeddings", str(study / "a")]
    words += ["--transport.new", str(study / "b"), "--transport.moved", str(study / "moved")]
    assert main([*words, "--scans", "held-out", "--out", str(out)]) == 0
    return out


def test_it_writes_tables_figures_a_page_and_a_verdict(compared: Path, study: Path) -> None:
    names = {path.name for path in compared.iterdir()}
    tables = {
        f"{t}.{end}" for t in ("agreement", "sites", "transport") for end in ("csv", "parquet")
    }
    figures = {f"{f}.png" for f in ("agreement", "knees", "seeds", "sites")}
    figures |= {"transport-new.png", "transport-moved.png"}
    assert names == tables | figures | {"comparison.html", "summary.json", "run.json"}
    facts = json.loads((compared / "summary.json").read_text())
    assert facts["frozen_hash"] == read_phenotypes(study / "pa").dataset.attrs["frozen_hash"]
    assert facts["compared"] == {"scans": "held-out", "n": 30, "n_subjects": 15}
    assert facts["labelings"]["agreements"]["second"]["ari"]["value"] > 0.9
    assert facts["knees"]["people"] == 15
    assert facts["transport"]["new"]["verdict"] == "carries over"
    assert facts["transport"]["moved"]["verdict"] == "does not carry over"
    assert [row["stability"] for row in facts["refits"]["phenotypes"]] == ["highly stable"] * 3
    assert facts["refits"]["knees"]["people"] == 45
    page = (compared / "comparison.html").read_text()
    assert "they differ by a shift" in page
    assert page.count("<figure>") == page.count("<b>Caveat.</b>") == 6
    rows = pd.read_parquet(compared / "agreement.parquet")
    assert set(rows["across"]) == {"labelings", "seeds", "cohorts"}
    shares = pd.read_csv(compared / "transport.csv").groupby("cohort")["share_frozen"].sum()
    assert shares.to_numpy() == pytest.approx([1, 1])


def test_the_same_twice(compared: Path, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare-phenotypes", "--preset", "smoke", "--reference", str(study / "pa")]
    words += ["--others.second", str(study / "pb"), "--embeddings", str(study / "a")]
    words += ["--transport.new", str(study / "b"), "--transport.moved", str(study / "moved")]
    words += ["--scans", "held-out"]
    assert main([*words, "--out", str(compared)]) == 0
    said = capsys.readouterr().out
    assert "nothing to do" in said
    assert "second: adjusted Rand index" in said
    assert main([*words, "--out", str(study / "again")]) == 0
    assert artefacts.content_hash(study / "again") == artefacts.content_hash(compared)


def test_bad_words_are_answered_in_one_line(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = embed(tmp_path / "other", "cohort", seed=5, noise=9.0)
    encoder = tmp_path / "encoder"
    shutil.copytree(study / "b", encoder)
    meta = encoder / "embeddings.zarr" / "zarr.json"
    meta.write_text(meta.read_text().replace('"e0"', '"e1"'))
    given = ["--reference", str(study / "pa"), "--out", str(tmp_path / "c"), "--preset", "smoke"]
    own = ["--embeddings", str(study / "a")]
    for words, told in (
        ([], "nothing to compare with"),
        (["--transport.x", str(study / "b")], "needs --embeddings"),
        ([*own, "--draws", "3"], "draws: 3; accepted is at least 20"),
        (["--others.x", str(study / "a")], "is spinmark/embeddings, but spinmark/phenotypes"),
        (
            ["--embeddings", str(other)],
            "accepted are the embeddings that the reference was found in",
        ),
        ([*own, "--transport.x", str(encoder)], "embedded by encoder e1, the reference by e0"),
    ):
        assert main(["compare-phenotypes", *given, *words]) in (1, 2)
        line = [one for one in capsys.readouterr().err.splitlines() if ": refits: " not in one]
        assert len(line) == 1, line
        assert told in line[0]
        assert not (tmp_path / "c").exists()


def test_everyone_was_fitted_on(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["--reference", str(study / "pa"), "--others.x", str(study / "pb")]
    words = ["compare-phenotypes", "--preset", "smoke", *both, "--out", str(tmp_path / "f")]
    assert main([*words, "--scans", "fitted"]) == 0
    facts = json.loads((tmp_path / "f" / "summary.json").read_text())
    assert facts["compared"] == {"scans": "fitted", "n": 90, "n_subjects": 45}
    capsys.readouterr()


# What follows holds outcomes and labels apart.


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A folder that says it is the cohort of the embeddings."""
    folder = tmp_path / "work" / "cohort"
    folder.mkdir(parents=True)
    (folder / "cohort.json").write_text(json.dumps({"hash": "c1", "generations": [{"hash": "c0"}]}))
    return folder


@pytest.fixture
def own(study: Path, cohort: Path) -> tuple[Path, Path]:
    """Embeddings and phenotypes beside the cohort."""
    for name in ("a", "b", "pa"):
        shutil.copytree(study / name, cohort.parent / name)
    return cohort.parent / "a", cohort.parent / "pa"


def unseal(cohort: Path, embeddings: Path, phenotypes: Path) -> dict[str, object]:
    page: dict[str, object] = unsealing.unseal(
        read_phenotypes(phenotypes).dataset,
        endpoint="replacement",
        cohort=cohort,
        embeddings=embeddings,
        phenotypes=phenotypes,
    )
    return page


def test_another_k_after_outcomes_were_read_says_so(
    cohort: Path, own: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    embeddings, phenotypes = own
    before = discover(embeddings, cohort.parent / "before", 2)
    assert "exploratory" not in capsys.readouterr().out
    page = unseal(cohort, embeddings, phenotypes)
    assert page["after_unsealing"] is None
    hashes = [artefacts.content_hash(path) for path in own]
    assert not artefacts.changed_files(phenotypes)
    after = discover(embeddings, cohort.parent / "after", 2)
    said = capsys.readouterr().out
    short = str(page["frozen_hash"])[:12]
    sentence = (
        f"came after outcomes had been read for labels {short} (k 3 -> 2): what they foretell"
    )
    assert sentence in said
    assert sentence in read_phenotypes(after).summary()["after_unsealing"]["told"]
    # Frozen earlier, and read later: two looks are two looks.
    assert "after_unsealing" not in read_phenotypes(before).summary()
    second = unseal(cohort, embeddings, before)
    assert sentence in str(second["after_unsealing"])
    assert unseal(cohort, embeddings, phenotypes)["after_unsealing"] is None
    # The same labels once more are no other labels.
    discover(embeddings, cohort.parent / "same")
    assert "exploratory" not in capsys.readouterr().out
    assert [artefacts.content_hash(path) for path in own] == hashes


def test_the_record_is_found_from_other_embeddings_and_from_copies(
    cohort: Path, own: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unseal(cohort, *own)
    discover(cohort.parent / "b", cohort.parent / "pb", 2)
    assert "exploratory" in capsys.readouterr().out
    copy = tmp_path / "far" / "vectors"
    shutil.copytree(own[0], copy)
    discover(copy, tmp_path / "far" / "p", 2)
    assert "exploratory" in capsys.readouterr().out
    # Another cohort of that name knows nothing of it.
    (cohort / "cohort.json").write_text(json.dumps({"hash": "other"}))
    discover(cohort.parent / "b", cohort.parent / "pb2", 2)
    assert "exploratory" not in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_does_not_break_it(
    cohort: Path, own: tuple[Path, Path]
) -> None:
    (cohort / "logs").write_text("")
    assert unseal(cohort, *own)["after_unsealing"] is None
    assert (own[0] / LEDGER).is_file()


def test_edited_labels_are_not_unsealed(own: tuple[Path, Path]) -> None:
    folder = own[1]
    assert unsealing.frozen_phenotypes(folder).summary()["k"] == 3
    page = folder / "phenotypes.json"
    original = page.read_text()
    page.write_text(original.replace('"k": 3', '"k": 4'))
    with pytest.raises(PackageError, match=r"phenotypes\.json is not what was written"):
        unsealing.frozen_phenotypes(folder)
    # Laid out anew it says the same, and still is not the file that was sealed.
    page.write_text(json.dumps(json.loads(original)))
    with pytest.raises(InputError, match=r"phenotypes\.json is not what was sealed; outcomes are"):
        unsealing.frozen_phenotypes(folder)


def test_prognose_stops_before_outcomes_and_leaves_no_line(
    own: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], demo: Path
) -> None:
    edited = tmp_path / "edited"
    shutil.copytree(demo / "phenotypes", edited, ignore=shutil.ignore_patterns("logs"))
    known = pd.read_parquet(edited / "known_at.parquet")
    known.assign(known_at=-1.0).to_parquet(edited / "known_at.parquet", index=False)
    words = ["--preset", "smoke", "--cohort", str(demo / "cohort"), "--phenotypes", str(edited)]
    words += ["--embeddings", str(demo / "embeddings" / "distilled"), "--out", str(tmp_path / "p")]
    with pytest.raises(PackageError, match=r"known_at hash to .*, frozen as"):
        prognose(words)
    assert not (edited / LEDGER).exists()
    assert not (tmp_path / "p").exists()
    line = json.loads((demo / "cohort" / LEDGER).read_text().splitlines()[0])
    page = unsealing.read_page(demo / "prognosis")
    assert page["frozen_hash"] == line["frozen_hash"]
    assert page["after_unsealing"] is None
    shown = tmp_path / "report.html"
    mixed = ["report", "--cohort", str(demo / "cohort"), "--prognosis", str(demo / "prognosis")]
    mixed += ["--phenotypes", str(own[1]), "--embeddings", str(own[0]), "--out", str(shown)]
    assert main(mixed) == 1
    assert "was made for other phenotypes than" in capsys.readouterr().err
