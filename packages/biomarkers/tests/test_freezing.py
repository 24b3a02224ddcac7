"""What is frozen stays as it was, and what comes after an unsealing says so."""

import hashlib
import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.config import DiscoverConfig
from spinmark_biomarkers.embeddings import from_frame
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.discover import discover
from spinmark_biomarkers.phenotypes.freeze import (
    check_frozen,
    facts_hash,
    freeze,
    label_hash,
    settings_of,
)
from spinmark_biomarkers.phenotypes.history import (
    LEDGER,
    after_unsealing,
    record,
    unsealing,
    unsealings,
)
from spinmark_biomarkers.phenotypes.store import read_phenotypes, write_phenotypes


def frozen(n=6, k=2, **settings):
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(k), n)
    who = [f"S{i // 2}" for i in range(n)]
    joints = [f"{w}:{'RL'[i % 2]}" for i, w in enumerate(who)]
    ds = xr.Dataset(
        {
            "label": ("scan", probability.argmax(1)),
            "probability": (("scan", "phenotype"), probability),
            "fitted": ("scan", np.arange(n) < n - 2),
        },
        coords={
            "scan_id": ("scan", np.array([f"{j}:V00:X:0" for j in joints], object)),
            "subject_id": ("scan", np.array(who, object)),
            "joint_id": ("scan", np.array(joints, object)),
            "visit": ("scan", np.array(["V00"] * n, object)),
            "days": ("scan", np.arange(n) * 1.5),
        },
        attrs={"schema": "spinmark/phenotypes", "version": 2, "method": "kmeans", "k": k},
    )
    known = pd.DataFrame({"joint_id": joints, "known_at": np.arange(n) * 1.5})
    given_settings = {"method": "kmeans", "k": k, "part": None, "visits": "baseline"} | settings
    return freeze(ds, known, given_settings), known


def changed(ds, name, at, value):
    other = ds.copy(deep=True)
    other[name].values[at] = value
    return other


def test_the_label_hash_has_the_old_meaning():
    assert label_hash(["a", "b"], [0, 1]) == label_hash(["b", "a"], [1, 0])
    assert label_hash(["a", "b"], [0, 1]) != label_hash(["a", "b"], [0, 0])
    assert label_hash(["a"], [0]) == hashlib.sha256(b"a\t0\n").hexdigest()
    with pytest.raises(InputError, match="accepted is one a scan"):
        label_hash(["a"], [0, 1])


def test_the_frozen_hash_is_one_that_can_be_computed_by_hand():
    ds, known = frozen(n=2)
    sha = lambda text: hashlib.sha256(text).hexdigest()  # noqa: E731
    ids = [f"S0:{side}:V00:X:0" for side in "LR"]
    label = ds["label"].values[::-1]
    millionths = np.rint(ds["probability"].values[::-1] * 1e6).astype("<i8")
    parts = {
        "fitted": sha(b"\x00\x00"),
        "known_at": sha(b"S0:L\t1.5\nS0:R\t0.0\n"),
        "labels": sha("".join(f"{i}\t{c}\n" for i, c in zip(ids, label, strict=True)).encode()),
        "probability": sha(b"(2, 2)\n" + millionths.tobytes()),
        "scans": sha(f"{ids[0]}\tS0\tS0:L\tV00\t1.5\n{ids[1]}\tS0\tS0:R\tV00\t0.0\n".encode()),
        "settings": sha(
            b'{"k": 2, "method": "kmeans", "part": null, "visits": "baseline"}\nmethod\tkmeans\nk\t2\n'
        ),
    }
    assert json.loads(ds.attrs["frozen"]) == parts
    whole = "".join(f"{name}\t{parts[name]}\n" for name in sorted(parts))
    assert ds.attrs["frozen_hash"] == sha(whole.encode())
    check_frozen(ds, known, "here")


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(6)), st.permutations(range(6)), st.floats(-4e-7, 4e-7))
def test_order_of_rows_and_last_digits_are_of_no_consequence(order, other, jitter):
    ds, known = frozen()
    ds = ds.assign(probability=ds["probability"].round(6))
    ds = freeze(ds, known, settings_of(ds))
    moved = ds.isel(scan=order).assign(probability=ds["probability"].isel(scan=order) + jitter)
    check_frozen(moved, known.iloc[other], "here")
    again = freeze(moved, known.iloc[other], settings_of(ds))
    assert again.attrs["frozen_hash"] == ds.attrs["frozen_hash"]


