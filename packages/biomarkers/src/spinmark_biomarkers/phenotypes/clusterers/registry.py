"""Every clusterer by its name."""

from collections.abc import Callable, Mapping

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.clusterers.agglomerative import Agglomerative
from spinmark_biomarkers.phenotypes.clusterers.base import Clusterer
from spinmark_biomarkers.phenotypes.clusterers.density import HDBSCAN
from spinmark_biomarkers.phenotypes.clusterers.dirichlet import DirichletProcess
from spinmark_biomarkers.phenotypes.clusterers.gaussian import GaussianMixture
from spinmark_biomarkers.phenotypes.clusterers.kmeans import KMeans
from spinmark_biomarkers.phenotypes.clusterers.spectral import Spectral
from spinmark_biomarkers.phenotypes.clusterers.student import StudentMixture

Option = int | float | str

METHODS: dict[str, type[Clusterer]] = {
    "kmeans": KMeans,
    "gmm": GaussianMixture,
    "gmm-full": GaussianMixture,
    "gmm-tied": GaussianMixture,
    "gmm-factors": GaussianMixture,
    "tmm": StudentMixture,
    "tmm-full": StudentMixture,
    "tmm-tied": StudentMixture,
    "tmm-factors": StudentMixture,
    "dirichlet": DirichletProcess,
    "hdbscan": HDBSCAN,
    "spectral": Spectral,
    "agglomerative": Agglomerative,
}


def settings_of(method: str) -> dict[str, Option]:
    """Return the settings that a name stands for: `gmm-full` is a mixture with `covariance` full.

    Raises:
        InputError: The method is unknown.
    """
    if method not in METHODS:
        raise InputError(f"method: {method!r}; accepted are {', '.join(METHODS)}")
    kind, _, covariance = method.partition("-")
    return {"covariance": covariance or "diagonal"} if kind in ("gmm", "tmm") else {}


def make_clusterer(
    method: str,
    *,
    k: int | None,
    restarts: int = 10,
    seed: int = 0,
    options: Mapping[str, Option] | None = None,
) -> Clusterer:
    """Return an unfitted clusterer.

    Args:
        method: A name of `METHODS`.
        k: Clusters. Of no consequence for methods that find the number themselves
            (`METHODS[method].chooses_k`).
        restarts: Starts, for methods that have several.
        seed: Seed, for methods with anything random.
        options: Further settings of the class by name.

    Raises:
        InputError: The method or an option is unknown, or `k` is absent where it is needed.
    """
    settings = settings_of(method)
    kind: Callable[..., Clusterer] = METHODS[method]
    known = METHODS[method]().get_params()
    common = {"n_clusters": k, "restarts": restarts, "seed": seed}
    free = [name for name in known if name not in common and name not in settings]
    if "factors" in free and not method.endswith("-factors"):
        free.remove("factors")
    for name in options or {}:
        if name not in free:
            raise InputError(
                f"options: {name!r} with method {method}; accepted are {', '.join(free) or 'none'}"
            )
    if k is None and not METHODS[method].chooses_k:
        raise InputError(f"k: none with method {method}; accepted is a whole number of at least 1")
    given = {name: value for name, value in common.items() if name in known}
    return kind(**given, **settings, **(options or {}))
