"""Every loss of the registry stands on a page of its family, with its paper."""

from pathlib import Path

import pytest

from spinmark_models.losses.registry import LOSSES

CONCEPTS = Path(__file__).parents[1] / "docs" / "concepts"
PAGES = {
    "contrastive": ("losses-contrastive",),
    "positives": ("losses-positives",),
    "cross-modal": ("losses-cross-modal",),
    "negative-free": ("losses-without-negatives",),
    "distillation": ("losses-distillation",),
    "nuisance": ("losses-nuisance",),
    "tabular": ("clinical-encoders",),
}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_page_tells_of_the_loss_and_its_paper(name: str) -> None:
    entry = LOSSES[name]
    pages = [(CONCEPTS / f"{p}.md").read_text(encoding="utf-8") for p in PAGES[entry.family]]
    told = [page for page in pages if f"`{name}`" in page]
    assert told, f"{name} is on none of the pages {PAGES[entry.family]}"
    papers = [
        part.strip().removeprefix("after ").removeprefix("arXiv:")
        for part in entry.paper.split(",")
    ]
    for paper in papers:
        assert any(paper in page for page in told), f"{name}: {paper} is not cited on its page"