def test_whatever_is_edited_is_named():
    ds, known = frozen()
    label = 1 - int(ds["label"][3])
    for other, told in (
        (changed(ds, "label", 3, label), "labels hash to"),
        (
            changed(ds, "probability", (3, 0), ds["probability"].values[3, 0] + 2e-6),
            "probabilities",
        ),
        (changed(ds, "fitted", 0, False), "marks of fitted scans"),
        (changed(ds, "joint_id", 0, "S1:R"), "identifiers or days"),
        (changed(ds, "days", 2, 3.0000001), "identifiers or days"),
        (ds.assign_attrs(settings=ds.attrs["settings"].replace("2", "3")), "settings"),
        (ds.assign_attrs(k=3), "settings"),
        (ds.assign_attrs(cohort_hash="f"), "settings"),
        (ds.isel(scan=slice(1, None)), "identifiers"),
    ):
        with pytest.raises(InputError, match=f"^here: .*{told}"):
            check_frozen(other, known, "here")
    noisy = ds.assign(noise=("scan", np.arange(6) == 0))
    noisy = freeze(noisy, known, settings_of(ds))
    check_frozen(noisy, known, "here")
    with pytest.raises(InputError, match="or of noise hash to"):
        check_frozen(changed(noisy, "noise", 1, True), known, "here")
    with pytest.raises(InputError, match="known_at hash to"):
        check_frozen(ds, known.assign(known_at=0.0), "here")
    with pytest.raises(InputError, match="known_at hash to"):
        check_frozen(ds, known.iloc[1:], "here")


def test_hashes_that_were_edited_too_are_told():
    ds, known = frozen()
    with pytest.raises(InputError, match="frozen as 0000"):
        check_frozen(ds.assign_attrs(frozen_hash="0" * 64), known, "here")
    with pytest.raises(InputError, match="but its parts hash to"):
        check_frozen(ds.assign_attrs(label_hash="0" * 64), known, "here")
    # New parts under the old whole.
    other = changed(ds, "label", 0, 1 - int(ds["label"][0]))
    parts = json.loads(freeze(other, known, settings_of(ds)).attrs["frozen"])
    with pytest.raises(InputError, match="but its parts hash to"):
        check_frozen(other.assign_attrs(frozen=json.dumps(parts)), known, "here")
    for name in ("frozen", "frozen_hash", "label_hash", "settings"):
        bare = ds.copy()
        del bare.attrs[name]
        with pytest.raises(InputError, match="here: labels were never frozen"):
            check_frozen(bare, known, "here")


def embeddings(n=40, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(2 * n, 4))).add_prefix("f")
    frame["subject_id"] = [f"S{i // 2:02d}" for i in range(2 * n)]
    frame["laterality"] = ["R", "L"] * n
    return from_frame(frame, fitted_subjects=[f"S{i:02d}" for i in range(30)])


def found(**options):
    fast = {"bootstrap": 1, "seeds": 0, "splits": 1, "resamples": 2, "null_draws": 0, "k_max": 3}
    fast |= {"permutations": 19, "restarts": 1, "criteria": False}
    return discover(embeddings(), DiscoverConfig(**fast | {"k": 2} | options))


@pytest.fixture(scope="module")
def two():
    return found()


@pytest.fixture
def folder(two, tmp_path):
    write_phenotypes(tmp_path / "p", two)
    return tmp_path / "p"


def rewrite(folder, ds):
    shutil.rmtree(folder / "phenotypes.zarr")
    for variable in ds.variables.values():
        variable.encoding.clear()
    ds.to_zarr(folder / "phenotypes.zarr", consolidated=False)


def test_another_k_has_another_hash_and_the_bootstrap_has_none(two):
    other, same = found(k=3), found(bootstrap=2)
    assert other.dataset.attrs["frozen_hash"] != two.dataset.attrs["frozen_hash"]
    assert same.dataset.attrs["frozen_hash"] == two.dataset.attrs["frozen_hash"]
    assert settings_of(other.dataset)["k"] == 3
    assert settings_of(other.dataset)["visits"] == "baseline"


def test_an_artefact_that_was_edited_is_not_read(folder, two, tmp_path):
    again = read_phenotypes(folder)
    assert again.summary() == two.summary()
    assert again.dataset.attrs["frozen_hash"] == two.dataset.attrs["frozen_hash"]
    ds = again.dataset
    for name, other in (
        ("labels hash to", changed(ds, "label", 0, 1 - int(ds["label"][0]))),
        ("probabilities hash to", changed(ds, "probability", (0, 0), 0.123)),
        ("settings hash to", ds.assign_attrs(k=7)),
    ):
        copy = tmp_path / name.replace(" ", "-")
        shutil.copytree(folder, copy)
        rewrite(copy, other)
        with pytest.raises(InputError, match=name):
            read_phenotypes(copy)
    known = pd.read_parquet(folder / "known_at.parquet")
    known.assign(known_at=-100.0).to_parquet(folder / "known_at.parquet", index=False)
    with pytest.raises(InputError, match="known_at hash to"):
        read_phenotypes(folder)


