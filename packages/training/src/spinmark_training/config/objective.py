"""The self-supervised objective."""

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class ObjectiveConfig:
    """What the encoder learns from.

    A field left at None takes the objective's own value, which `spinmark_training.objectives.settings`
    lists. A field that the objective does not use is refused, not ignored.

    Args:
        name: Which objective, a key of `spinmark_training.objectives.OBJECTIVES`.
        temperature: Divides the similarities.
        ignore_same_subject: Whether other scans of a subject are left out of the negatives.
        terms: Further losses by name and weight, such as `koleo` or `domain_adversarial`.
        nuisance: The nominal variable that the terms against a nuisance unlearn.
        severity: The variable that the nuisance may go along with: those terms unlearn what goes beyond it.
        labels: Variables of the tables that the objective learns from, or roles that stand for all
            their variables: those that take labels.
        huber_delta: Errors of a number beyond so many of its standard deviations count linearly; `.inf` for
            squared errors.
        endpoint: The endpoint whose times order the scans: `rank_n_contrast_censored`.
        momentum: Share of the slow teacher that is kept at a step, at the start; it grows to 1. None:
            that of the objective's paper in long runs, and `1 - 10 / steps` where that is less.
        queue: Keys of earlier batches that are kept as negatives.
        prototypes: Number of prototypes, or of classes of the head.
        predictor: Hidden width of the predictor.
        teacher_temperature: Divides what the teacher says.
        teacher_temperature_start: The same at the start of the run, from which it goes there evenly.
        teacher_warmup: Share of the run over which it does.
        centre_momentum: Share of the teacher's running mean that is kept at a step.
        epsilon: Softness of the assignment to prototypes.
        freeze_prototypes: Share of the run, at its start, in which the prototypes stay as they are.
        bank_momentum: Share of a joint's slot in the memory bank that is kept when it is seen again.
        consistency: Weight of the loss between the student and its slow teacher.
        contrast: Weight of the contrast of two views beside it.
        contrast_temperature: Divides the similarities of that contrast.
        tau_plus: Assumed share of false negatives.
        beta: How much harder negatives count more.
        sigma: Width of the weights of positives by their agreement.
        hardest: How many of the hardest negatives are mixed.
        mixed: How many negatives are mixed of two hard ones.
        with_query: How many are mixed of a hard one and the query.
        inner: Share of the nearest candidates that are left out.
        outer: Share of the candidates, from the nearest, that are kept.
        margin: Distance by which a negative has to be farther than the positive.
        redundancy: Weight of what two features share.
        invariance: Weight of the distance of partners.
        variance: Weight of the spread of each feature.
        covariance: Weight of what two features share.
        shrinkage: How far the whitening is drawn to the identity.
        bandwidth: Width of the kernel over labels, in their standard deviations.
        window_days: Scans of a joint within so many days of each other are positives.
        top_k: How many of the most similar tables are positives.
        softness: How fast the weight of a positive falls with the similarity of tables.
        local_views: Smaller views of each joint; `data.local_shape` is their grid.
    """

    name: str = "nt_xent"
    temperature: float | None = None
    ignore_same_subject: bool = True
    terms: dict[str, float] = field(default_factory=dict)
    nuisance: str = "SITE"
    severity: str | None = None
    labels: tuple[str, ...] | None = None
    huber_delta: float | None = None
    endpoint: str | None = None
    momentum: float | None = None
    queue: int | None = None
    prototypes: int | None = None
    predictor: int | None = None
    teacher_temperature: float | None = None
    teacher_temperature_start: float | None = None
    teacher_warmup: float | None = None
    centre_momentum: float | None = None
    epsilon: float | None = None
    freeze_prototypes: float | None = None
    bank_momentum: float | None = None
    consistency: float | None = None
    contrast: float | None = None
    contrast_temperature: float | None = None
    tau_plus: float | None = None
    beta: float | None = None
    sigma: float | None = None
    hardest: int | None = None
    mixed: int | None = None
    with_query: int | None = None
    inner: float | None = None
    outer: float | None = None
    margin: float | None = None
    redundancy: float | None = None
    invariance: float | None = None
    variance: float | None = None
    covariance: float | None = None
    shrinkage: float | None = None
    bandwidth: float | None = None
    window_days: float | None = None
    top_k: int | None = None
    softness: float | None = None
    local_views: int | None = None
