"""A linear mixed model of repeated measures with two joints in a person, for irregular visits.

    y = x'beta + (a_p + b_p t) + (a_j + b_j t) + e,    e ~ N(0, noise / scans averaged)

(a_p, b_p) is a person's intercept and slope, (a_j, b_j) a joint's own beyond it, each pair with a
covariance of its own (Laird and Ware 1982). Fitted by REML or maximum likelihood over the factors
of the covariances relative to the noise (Bates et al. 2015), everything else profiled out. A person
enters by cross products that are summed once, and one evaluation factors a small matrix a person.
Missing visits need nothing: what was not measured is not there. They may depend on what was
measured before (missing at random), not on what was not.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from spinmark_biomarkers.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class MixedFit:
    """A fitted mixed model.

    Args:
        beta: Fixed effects, shape (p,).
        beta_covariance: Their covariance, shape (p, p).
        person: Covariance of a person's intercept and slope, shape (2, 2); 0 where not fitted.
        joint: Covariance of a joint's own, shape (2, 2).
        noise: Variance of a single scan.
        log_likelihood: REML or log likelihood, see `reml`.
        reml: Which of the two.
        intercepts: Random intercept of each joint, the person's included, shape (joint,).
        slopes: The same of slopes (best linear unbiased prediction), shape (joint,).
        slope_variance: Variance of each slope's prediction, fixed slope included, shape (joint,).
        reliability: Share of the variance of true random slopes that the prediction holds, (joint,).
        converged: Whether the search ended regularly.
    """

    beta: Floats
    beta_covariance: Floats
    person: Floats
    joint: Floats
    noise: float
    log_likelihood: float
    reml: bool
    intercepts: Floats
    slopes: Floats
    slope_variance: Floats
    reliability: Floats
    converged: bool


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """Cross products of a person, summed over their scans; r = 2 + 2 joints a person."""

    zz: Floats
    zy: Floats
    zx: Floats
    xx: Floats
    xy: Floats
    yy: float
    n: int


def _design_z(years: Floats, slot: Ints, slots: int) -> Floats:
    z = np.zeros((len(years), 2 + 2 * slots))
    z[:, 0], z[:, 1] = 1.0, years
    rows = np.arange(len(years))
    z[rows, 2 + 2 * slot], z[rows, 3 + 2 * slot] = 1.0, years
    return z


def _sum(
    y: Floats, x: Floats, z: Floats, weight: Floats, person: Ints, scatter: float, replicates: int
) -> _Sums:
    people = int(person.max()) + 1
    # Rows of a person lie together: sums are differences of places in one array.
    order = np.argsort(person, kind="stable")
    starts = np.searchsorted(person[order], np.arange(people))
    wz = (z * weight[:, None])[order]
    zs, ys, xs = z[order], y[order], x[order]
    return _Sums(
        zz=np.add.reduceat(wz[:, :, None] * zs[:, None, :], starts),
        zy=np.add.reduceat(wz * ys[:, None], starts),
        zx=np.add.reduceat(wz[:, :, None] * xs[:, None, :], starts),
        xx=(x * weight[:, None]).T @ x,
        xy=(x * weight[:, None]).T @ y,
        yy=float((weight * y * y).sum()) + scatter,
        n=len(y) + replicates,
    )


def _factor(theta: Floats, slots: int) -> Floats:
    """Relative Cholesky factor of all random effects of a person, shape (r, r).

    Args:
        theta: Three numbers a level (intercept, slope, below the diagonal): the person's where there
            are six, then the joint's.
        slots: Joints a person, at most.
    """
    roots = [np.array([[a, 0.0], [c, b]]) for a, b, c in theta.reshape(-1, 3)]
    factor = np.zeros((2 + 2 * slots, 2 + 2 * slots))
    if len(roots) > 1:
        factor[:2, :2] = roots[0]
    for slot in range(slots):
        factor[2 + 2 * slot : 4 + 2 * slot, 2 + 2 * slot : 4 + 2 * slot] = roots[-1]
    return factor


@dataclass(frozen=True, kw_only=True)
class _Solved:
    cost: float
    beta: Floats
    precision: Floats
    noise: float
    inner: Floats


def _solve(sums: _Sums, factor: Floats, reml: bool) -> _Solved:
    """Profile fixed effects and noise out; `cost` is minus twice the log likelihood."""
    inner = factor.T @ sums.zz @ factor + np.eye(len(factor))
    root = np.linalg.cholesky(inner)
    right = np.concatenate([sums.zy[:, :, None], sums.zx], axis=2)
    half = np.linalg.solve(root, factor.T @ right)
    cross = np.einsum("sra,srb->ab", half, half)
    precision = sums.xx - cross[1:, 1:]
    score = sums.xy - cross[1:, 0]
    beta = np.linalg.solve(precision, score)
    rest = sums.yy - cross[0, 0] - float(beta @ score)
    freedom = sums.n - (len(beta) if reml else 0)
    noise = max(rest / freedom, 1e-300)
    # The weights' own determinant cancels with what scans add to the density of their average.
    log_det = 2 * float(np.log(np.diagonal(root, axis1=1, axis2=2)).sum())
    cost = float(freedom * (np.log(2 * np.pi * noise) + 1)) + log_det
    if reml:
        cost += float(np.linalg.slogdet(precision)[1])
    return _Solved(cost=cost, beta=beta, precision=precision, noise=noise, inner=inner)


def fit_mixed(
    y: Floats,
    years: Floats,
    joint: Ints,
    person: Ints,
    *,
    x: Floats | None = None,
    slope_x: Floats | None = None,
    scans: Ints | None = None,
    scatter: float = 0.0,
    with_person: bool = True,
    correlated: bool = True,
    reml: bool = True,
) -> MixedFit:
    """Fit the model.

    Args:
        y: Scores, a row a joint and visit, shape (n,).
        years: Time of each row, shape (n,).
        joint: Joint codes from 0 without gaps, shape (n,).
        person: Subject codes from 0 without gaps, shape (n,); a joint has one.
        x: Fixed effects, shape (n, p); by default a constant and years.
        slope_x: Change of each joint's x in a year, shape (joint, p); by default (0, 1).
        scans: Scans averaged in each row, shape (n,); by default 1.
        scatter: Sum of squares of scans about these averages.
        with_person: Whether a person has effects beyond those of the joints.
        correlated: Whether a joint's own intercept and slope covary. Time is scaled but not shifted
            where they do not, since the model then depends on where time begins.
        reml: REML; maximum likelihood otherwise.

    Raises:
        InputError: Codes with gaps, a joint of two people, or fixed effects that are not independent.
    """
    weight = np.ones(len(y)) if scans is None else np.asarray(scans, dtype=np.float64)
    owner = np.zeros(int(joint.max()) + 1, dtype=np.int64)
    owner[joint] = person
    if (owner[joint] != person).any() or len(np.unique(joint)) != len(owner):
        raise InputError("joint: of two people, or codes with gaps; accepted is one person a joint")
    if len(np.unique(person)) != int(person.max()) + 1:
        raise InputError("person: codes with gaps; accepted are 0 to the number of people less 1")
    if x is None:
        x = np.column_stack([np.ones(len(y)), years])
    if slope_x is None:
        slope_x = np.tile([0.0, 1.0], (len(owner), 1))
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise InputError(
            f"covariates: {x.shape[1]} fixed effects of rank {np.linalg.matrix_rank(x)}; "
            "accepted are independent ones"
        )
    order = np.argsort(owner, kind="stable")
    slot = np.empty(len(owner), dtype=np.int64)
    slot[order] = np.arange(len(owner)) - np.searchsorted(owner[order], owner[order])
    slots = int(slot.max()) + 1
    # Time about its mean in units of its spread, and scores in units of theirs, for the search alone.
    shift = float(years.mean()) if correlated else 0.0
    stretch = float(years.std()) or 1.0
    level, scale = float(y.mean()), float(y.std()) or 1.0
    time = (years - shift) / stretch
    replicates = int((weight - 1).sum())
    z = _design_z(time, slot[joint], slots)
    # The constant takes the shift of y up again below; without one in x, y stays where it is.
    has_constant = np.linalg.matrix_rank(np.column_stack([x, np.ones(len(y))])) == x.shape[1]
    centre = level if has_constant else 0.0
    sums = _sum((y - centre) / scale, x, z, weight, person, scatter / scale**2, replicates)
    levels = 1 + int(with_person)
    below = (None, None) if correlated else (0.0, 0.0)
    bounds = [(0.0, None), (0.0, None), below]
    if with_person:
        # The other knee tells how a person's level and slope go together, whatever the noise.
        bounds = [(0.0, None), (0.0, None), (None, None), *bounds]

    def cost(theta: Floats) -> float:
        return _solve(sums, _factor(theta, slots), reml).cost / sums.n

    best = minimize(
        cost,
        np.array([0.7, 0.4, 0.0] * levels),
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-7},
    )
    factor = _factor(best.x, slots)
    done = _solve(sums, factor, reml)
    noise = done.noise * scale**2
    # Back to years and to the units of y.
    back = np.array([[1.0, -shift / stretch], [0.0, 1 / stretch]])
    whole = factor @ factor.T
    person_cov = back @ whole[:2, :2] @ back.T * noise
    joint_cov = back @ whole[2:4, 2:4] @ back.T * noise
    beta = done.beta * scale
    beta_covariance = np.asarray(np.linalg.inv(done.precision) * noise, dtype=np.float64)
    if centre:
        beta = beta + centre * np.linalg.lstsq(x, np.ones(len(y)), rcond=None)[0]
    solved = np.linalg.inv(done.inner)
    gain = factor @ solved @ factor.T
    residual = sums.zy - sums.zx @ done.beta
    effects = np.einsum("srq,sq->sr", gain, residual) * scale
    rows = np.arange(len(owner))
    pick = np.zeros((len(owner), 2 + 2 * slots))
    pick[:, 1] = pick[rows, 3 + 2 * slot] = 1 / stretch
    pick_level = np.zeros_like(pick)
    pick_level[:, 0] = pick_level[rows, 2 + 2 * slot] = 1.0
    mine = effects[owner]
    random_slope = (pick * mine).sum(axis=1)
    weighted = np.einsum("jr,jrq->jq", pick, gain[owner])
    given_beta = (weighted * pick).sum(axis=1) * noise
    lever = slope_x - np.einsum("jq,jqp->jp", weighted, sums.zx[owner])
    variance = given_beta + np.einsum("jp,pq,jq->j", lever, beta_covariance, lever)
    prior = float(person_cov[1, 1] + joint_cov[1, 1])
    reliability = 1 - given_beta / prior if prior > 0 else np.zeros(len(owner))
    log_scale = (sums.n - (len(beta) if reml else 0)) * float(np.log(scale))
    return MixedFit(
        beta=beta,
        beta_covariance=beta_covariance,
        person=person_cov,
        joint=joint_cov,
        noise=noise,
        log_likelihood=-0.5 * done.cost - log_scale,
        reml=reml,
        intercepts=(pick_level * mine).sum(axis=1) - shift * random_slope,
        slopes=slope_x @ beta + random_slope,
        slope_variance=np.asarray(variance),
        reliability=np.clip(reliability, 0.0, 1.0),
        converged=bool(best.success),
    )
