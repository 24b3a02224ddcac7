"""Which machine scans whom and from when on: upgrades, changes, sites that tell, late entry."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from spinmark_data.errors import InputError
from spinmark_data.phantom.clinic import clinic_visit
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.outcomes import (
    death_rate,
    expected_incidence,
    simulate_outcomes,
    site_effect,
)
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.progression import trajectories
from spinmark_data.phantom.scan_plan import entry_days, plan_scans
from spinmark_data.phantom.signal import SCANNERS

PRESETS = Path(__file__).parents[3] / "configs" / "phantom"


def planned(**changes):
    config = PhantomConfig(**({"subjects": 120, "seed": 6, "event_share": 0.22} | changes))
    population = sample_population(config)
    path = trajectories(population, config)
    pain = clinic_visit(population, path["V00"], "V00", config)[1]["WOMKP"].to_numpy()
    outcomes = simulate_outcomes(population, pain, config)
    scans = plan_scans(population, path, outcomes, config, len(SCANNERS))
    return config, population, outcomes, scans


def machines(scans):
    return scans.groupby(["site", "visit"])["scanner"].agg(set).to_dict()


def test_one_site_changes_its_machine_between_enrolment_and_follow_up():
    visits = ("V00", "V01", "V03", "V06")
    found = machines(planned(visits=visits, scanner_changes=0.0)[3])
    assert all(len(each) == 1 for each in found.values())
    for site in "ABDE":
        assert len({frozenset(found[site, visit]) for visit in visits}) == 1
    assert found["C", "V00"] == found["C", "V01"]
    assert found["C", "V03"] == found["C", "V06"] != found["C", "V00"]
    before, after = (SCANNERS[next(iter(found["C", v]))] for v in ("V00", "V03"))
    assert before.manufacturer != after.manufacturer


def test_without_the_upgrade_every_site_keeps_its_machine():
    scans = planned(scanner_changes=0.0, scanner_upgrade=False)[3]
    found = machines(scans)
    assert all(found[site, "V00"] == found[site, "V03"] for site in "ABCDE")
    # The upgrade moves nothing but the machine.
    upgraded = planned(scanner_changes=0.0)[3]
    pd.testing.assert_frame_equal(
        scans.drop(columns="scanner"), upgraded.drop(columns="scanner"), check_exact=True
    )


def test_single_visits_go_to_another_machine_as_often_as_asked():
    scans = planned(subjects=400, visits=("V00",), scanner_changes=0.3)[3]
    usual = scans["site"].map("ABCDE".index) % len(SCANNERS)
    people = scans.assign(away=scans["scanner"] != usual).groupby("subject_id")["away"].first()
    assert people.mean() == pytest.approx(0.3, abs=0.07)


@pytest.mark.skipif(not PRESETS.is_dir(), reason="the presets are not here")
def test_the_nuisance_presets_machine_foretells_the_outcome_and_tells_the_site():
    fields = yaml.safe_load((PRESETS / "nuisance.yaml").read_text(encoding="utf-8"))
    for name in ("visits", "grid_shape", "spacing_mm"):
        fields[name] = tuple(fields[name])
    _, population, outcomes, scans = planned(**(fields | {"subjects": 500}))
    assert (scans.groupby("site")["scanner"].nunique() == 1).all()
    assert (scans.groupby("scanner")["site"].nunique() == 1).all()
    replaced = outcomes.joints["replacement_days"].to_numpy() <= 3652.5
    first = scans[scans["visit"] == "V00"]
    share = pd.Series(replaced[first["joint"]]).groupby(first["scanner"].to_numpy()).mean()
    assert share.is_monotonic_increasing
    assert share.iloc[-1] > share.iloc[0] + 0.1
    config = PhantomConfig(**fields)
    assert np.ptp(site_effect(population, config)) == pytest.approx(np.log(5), abs=0.05)


@pytest.fixture(scope="module")
def late():
    return planned(
        subjects=1000, visits=("V00", "V06"), late_entry=0.6, event_share=0.4, v12_months=120.0
    )


def test_late_people_are_first_scanned_later_and_only_if_still_there(late):
    _, population, outcomes, scans = late
    usual = planned(subjects=1000, visits=("V00", "V06"), event_share=0.4)[3]
    # Who joins late loses early scans and nothing else moves.
    assert set(scans["scan_id"]) < set(usual["scan_id"])
    missing = usual[~usual["scan_id"].isin(scans["scan_id"])]
    assert set(missing["visit"]) == {"V00"}
    everybody = usual.loc[usual["visit"] == "V00", "subject_id"].nunique()
    assert missing["subject_id"].nunique() / everybody == pytest.approx(0.6, abs=0.04)
    assert not set(missing["joint"]) & set(scans.loc[scans["visit"] == "V00", "joint"])
    entry = entry_days(scans, len(population.joints))
    for joint, day in scans.groupby("joint")["days"].min().items():
        assert entry[joint] == day
    assert np.isnan(entry).sum() == len(population.joints) - scans["joint"].nunique()
    replaced = outcomes.joints["replacement_days"].to_numpy()
    assert (replaced[np.isfinite(entry)] > entry[np.isfinite(entry)]).all()


def test_an_estimate_that_knows_of_late_entry_finds_the_true_incidence(late):
    config, population, outcomes, scans = late
    entry = entry_days(scans, len(population.joints))
    fates = outcomes.joints
    kept = np.isfinite(entry) & (fates["observed_lower"].to_numpy() > entry)
    event = (fates["observed_cause"] == "event").to_numpy()[kept]
    dead = (fates["observed_cause"] == "death").to_numpy()[kept]
    days = fates["replacement_days"].where(fates["observed_cause"] == "event").to_numpy()[kept]
    days = np.where(event, days, fates["observed_lower"].to_numpy()[kept])
    started = entry[kept]

    def incidence(started):
        """Aalen and Johansen's estimate at ten years, from the definition."""
        alive, total = 1.0, 0.0
        for day in np.unique(days[(event | dead) & (days <= 3652)]):
            at_risk = ((started < day) & (days >= day)).sum()
            here = days == day
            total += alive * (here & event).sum() / at_risk
            alive *= 1 - (here & (event | dead)).sum() / at_risk
        return total

    eta = fates["log_hazard_ratio"].to_numpy()
    death = death_rate(population).repeat(2)
    present = ~population.joints["replaced_at_baseline"].to_numpy()
    truth = expected_incidence(eta, death, outcomes.scale, config)[present].mean()
    assert incidence(started) == pytest.approx(truth, abs=0.04)
    # Who takes everybody as seen from the beginning counts time in which nobody could be replaced.
    assert incidence(np.full(kept.sum(), -1.0)) < truth - 0.06


def test_late_entry_needs_a_later_visit():
    with pytest.raises(InputError, match=r"late_entry is 0\.3 with visits V00"):
        PhantomConfig(visits=("V00",), late_entry=0.3)
