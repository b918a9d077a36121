"""Personal data in a table: names of columns, e-mail addresses, and numbers with a check digit.

Names of people in free text are not found: that takes a model of language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module

from .schema import load
from .schema_hints import Look, looks
from .table import Table

ENOUGH = 0.8  # fraction of the distinct texts of a column that must be of a kind
LEAST = 3  # number of these texts
MOST = 500  # distinct texts that are checked
# Words in the names of columns, in English, German, French, Spanish.
NAMES = re.compile(
    r"(?i)(first|last|sur|full|maiden|vor|nach)[ _-]?name|^name$|nombre|apellido|prenom|e-?mail|phone|telefon|mobile|"
    r"address|adresse|direccion|street|stra(ss|\u00df)e|zip|postcode|postal|plz|birth|geburt|naissance|nacimiento|^dob$|"
    r"passport|iban|card.?number|kredit|ssn|social.?security|insurance.?(no|number|id)|versichert|patient|gender|"
    r"^sex$|geschlecht|religion|ethnic|race$|nationality|latitude|longitude|ip.?addr"
)
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]{2,}")
# Formats of python-stdnum that are of a person and have check digits: few other texts pass. What it is -> module.
NUMBERS = {
    "IBAN": "iban",
    "health number of the United Kingdom": "gb.nhs",
    "national id of Belgium": "be.nn",
    "national id of Brazil": "br.cpf",
    "national id of Bulgaria": "bg.egn",
    "national id of China": "cn.ric",
    "national id of Denmark": "dk.cpr",
    "national id of Estonia or Lithuania": "ee.ik",
    "national id of Finland": "fi.hetu",
    "national id of France": "fr.nir",
    "national id of Germany": "de.idnr",
    "national id of India": "in_.aadhaar",
    "national id of Italy": "it.codicefiscale",
    "national id of Norway": "no.fodselsnummer",
    "national id of Poland": "pl.pesel",
    "national id of Romania": "ro.cnp",
    "national id of South Korea": "kr.rrn",
    "national id of Spain": "es.dni",
    "national id of Sweden": "se.personnummer",
    "national id of Turkey": "tr.tckimlik",
    "national id of the Netherlands": "nl.bsn",
    "social insurance of Austria": "at.vnr",
    "social insurance of Canada": "ca.sin",
    "social insurance of Switzerland": "ch.ssn",
}


def report(source: Table) -> list[str]:
    """Lines about the columns that look like personal data, from the first rows.

    Args:
        source: The table.
    """
    known = load(source.schema) if source.schema.exists() else {}
    lines = []
    for look in looks(source):
        reasons = [*_reasons(look)]
        if reasons and look.name != source.target:
            is_private = look.name in known and known[look.name].private
            where = f"its line of {source.schema}" if known else "its line of the schema"
            advice = f"data.drop if the model does not need it, else `private: drop` in {where}"
            advice = "is private already" if is_private else advice
            lines.append(f"column {look.name!r}: {', '.join(reasons)}: {advice}")
    return lines or ["no column looks like personal data (names in free text are not looked for)"]


def _reasons(look: Look) -> Iterator[str]:
    """What makes a column look like personal data; the name alone is enough."""
    if found := NAMES.search(look.name):
        yield f"its name says {found[0]!r}"
    texts = [text.strip() for text in look.counts][:MOST]
    for what, is_of in checks().items():
        count = sum(map(is_of, texts))
        if count >= LEAST and count >= ENOUGH * len(texts):
            yield f"{count} of {len(texts)} different texts are of the form {what}"


def checks() -> Mapping[str, Callable[[str], bool]]:
    """What a text may be -> whether it is that."""
    found: dict[str, Callable[[str], bool]] = {
        what: import_module(f"stdnum.{module}").is_valid for what, module in NUMBERS.items()
    }
    return {"e-mail": lambda text: EMAIL.fullmatch(text) is not None, "card number": _is_card, **found}


def _is_card(text: str) -> bool:
    """Whether a text has the digits of a payment card: 13 to 19, with a check digit by Luhn."""
    from stdnum import luhn

    digits = re.sub("[ -]", "", text)
    return re.fullmatch("[2-6][0-9]{12,18}", digits) is not None and luhn.is_valid(digits)
