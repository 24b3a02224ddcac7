"""What of a header's free text may enter a cohort: known words only.

Scanners and sequences are told by text that anyone can type, so a name may stand in it. A vendor is
taken from a list, a model by the pattern of known ones, and a sequence by words of protocols; whatever
does not match is left out, and the sequence is named by its technical tags instead.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

_VENDORS = {
    "SIEMENS": "SIEMENS",
    "GE": "GE",
    "GENERAL ELECTRIC": "GE",
    "GEMS": "GE",
    "PHILIPS": "PHILIPS",
    "CANON": "CANON",
    "TOSHIBA": "TOSHIBA",
    "UIH": "UIH",
    "UNITED IMAGING": "UIH",
    "HITACHI": "HITACHI",
    "FUJIFILM": "FUJIFILM",
    "ESAOTE": "ESAOTE",
    "BRUKER": "BRUKER",
    "HYPERFINE": "HYPERFINE",
    "PARAMED": "PARAMED",
    "ONI": "ONI",
    "MINDRAY": "MINDRAY",
    "NEUSOFT": "NEUSOFT",
    "ALLTECH": "ALLTECH",
    "TIME MEDICAL": "TIME MEDICAL",
    "SAMSUNG": "SAMSUNG",
}
VENDORS = frozenset(_VENDORS.values())
"""All that `vendor_of` can give."""
# Families of MR and CT scanners, and the words and codes that stand beside them.
_FAMILIES = frozenset(
    re.findall(
        r"\S+",
        """
        MAGNETOM SOMATOM BIOGRAPH SIGNA DISCOVERY OPTIMA REVOLUTION LIGHTSPEED BRIGHTSPEED BRIVO GENESIS
        INGENIA ACHIEVA INTERA GYROSCAN PANORAMA AMBITION ELITION BRILLIANCE INGENUITY ICT IQON SPECTRAL
        VANTAGE EXCELART AQUILION ACTIVION UMR UCT ECHELON OASIS AIRIS APERTO SCENARIA TRIO TRIOTIM SKYRA
        VERIO PRISMA VIDA AERA AVANTO ESPREE SYMPHONY SYMPHONYTIM SONATA ALLEGRA LUMINA SOLA ALTEA AMIRA
        SEMPRA TERRA CIMA HARMONY ESSENZA CONCERTO ARTOSCAN SWOOP BIOSPEC PHARMASCAN SENSATION EMOTION
        """,
    )
)
_CODES = frozenset(
    re.findall(
        r"\S+",
        """
        EXCITE HDX HDXT HDE HD TIM DOT FIT PRO PLUS PREMIER ARCHITECT ARTIST PIONEER VOYAGER EXPLORER HERO
        VICTOR TITAN ORIAN GALAN CENTURIAN ELAN CX DX NOVA DUAL DEFINITION FORCE DRIVE EDGE FLASH AS GO
        PRIME ONE LIGHTNING EVOLUTION APEX ULTRA BIG BORE CT MR PET XR X S R
        """,
    )
)
_NUMBERED = re.compile(r"(?:MR|CT|X|XR)?\d{1,4}(?:\.\d{1,2})?(?:T|W|X|S)?")
_LONGEST_MODEL = 40

# Words that protocols are named by.
_WORDS = frozenset(
    re.findall(
        r"\S+",
        """
        2D 3D SAG SAGITTAL COR CORONAL AX AXIAL TRA TRANS TRANSVERSE OBL OBLIQUE RAD RADIAL LAT LONG
        T1 T2 T2S T2STAR T1RHO PD PDW T1W T2W IW DESS FLASH MAP MAPS CALC MPR MP LOC LOCATOR LOCALIZER
        LOCALISER SCOUT TSE FSE SE GRE GE ME MESE MULTI ECHO SPIN GRADIENT RECALLED FS FATSAT FAT SAT NOFS
        SPAIR SPIR STIR TIRM IR FLAIR DIXON IDEAL MEDIC MERGE VIBE SPACE CUBE VISTA SPGR SPOILED TRUFISP
        FISP FIESTA BSSFP SSFP CINE SAX LAX 2CH 3CH 4CH SHORT AXIS STACK MOLLI SHMOLLI LGE PSIR PC FLOW UTE
        ZTE PETRA WE WATS WATER EXC DCE DWI ADC PERF POST PRE GD CONTRAST KNEE KNEES HIP ANKLE HEART
        CARDIAC CHEST LUNG LUNGS THORAX THIGH PRESCRIPTION PRESCRITION HAND PELVIS SPINE ISO HIGH LOW RES
        HR FAST CT HRCT NATIVE REFORMAT MIP RIGHT LEFT R L BH FB MR IMAGE WITHOUT WITH NO AND W WO
        """,
    )
)
_VALUE = re.compile(
    r"\d{1,3}(?:[.P]\d{1,2})?(?:MM|MS|T|CM|PH)?|[A-Z]?\d{1,2}[A-Z]?|TE\d{1,3}|TR\d{1,4}"
)
_SIDE = re.compile(r"(?:^|[\s_^-])(LEFT|RIGHT)\s*$", re.IGNORECASE)
_TECHNIQUE = re.compile(r"(?:SE|GR|IR|EP|RM)")
_PLANES = {0: "SAG", 1: "COR", 2: "AX"}


def vendor_of(manufacturer: str) -> str:
    """The vendor that a Manufacturer names, from a list; empty if it is none of them.

    >>> vendor_of("GE MEDICAL SYSTEMS"), vendor_of("Philips Healthcare"), vendor_of("Jane Roe")
    ('GE', 'PHILIPS', '')
    """
    words = " ".join(re.findall(r"[A-Z]+", manufacturer.upper()))
    for name, vendor in _VENDORS.items():
        if words == name or words.startswith(name + " "):
            return vendor
    return ""


def model_of(model: str) -> str:
    """The model as it stands if it looks like one of a known family; else empty.

    >>> model_of("MAGNETOM Skyra fit"), model_of("DISCOVERY MR750"), model_of("Roe's scanner")
    ('MAGNETOM Skyra fit', 'DISCOVERY MR750', '')
    """
    text = " ".join(model.split())
    parts = [part for part in re.split(r"[ _\-/]+", text.upper()) if part]
    # A family may have its number attached, as in Brilliance16.
    families = [part.rstrip("0123456789") in _FAMILIES for part in parts]
    fits = [
        family or part in _CODES or bool(_NUMBERED.fullmatch(part))
        for part, family in zip(parts, families, strict=True)
    ]
    return text if len(text) <= _LONGEST_MODEL and any(families) and all(fits) else ""


def scanner_of(header: Mapping[str, Any]) -> str:
    """A scanner's vendor, model and a short hash of its serial number, each where it is known.

    Args:
        header: Of an image.
    """
    vendor = vendor_of(str(header.get("Manufacturer") or ""))
    model = model_of(str(header.get("ManufacturerModelName") or ""))
    serial = str(header.get("DeviceSerialNumber") or "")
    tail = hashlib.sha256(f"spinmark:{serial}".encode()).hexdigest()[:6] if serial else ""
    return " ".join(part for part in (vendor, model, tail) if part)


def plane_of(orientation: Any) -> str:
    """`SAG`, `COR` or `AX` from six direction cosines; empty if they are not given."""
    if orientation is None or len(orientation) != 6:
        return ""
    a, b, c, d, e, f = (float(x) for x in orientation)
    normal = [abs(b * f - c * e), abs(c * d - a * f), abs(a * e - b * d)]
    return _PLANES[normal.index(max(normal))]


def protocol_words(description: str) -> str:
    """A series description as a name, its side taken off, if all its words are known; else empty.

    >>> protocol_words("SAG_3D_DESS_LEFT "), protocol_words("Sag T2 map Jane")
    ('SAG_3D_DESS', '')
    """
    text = _SIDE.sub("", description.strip()).upper()
    parts = [part for part in re.split(r"[^A-Z0-9.]+", text) if part]
    if not any(part in _WORDS for part in parts):
        return ""
    if not all(part in _WORDS or _VALUE.fullmatch(part) for part in parts):
        return ""
    return re.sub(r"[^A-Z0-9]+", "_", "_".join(parts)).strip("_")


def technical_name(header: Mapping[str, Any]) -> str:
    """A sequence's name from tags that hold codes: plane, 2D or 3D, technique, modality.

    >>> technical_name({"Modality": "MR", "MRAcquisitionType": "3D", "ScanningSequence": ("GR",)})
    '3D_GR_MR'
    """
    kind = str(header.get("MRAcquisitionType") or "").upper()
    techniques = header.get("ScanningSequence") or ()
    techniques = [techniques] if isinstance(techniques, str) else list(techniques)
    modality = str(header.get("Modality") or "").upper()
    parts = [
        plane_of(header.get("ImageOrientationPatient")),
        kind if kind in ("2D", "3D") else "",
        *(part for part in techniques if _TECHNIQUE.fullmatch(str(part))),
        modality if modality in ("MR", "CT", "PT") else "",
    ]
    return "_".join(part for part in parts if part) or "IMAGE"


def safe_sequence(header: Mapping[str, Any]) -> str:
    """A sequence's name: by its description if that is made of known words, else by technical tags.

    Args:
        header: Of an image.
    """
    return protocol_words(str(header.get("SeriesDescription") or "")) or technical_name(header)
