"""Definitions of endpoints as dataclasses; light, so that a command's help stays quick."""

from dataclasses import dataclass

from spinmark_data.errors import InputError

CONFIRM = ("none", "next", "later")
REPLACEMENT = ("censored", "event", "competing")
COMPARTMENTS = ("medial", "lateral", "either")


def _accepted(name: str, value: object, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise InputError(f"{name}={value!r}; accepted are {list(accepted)}.")


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{name}={value:g}: a number above 0 is needed.")


@dataclass(kw_only=True)
class EndpointConfig:
    """What all endpoints have in common.

    Args:
        weight: The variable of a subject or joint that holds sampling weights; 1 by default.
    """

    weight: str = ""


@dataclass(kw_only=True)
class ReplacementConfig(EndpointConfig):
    """The joint was replaced, as the cohort's `outcomes` have it.

    Total and partial replacements count; death competes. Replacement is also a decision of patient and
    surgeon, not a state of the joint alone.

    Args:
        source: Which of the cohort's outcomes.
    """

    source: str = "replacement"


@dataclass(kw_only=True)
class ReadConfig(EndpointConfig):
    """What endpoints that are read at visits have in common.

    Args:
        baseline: The visit from which change is counted, and at which a joint enters.
        visits: The visits whose readings count; all later ones by default.
        confirm: `none`: the first reading that meets the endpoint counts. `next`: only if the next
            reading meets it too. `later`: only if any later reading does. A reading that cannot be
            confirmed, as none follows, is taken as unknown.
        replacement: What a replacement does that comes before the endpoint was seen. `censored`:
            follow-up ends at the last reading. `event`: it counts as the endpoint. `competing`: it
            stands as the cause `replacement`, for models that know more than one competing event.
        max_gap_days: A death (or a replacement that counts) later than this after the last reading is
            left aside and the joint censored at the reading: the endpoint may have come first, unseen.
            Two years by default, the longest time between radiographs in the OAI. So is one after the
            last visit at which the endpoint was read.
    """

    baseline: str = "V00"
    visits: tuple[str, ...] = ()
    confirm: str = "none"
    replacement: str = "censored"
    max_gap_days: float = 730.5

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: Another value than those accepted.
        """
        _accepted("confirm", self.confirm, CONFIRM)
        _accepted("replacement", self.replacement, REPLACEMENT)
        _positive("max_gap_days", self.max_gap_days)
        self.visits = tuple(self.visits)


@dataclass(kw_only=True)
class IncidenceConfig(ReadConfig):
    """Radiographic osteoarthritis comes: Kellgren-Lawrence grade 0 or 1 becomes 2 or more.

    Grades: Kellgren and Lawrence, Ann Rheum Dis 1957; 16:494-502.

    Args:
        variable: The grade.
        at_risk_max: The highest grade at baseline of a joint at risk.
        threshold: The lowest grade that counts.
    """

    variable: str = "XRKL"
    at_risk_max: float = 1.0
    threshold: float = 2.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: As for `ReadConfig`, or a threshold at or below `at_risk_max`.
        """
        super().__post_init__()
        if self.threshold <= self.at_risk_max:
            raise InputError(
                f"threshold={self.threshold:g} is not above at_risk_max={self.at_risk_max:g}."
            )


@dataclass(kw_only=True)
class KLProgressionConfig(ReadConfig):
    """The Kellgren-Lawrence grade rises.

    A doubtful grade 1 after 0 does not count, as in Tiulpin et al., Sci Rep 2019; 9:20038,
    doi:10.1038/s41598-019-56527-3.

    Args:
        variable: The grade.
        count_doubtful: Count a rise from 0 to 1.
        min_baseline: The lowest grade at baseline; 2 for the progression of manifest disease.
        max_baseline: The highest; a joint of grade 4 cannot rise.
    """

    variable: str = "XRKL"
    count_doubtful: bool = False
    min_baseline: float = 0.0
    max_baseline: float = 3.0


@dataclass(kw_only=True)
class JSNConfig(ReadConfig):
    """The joint space narrows by OARSI grade (0 to 3).

    Grades: Altman and Gold, Osteoarthritis Cartilage 2007; 15 Suppl A:A1-56. Readers of the OAI add
    decimals at follow-up where a joint worsened within its grade (1.2 after 1).

    Args:
        compartment: `medial`, `lateral` or `either`.
        medial: The medial grade.
        lateral: The lateral grade.
        within_grade: Count worsening within a grade; otherwise a whole grade is needed.
    """

    compartment: str = "medial"
    medial: str = "XRJSM"
    lateral: str = "XRJSL"
    within_grade: bool = True

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: As for `ReadConfig`, or another compartment.
        """
        super().__post_init__()
        _accepted("compartment", self.compartment, COMPARTMENTS)


@dataclass(kw_only=True)
class JSWConfig(ReadConfig):
    """The narrowest medial joint space loses width.

    A loss of 0.7 mm is that of the FNIH OA Biomarkers Consortium: Hunter et al., Arthritis Care Res
    2022; 74:1142-1153, doi:10.1002/acr.24557.

    Args:
        variable: The width in mm.
        loss_mm: The loss that counts.
    """

    variable: str = "MCMJSW"
    loss_mm: float = 0.7

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: As for `ReadConfig`, or a loss of 0 or less.
        """
        super().__post_init__()
        _positive("loss_mm", self.loss_mm)


@dataclass(kw_only=True)
class SymptomConfig(ReadConfig):
    """A symptom score worsens by a clinically important difference.

    Scores are taken to 0 to 100 first. WOMAC pain by 9: Ehrich et al., J Rheumatol 2000; 27:2635-2641
    (pain 9.7 mm of 100, all subscales 9 to 12), and the FNIH consortium's choice.

    Args:
        variable: The score.
        scale_max: Its highest value; the lowest is 0.
        higher_is_worse: Whether high scores are bad, as in WOMAC and unlike KOOS.
        change: The worsening that counts, of 100.
    """

    variable: str = "WOMKP"
    scale_max: float = 20.0
    higher_is_worse: bool = True
    change: float = 9.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: As for `ReadConfig`, or a number of 0 or less.
        """
        super().__post_init__()
        _positive("scale_max", self.scale_max)
        _positive("change", self.change)


@dataclass(kw_only=True)
class KoosPainConfig(SymptomConfig):
    """KOOS pain worsens by 10 of 100 (100 is best).

    8 to 10 points are taken as important: Roos and Lohmander, Health Qual Life Outcomes 2003; 1:64,
    doi:10.1186/1477-7525-1-64.
    """

    variable: str = "KOOSKP"
    scale_max: float = 100.0
    higher_is_worse: bool = False
    change: float = 10.0


@dataclass(kw_only=True)
class FNIHConfig(ReadConfig):
    """Structure and pain both progress, after the FNIH OA Biomarkers Consortium.

    Loss of medial joint space width of 0.7 mm at 24 to 48 months, and WOMAC pain up by 9 of 100,
    sustained; the endpoint is met when both are. Knees of grade 1 to 3 that had neither at 12 months.
    Hunter et al., Arthritis Care Res 2022; 74:1142-1153, doi:10.1002/acr.24557; Roemer et al., BMC
    Musculoskelet Disord 2016; 17:466, doi:10.1186/s12891-016-1310-6; Eckstein et al., Arthritis
    Rheumatol 2015 and Collins et al., Arthritis Rheumatol 2016 on the same sample. The consortium drew
    cases and controls; give its sampling weights as `weight`, or estimate no absolute risk.

    Args:
        width: Narrowest medial width in mm.
        loss_mm: The loss that counts.
        pain: The pain score.
        pain_max: Its highest value.
        pain_change: The worsening that counts, of 100.
        grade: The Kellgren-Lawrence grade.
        min_grade: The lowest at baseline.
        max_grade: The highest at baseline.
        min_width_mm: The narrowest joint space at baseline.
        pain_visits: The visits at which pain counts; one more than for the width, so that pain at 48
            months can be confirmed.
        early_visit: Joints that had met either part here are not eligible, and those looked at enter
            on this day; `""` to skip.
        confirm: As for all; it is asked of the pain.
    """

    visits: tuple[str, ...] = ("V03", "V05", "V06")
    confirm: str = "later"
    width: str = "MCMJSW"
    loss_mm: float = 0.7
    pain: str = "WOMKP"
    pain_max: float = 20.0
    pain_change: float = 9.0
    grade: str = "XRKL"
    min_grade: float = 1.0
    max_grade: float = 3.0
    min_width_mm: float = 1.0
    pain_visits: tuple[str, ...] = ("V03", "V05", "V06", "V07")
    early_visit: str = "V01"

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: As for `ReadConfig`, or a number of 0 or less.
        """
        super().__post_init__()
        self.pain_visits = tuple(self.pain_visits)
        for name in ("loss_mm", "pain_max", "pain_change"):
            _positive(name, getattr(self, name))
