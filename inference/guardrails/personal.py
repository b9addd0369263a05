"""Personal data: e-mail addresses, bank cards and accounts, telephone numbers, numbers of identity."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module

from phonenumbers import SUPPORTED_REGIONS, PhoneMetadata
from stdnum import iban

from inference.guardrails.detecting import Detector, held_by

_DIGITS = tuple(string.digits)
_ALNUM = string.ascii_letters + string.digits
_LOCAL = _ALNUM + ".!#$%&'*+/=?^_`{|}~-"
_DOMAIN = _ALNUM + ".-"
_MAX_LOCAL, _MAX_DOMAIN = 64, 254
_DOMAIN_RUN = re.compile(rf"[A-Za-z0-9.-]{{3,{_MAX_DOMAIN}}}")
_TOP = re.compile(r"[A-Za-z0-9-]+\.[A-Za-z]{2,}")
_GROUP = re.compile(r"[0-9]+")
_MANY_DIGITS = re.compile(r"[0-9](?:[ -]?[0-9]){12}")
_CARD_BEGINS = frozenset("23456")
_CARD_DIGITS = range(13, 20)
_LONGEST_CARD = 37
_DOUBLED = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]


def emails(text: str) -> Iterator[tuple[int, int]]:
    """Each ``@`` with what an address may have before it and behind it."""
    at = text.find("@")
    while at >= 0:
        before = text[max(0, at - _MAX_LOCAL) : at]
        start = at - (len(before) - len(before.rstrip(_LOCAL)))
        run = _DOMAIN_RUN.match(text, at + 1)
        if run is not None and start < at:
            domain = run[0].rstrip(".-")
            if _TOP.search(domain) is not None or len(run[0]) == _MAX_DOMAIN:
                yield start, at + 1 + len(domain)
        at = text.find("@", at + 1)


def cards(text: str) -> Iterator[tuple[int, int]]:
    """Groups of digits, a space or hyphen between them, that are the number of a bank card by Luhn."""
    if _MANY_DIGITS.search(text) is None:
        return
    groups = [found.span() for found in _GROUP.finditer(text)]
    for number, (start, _) in enumerate(groups):
        if text[start] in _CARD_BEGINS and not text[start - 1 : start].isalnum():
            yield from _cards_from(text, groups, number)


def _cards_from(text: str, groups: Sequence[tuple[int, int]], number: int) -> Iterator[tuple[int, int]]:
    start, (as_they_are, doubled), count, last = groups[number][0], (0, 0), 0, -1
    for at in range(number, len(groups)):
        first, end = groups[at]
        if count + end - first > _CARD_DIGITS[-1] or (last >= 0 and text[last:first] not in (" ", "-")):
            return
        for digit in map(int, text[first:end]):
            as_they_are, doubled = doubled + digit, as_they_are + _DOUBLED[digit]
        count, last = count + end - first, end
        if count in _CARD_DIGITS and not as_they_are % 10 and not text[end : end + 1].isalnum():
            yield start, end


_PHONE_DIGITS = range(7, 16)
_LONGEST_PHONE = 40
_GAPS = frozenset((" ", "-", ".", "/", "(", ")", " (", ") ", ")-", " - "))
"""What may stand between two groups of digits."""
_PHONE_CHARACTERS = string.digits + "+-(). /"
_TYPES = (
    "fixed_line",
    "mobile",
    "toll_free",
    "premium_rate",
    "shared_cost",
    "personal_number",
    "voip",
    "uan",
)


def phones(text: str, countries: Sequence[str] = ()) -> Iterator[tuple[int, int]]:
    """Numbers that a ``+`` begins and, of these countries, also as they are written at home."""
    if not countries and "+" not in text:
        return
    groups = [found.span() for found in _GROUP.finditer(text)]
    for number, (start, _) in enumerate(groups):
        before = text[start - 1 : start]
        if before == "+":
            end = _phone_from(text, groups, number, _is_international)
            if end:
                yield start - 1, end
        elif countries and not before.isalnum():
            for country in countries:
                end = _phone_from(text, groups, number, partial(_is_national, country))
                if end:
                    yield start, end


def _phone_from(
    text: str, groups: Sequence[tuple[int, int]], number: int, valid: Callable[[str], bool]
) -> int:
    """Where the longest number that begins with this group ends; 0 where there is none."""
    digits, last, found = "", -1, 0
    for at in range(number, len(groups)):
        first, end = groups[at]
        if last >= 0 and text[last:first] not in _GAPS:
            break
        digits, last = digits + text[first:end], end
        if len(digits) > _PHONE_DIGITS[-1] or end - groups[number][0] >= _LONGEST_PHONE:
            break
        if len(digits) in _PHONE_DIGITS and not text[end : end + 1].isalnum() and valid(digits):
            found = end
    return found


@cache
def _national(region: str) -> tuple[re.Pattern[str], str]:
    """What numbers of a country are like without the prefix of calls within it, and that prefix."""
    known = PhoneMetadata.metadata_for_region(region)
    assert known is not None
    kinds = [getattr(known, kind) for kind in _TYPES]
    patterns = {one.national_number_pattern for one in kinds if one and one.national_number_pattern}
    return re.compile(
        "|".join(f"(?:{one})" for one in sorted(patterns)) or "(?!)"
    ), known.national_prefix or ""


@cache
def _by_code() -> Mapping[str, list[str]]:
    """Country code -> the regions that have it."""
    found: dict[str, list[str]] = {}
    for region in sorted(SUPPORTED_REGIONS):
        known = PhoneMetadata.metadata_for_region(region)
        if known is not None:
            found.setdefault(str(known.country_code), []).append(region)
    return found


def _is_international(digits: str) -> bool:
    for length in (1, 2, 3):
        for region in _by_code().get(digits[:length], ()):
            if _national(region)[0].fullmatch(digits, length):
                return True
    return False


def _is_national(region: str, digits: str) -> bool:
    pattern, prefix = _national(region)
    if pattern.fullmatch(digits):
        return True
    return bool(prefix) and digits.startswith(prefix) and pattern.fullmatch(digits, len(prefix)) is not None


@dataclass(frozen=True)
class Identity:
    """A number of identity: what it is like, and the module of ``stdnum`` that checks it."""

    pattern: str
    module: str


IDENTITIES: Mapping[str, Identity] = {
    "BE": Identity(r"\d\d\.?\d\d\.?\d\d-?\d{3}\.?\d\d", "be.nn"),
    "BR": Identity(r"\d{3}\.?\d{3}\.?\d{3}-?\d\d", "br.cpf"),
    "CA": Identity(r"\d{3}[ -]?\d{3}[ -]?\d{3}", "ca.sin"),
    "CH": Identity(r"756\.?\d{4}\.?\d{4}\.?\d\d", "ch.ssn"),
    "CL": Identity(r"\d{1,2}\.?\d{3}\.?\d{3}-?[\dKk]", "cl.rut"),
    "CN": Identity(r"\d{17}[\dXx]", "cn.ric"),
    "DE": Identity(r"\d\d ?\d{3} ?\d{3} ?\d{3}", "de.idnr"),
    "ES": Identity(r"(?:\d{8}|[XYZxyz]\d{7})-?[A-Za-z]", "es.nif"),
    "FI": Identity(r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Ya-y]", "fi.hetu"),
    "FR": Identity(r"[12] ?\d\d ?\d\d ?\d[\dABab] ?\d{3} ?\d{3} ?\d\d", "fr.nir"),
    "GB": Identity(r"\d{3}[ -]?\d{3}[ -]?\d{4}", "gb.nhs"),
    "IN": Identity(r"\d{4}[ -]?\d{4}[ -]?\d{4}", "in_.aadhaar"),
    "IT": Identity(r"[A-Za-z]{6}\d\d[A-Za-z]\d\d[A-Za-z]\d{3}[A-Za-z]", "it.codicefiscale"),
    "KR": Identity(r"\d{6}-?\d{7}", "kr.rrn"),
    "MX": Identity(r"[A-Za-z]{4}\d{6}[A-Za-z]{6}[0-9A-Za-z]\d", "mx.curp"),
    "NL": Identity(r"\d{3}[. ]?\d{3}[. ]?\d{3}", "nl.bsn"),
    "PL": Identity(r"\d{11}", "pl.pesel"),
    "RO": Identity(r"\d{13}", "ro.cnp"),
    "SE": Identity(r"(?:\d\d)?\d{6}[-+]\d{4}", "se.personnummer"),
    "TR": Identity(r"\d{11}", "tr.tckimlik"),
    "US": Identity(r"\d{3}-\d\d-\d{4}", "us.ssn"),
    "ZA": Identity(r"\d{13}", "za.idnr"),
}
"""By country."""
REGIONS = frozenset(SUPPORTED_REGIONS)
"""Countries whose telephone numbers are known."""
STRONG = ("CH", "CN", "ES", "FI", "FR", "IN", "IT", "KR", "MX", "SE", "US", "ZA")
"""Those whose numbers are seldom other things; looked for where a policy names no countries."""
_LONGEST_IDENTITY = 24


@cache
def _identity(country: str) -> tuple[re.Pattern[str], Callable[[str], bool]]:
    known = IDENTITIES[country]
    pattern = re.compile(rf"(?<![0-9A-Za-z])(?=({known.pattern})(?![0-9A-Za-z]))", re.ASCII)
    return pattern, import_module(f"stdnum.{known.module}").is_valid


def identities(text: str, countries: Sequence[str] = STRONG) -> Iterator[tuple[int, int]]:
    """Numbers of identity of these countries whose check is right."""
    for country in countries:
        pattern, valid = _identity(country)
        for found in pattern.finditer(text):
            if _is_right(valid, found[1]):
                yield found.span(1)


def _is_right(valid: Callable[[str], bool], number: str) -> bool:
    """Whether a number passes its check; where the check itself fails, its form is enough."""
    try:
        return valid(number)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return True


_LONGEST_IBAN = 48
_IBAN = re.compile(
    r"(?<![0-9A-Za-z])(?=([A-Za-z]{2}\d\d(?: ?[0-9A-Za-z]{1,4}){3,8}?)(?![0-9A-Za-z]))", re.ASCII
)
_MORE_IBAN = re.compile(r" ?[0-9A-Za-z]{1,4}(?![0-9A-Za-z])")


def ibans(text: str) -> Iterator[tuple[int, int]]:
    """Numbers of bank accounts whose check is right for their country."""
    for found in _IBAN.finditer(text):
        start, end = found.span(1)
        while end - start <= _LONGEST_IBAN - 8:
            if _is_checked(text[start:end]):
                yield start, end
                break
            more = _MORE_IBAN.match(text, end)
            if more is None:
                break
            end = more.end()


def _is_checked(number: str) -> bool:
    """Whether an IBAN is right; the remainder, which is soon found, tells of nearly all that are not."""
    plain = number.replace(" ", "")
    digits = "".join(str(int(one, 36)) for one in plain[4:] + plain[:4])
    return int(digits) % 97 == 1 and iban.is_valid(plain)


def email_detector() -> Detector:
    longest = _MAX_LOCAL + 1 + _MAX_DOMAIN
    return Detector("email", "[EMAIL]", emails, longest, ("@",), 2, held=held_by(_LOCAL + "@", longest))


def card_detector() -> Detector:
    return Detector(
        "card", "[CARD]", cards, _LONGEST_CARD, _DIGITS, held=held_by(string.digits + " -", _LONGEST_CARD)
    )


def phone_detector(countries: Sequence[str] = ()) -> Detector:
    longest = _LONGEST_PHONE + 4
    find = partial(phones, countries=tuple(countries))
    signs = _DIGITS if countries else ("+",)
    return Detector("phone", "[PHONE]", find, longest, signs, held=held_by(_PHONE_CHARACTERS, longest))


def identity_detector(countries: Sequence[str] = ()) -> Detector:
    held = held_by(_ALNUM + " .-+", _LONGEST_IDENTITY)
    find = partial(identities, countries=tuple(countries) or STRONG)
    return Detector("identity", "[ID]", find, _LONGEST_IDENTITY, _DIGITS, held=held)


def iban_detector() -> Detector:
    return Detector(
        "iban", "[IBAN]", ibans, _LONGEST_IBAN, _DIGITS, 5, held=held_by(_ALNUM + " ", _LONGEST_IBAN + 5)
    )
