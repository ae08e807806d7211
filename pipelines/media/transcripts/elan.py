"""ELAN annotations, read by the package pympi.

pympi knows no bytes, only files; it takes a broken file for an exception of any kind, and of two annotations of one
name the last. XML that defines entities is not handed to it: a few lines of these can grow to gigabytes.
"""

import tempfile
from typing import Any
from xml.parsers import expat

from pympi.Elan import Eaf

from features.reasons import Reason
from pipelines.media.spans import Notice
from pipelines.media.transcripts.tiers import Tier
from pipelines.media.transcripts.transcript import bad, seconds_of

_ROOT = "ANNOTATION_DOCUMENT"


def read_elan(content: bytes) -> tuple[list[Tier], list[Notice]]:
    """The tiers of an ELAN file, and what it says of its media. An annotation that refers to another has the times of
    that one. Raises MediaError BAD_TRANSCRIPT, with the line where it is no well-formed XML."""
    num_annotations = _check_xml(content)
    try:
        with tempfile.NamedTemporaryFile(suffix=".eaf") as file:
            file.write(content)
            file.flush()
            eaf = Eaf(file.name, suppress_version_warning=True)
        tiers = [_tier(eaf, name) for name in eaf.tiers]
    except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
        raise bad(f"ELAN file lacks what every one has, or refers to what it does not hold: {error!r}") from error
    num_found = sum(len(aligned) + len(referring) for aligned, referring, *_ in eaf.tiers.values())
    if num_found != num_annotations:
        raise bad(f"ELAN file holds {num_annotations} annotations, but {num_found} of ids and tiers of their own")
    if eaf.header.get("TIME_UNITS", "milliseconds") != "milliseconds":
        raise bad(f"ELAN file counts time in {eaf.header['TIME_UNITS']!r}: save it in milliseconds")
    return tiers, _offsets(eaf)


def _check_xml(content: bytes) -> int:
    """How many annotations well-formed XML of an ELAN file has. Raises MediaError BAD_TRANSCRIPT for other XML, and
    for a document type, which no ELAN file has and which alone can define entities."""
    names: list[str] = []
    num_annotations = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal num_annotations
        if not names and name != _ROOT:
            raise bad(f"ELAN file is XML of another kind: it begins with <{name}>, not <{_ROOT}>")
        names.append(name)
        num_annotations += name in ("ALIGNABLE_ANNOTATION", "REF_ANNOTATION")

    def refuse(*declared: Any) -> None:
        raise bad("ELAN file declares a document type, which can name entities and other files: remove <!DOCTYPE ...>")

    parser = expat.ParserCreate(namespace_separator=" ")  # as strict as the parser that pympi uses
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter of an encoding that nobody has
        raise bad(f"ELAN file is no well-formed XML, or breaks off: {error}") from error
    return num_annotations


def _tier(eaf: Any, name: str) -> Tier:
    aligned, referring = eaf.tiers[name][:2]
    parents = [one[0] for one in referring.values()]
    if len(set(parents)) < len(parents):
        return Tier(name, (), "divides annotations of another tier without times of its own: give it times in ELAN")
    slots = [_slots(eaf, annotation) for annotation in (*aligned, *referring)]
    if any(eaf.timeslots[slot] is None for pair in slots for slot in pair):
        return Tier(name, (), "has annotations without times of their own: give them times in ELAN")
    where = f"ELAN file, tier {name!r}"
    times = [[seconds_of(eaf.timeslots[slot], where) / 1000 for slot in pair] for pair in slots]
    contents = [*(one[2] for one in aligned.values()), *(one[1] for one in referring.values())]
    return Tier(name, [(start_s, end_s, text) for (start_s, end_s), text in zip(times, contents, strict=True)])


def _slots(eaf: Any, annotation: str) -> tuple[str, str]:
    """The time slots of an annotation, or of that which it refers to in the end. pympi's own walk does not come to an
    end where annotations refer to each other, and takes every tier with a parent for one of references."""
    passed = set()
    while annotation in (referring := eaf.tiers[eaf.annotations[annotation]][1]):
        if annotation in passed:
            raise bad(f"ELAN file: annotation {annotation!r} refers to itself in the end: mend the file in ELAN")
        passed.add(annotation)
        annotation = referring[annotation][0]
    found: tuple[str, str] = eaf.tiers[eaf.annotations[annotation]][0][annotation][:2]
    return found


def _offsets(eaf: Any) -> list[Notice]:
    """A notice where ELAN shows a media file shifted against the others: which of them this recording is, nobody
    tells."""
    shifted = [one for one in eaf.media_descriptors if one.get("TIME_ORIGIN", "0") not in ("", "0")]
    return [
        Notice(
            Reason.SHIFTED,
            f"ELAN plays {one.get('MEDIA_URL', 'a file')!r} {one['TIME_ORIGIN']} ms from the others (TIME_ORIGIN): "
            "times are taken as they stand",
        )
        for one in shifted
    ]
