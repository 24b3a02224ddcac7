"""The figures draw what they are given, without warnings."""

import io

import numpy as np
import pandas as pd
import pytest

from spinmark_biomarkers.config import DiscoverConfig
from spinmark_biomarkers.embeddings import from_frame
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.embedding_map import embedding_map
from spinmark_biomarkers.figures.phenotypes import artefact_bars, prototype_panel, stability_bars
from spinmark_biomarkers.phenotypes.discover import discover, prototypes


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(80, 4))).add_prefix("f")
    frame["subject_id"] = [f"S{i // 2}" for i in range(80)]
    frame["laterality"] = ["R", "L"] * 40
    ds = from_frame(frame, fitted_subjects=[f"S{i}" for i in range(30)])
    config = DiscoverConfig(k=2, bootstrap=3, splits=1, null_draws=19, permutations=19)
    return ds, discover(ds, config)


def test_every_figure_is_drawn(found):
    ds, phenotypes = found
    chosen = prototypes(ds, phenotypes, per=2)
    volumes = {
        scan: np.random.default_rng(1).random((3, 8, 8)) for c in chosen.values() for scan in c
    }
    panel = prototype_panel(volumes, chosen)
    assert sum(len(axes.images) for axes in panel.axes) == 4
    bars = stability_bars(phenotypes)
    heights = [patch.get_height() for patch in bars.axes[0].patches]
    assert heights == [row["jaccard"] for row in phenotypes.summary()["phenotypes"]]
    flat = embedding_map(ds, phenotypes)
    assert sum(len(c.get_offsets()) for c in flat.axes[0].collections) == 80
    for figure in (
        panel,
        bars,
        flat,
        artefact_bars(phenotypes),
        embedding_map(ds, phenotypes, by="site"),
    ):
        figure.savefig(io.BytesIO(), format="png", dpi=50)
    with pytest.raises(InputError, match="volumes: no"):
        prototype_panel({}, chosen)