def test_an_edited_page_of_facts_is_not_read_and_one_laid_out_anew_is(folder):
    page = folder / "phenotypes.json"
    facts = json.loads(page.read_text())
    page.write_text(json.dumps(dict(reversed(facts.items()))))
    assert read_phenotypes(folder).summary() == facts
    page.write_text(json.dumps(facts | {"verdict": "clusters!"}))
    with pytest.raises(InputError, match=r"phenotypes\.json is not what was written"):
        read_phenotypes(folder)
    page.write_text("{")
    with pytest.raises(InputError, match=r"phenotypes\.json is not JSON"):
        read_phenotypes(folder)
    assert facts_hash({"a": 1.0}) == hashlib.sha256(b'{"a": 1.0}\n').hexdigest()


def test_an_artefact_of_the_first_version_says_what_to_do(folder):
    ds = read_phenotypes(folder).dataset.assign_attrs(version=1)
    rewrite(folder, ds)
    with pytest.raises(
        InputError, match=r"version 1, .* run 'spinmark discover' again, which gives"
    ):
        read_phenotypes(folder)


def ledger(folder):
    return (folder / LEDGER).read_text().splitlines()


def test_a_change_of_k_after_outcomes_were_read_is_told(tmp_path):
    first, _ = frozen(k=2)
    later, _ = frozen(k=3)
    places = [tmp_path / "cohort", tmp_path / "embeddings"]
    for place in places:
        place.mkdir()
    assert after_unsealing(later, unsealings(places)) is None
    assert record(unsealing(first, "replacement"), places) == []
    # Once more, as when a stage is repeated: nothing is added.
    record(unsealing(first, "replacement"), places)
    assert [len(ledger(place)) for place in places] == [1, 1]
    # One ledger is enough, wherever the folder was copied to.
    shutil.copytree(places[1], tmp_path / "elsewhere")
    seen = unsealings([tmp_path / "elsewhere", tmp_path / "absent"])
    assert len(seen) == 1
    assert after_unsealing(first, seen) is None
    told = after_unsealing(later, seen)
    assert told["hashes"] == [first.attrs["frozen_hash"]]
    assert told["changed"] == {"k": {"from": 2, "to": 3}}
    short = first.attrs["frozen_hash"][:12]
    assert told["told"] == (
        f"these labels came after outcomes had been read for labels {short} (k 2 -> 3): what they foretell is "
        "exploratory"
    )
    json.dumps(told)


def test_only_what_came_before_counts(tmp_path):
    first, second, third = frozen(k=2)[0], frozen(k=3)[0], frozen(k=4, part="table")[0]
    for ds in (first, second, third, first):
        record(unsealing(ds, "replacement"), [tmp_path])
    record(unsealing(first, "kl_progression"), [tmp_path])
    seen = unsealings([tmp_path])
    assert [entry.settings["k"] for entry in seen] == [2, 3, 4, 2]
    assert after_unsealing(first, seen) is None
    assert after_unsealing(second, seen)["labelings"] == 1
    told = after_unsealing(third, seen)
    assert told["labelings"] == 2
    assert told["changed"] == {"k": {"from": 3, "to": 4}, "part": {"from": None, "to": "table"}}
    assert "(k 3 -> 4, part none -> table) and 1 other labeling:" in told["told"]
    # The same labels under other settings are the same labels.
    same = freeze(first, frozen(k=2)[1], settings_of(first) | {"seed": 9})
    assert same.attrs["frozen_hash"] != first.attrs["frozen_hash"]
    assert after_unsealing(same, seen) is None
    earliest = [replace(seen[0], at="2020-01-01T00:00:00+00:00"), *seen[1:]]
    assert after_unsealing(second, earliest)["labelings"] == 1
    # An option that is new and empty is no change.
    fifth = frozen(k=5, part="table", options={}, whiten=False)[0]
    told = after_unsealing(fifth, seen)["changed"]
    assert told == {"k": {"from": 2, "to": 5}, "part": {"from": None, "to": "table"}}


def test_a_torn_or_foreign_line_is_passed_over_and_not_swallowed(tmp_path, caplog):
    ds, _ = frozen()
    record(unsealing(ds, "replacement"), [tmp_path])
    path = tmp_path / LEDGER
    path.write_text(path.read_text() + '{"frozen_hash": "ab')
    with caplog.at_level(logging.WARNING):
        assert len(unsealings([tmp_path])) == 1
        record(unsealing(frozen(k=3)[0], "replacement"), [tmp_path])
    assert "line 2 cannot be read" in caplog.text
    lines = ledger(tmp_path)
    assert len(lines) == 3
    assert json.loads(lines[2])["settings"]["k"] == 3
    assert len(unsealings([tmp_path])) == 2


def test_a_folder_that_cannot_be_written_warns_and_others_are_written(tmp_path, caplog):
    # A file where the folder should be fails for any user, as a read-only folder does for most.
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "logs").write_text("")
    (tmp_path / "open").mkdir()
    ds, _ = frozen()
    with caplog.at_level(logging.WARNING):
        failed = record(unsealing(ds, "replacement"), [tmp_path / "locked", tmp_path / "open"])
    assert failed == [tmp_path / "locked"]
    assert "labels made later from it will not know" in caplog.text
    assert len(ledger(tmp_path / "open")) == 1
