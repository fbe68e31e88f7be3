"""What identifies a person or moves their money, each with its own arithmetic; `tests/guard/test_pii.py` checks them.

Card, bank account and national numbers must satisfy their check digits, addresses must be ones that can exist.
"""

from __future__ import annotations

import ipaddress
import re
from itertools import pairwise

from bottega.guard.detectors import WORD, Detector, Expression, Test, whole
from bottega.guard.verdict import Action

# Length of an IBAN in each country of the SWIFT registry (release 99).
_IBAN_LENGTHS = {country: int(length) for length, countries in {
    "15": "NO", "16": "BE", "18": "DK FI FO GL NL FK", "19": "MK SI", "20": "AT BA EE KZ LT LU MN XK",
    "21": "CH CR HR LI LV", "22": "BG BH DE GB GE IE ME RS", "23": "AE GI IL IQ OM SO TL",
    "24": "AD CZ ES MD PK RO SA SE SK TN VG", "25": "LY PT ST", "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM",
    "28": "AL AZ BY CY DO GT HU LB NI PL SV", "29": "BR EG PS QA UA", "30": "JO KW MU YE", "31": "MT SC", "32": "LC",
    "33": "RU"}.items() for country in countries.split()}
# Digits an issuer's cards start with, and how many they have (ISO/IEC 7812 ranges as the issuers publish them).
_ISSUERS = (
    (re.compile("4"), (13, 16, 19)), (re.compile("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile("3[47]"), (15,)), (re.compile("6011|65|64[4-9]"), (16,)), (re.compile("30[0-5]|3[689]"), (14,)),
    (re.compile("35(?:2[89]|[3-8])"), (16,)), (re.compile("62"), (16, 17, 18, 19)), (re.compile("220[0-4]"), (16,)),
)
_CARD_GROUPS = ((4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3))
_CARD_FORMS = ("[2-6][0-9]{12,18}", *("[2-6][0-9]{3}" + "".join(f"[ -][0-9]{{{size}}}" for size in groups[1:])
                                      for groups in _CARD_GROUPS))
_AADHAAR_PLUS = ("0123456789", "1234067895", "2340178956", "3401289567", "4012395678", "5987604321", "6598710432",
                 "7659821043", "8765932104", "9876543210")  # Verhoeff 1969: products in the dihedral group of order 10
_AADHAAR_TURN = ("0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415",
                 "7046913258")
_FISCAL_ODD = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", (
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22,
    25, 24, 23), strict=True))  # Decreto ministeriale 23 dicembre 1976
_FILES = frozenset(("png", "jpg", "jpeg", "gif", "svg", "webp"))  # logo@2x.png is no address


def luhn(digits: str) -> bool:
    """Say whether digits satisfy the Luhn formula of ISO/IEC 7812."""
    doubled = sum(int(digit) * 2 - 9 * (digit > "4") for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def mod_97(text: str) -> bool:
    """Say whether an IBAN without spaces satisfies ISO 7064 MOD 97-10."""
    return int("".join(str(int(letter, 36)) for letter in text[4:] + text[:4])) % 97 == 1


def verhoeff(digits: str) -> bool:
    """Say whether digits satisfy the Verhoeff formula."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_AADHAAR_PLUS[check][int(_AADHAAR_TURN[place % 8][int(digit)])])
    return check == 0


def _card(found: str) -> bool:
    digits = found.replace(" ", "").replace("-", "")
    known = any(start.match(digits) and len(digits) in lengths for start, lengths in _ISSUERS)
    return known and not (" " in found and "-" in found) and len(set(digits)) > 1 and luhn(digits)


def _iban(found: str) -> tuple[int, int] | None:
    """Take the beginning that has its country's length, in one piece or in groups of four."""
    length = _IBAN_LENGTHS.get(found[:2], 0)
    spaced = found[4:5] == " "
    end = length + (length - 1) // 4 * spaced
    if not length or len(found) < end or found[end:end + 1].isalnum():
        return None
    groups = found[:end].split(" ")
    if spaced and any(len(group) != 4 for group in groups[:-1]):
        return None
    text = "".join(groups)
    return (0, end) if len(text) == length and mod_97(text) else None


def _social_security(found: str) -> bool:
    """Apply the rules of the US Social Security Administration: no area 000, 666 or 9xx, no part of zeros."""
    area, group, serial = found.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _fiscal_code(found: str) -> bool:
    odd = sum(_FISCAL_ODD[letter] for letter in found[:15:2])
    even = sum(int(letter) if letter.isdigit() else ord(letter) - ord("A") for letter in found[1:15:2])
    return chr(ord("A") + (odd + even) % 26) == found[15]


def _spanish(found: str) -> bool:
    number = found.replace("-", "")
    number = str("XYZ".find(number[0])) + number[1:] if number[0] in "XYZ" else number
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number[:-1]) % 23] == number[-1]


def _french(found: str) -> bool:
    digits = found.replace(" ", "")
    return "01" <= digits[3:5] <= "12" and 97 - int(digits[:13]) % 97 == int(digits[13:])


def _brazilian(found: str) -> bool:
    digits = [int(letter) for letter in found if letter.isdigit()]
    sums = [sum(digit * (count + 1 - place) for place, digit in enumerate(digits[:count])) for count in (9, 10)]
    return len(set(digits)) > 1 and [total * 10 % 11 % 10 for total in sums] == digits[9:]


def _email(found: str) -> bool:
    user, domain = found.rsplit("@", 1)
    labels = domain.split(".")
    return (".." not in found and not user.endswith(".") and labels[-1].lower() not in _FILES
            and all(label and label[0] != "-" and label[-1] != "-" for label in labels))


def _phone(found: str) -> bool:
    digits = [letter for letter in found if letter.isdigit()]
    tidy = not any(a in " .-" and b in " .-)" for a, b in pairwise(found)) and found.count("(") <= 1
    return 8 <= len(digits) <= 15 and tidy and found.count("(") == found.count(")") and len(set(digits)) > 2


def _address(found: str) -> bool:
    """Say whether a text is an IP address of the public internet."""
    try:
        return ipaddress.ip_address(found).is_global
    except ValueError:
        return False


def _number(*expressions: str, test: Test) -> tuple[Expression, ...]:
    """Return shapes of digits; those with a decimal point before or after are an amount, not somebody's number."""
    return tuple(Expression(expression, test, left=rf"(?<![{WORD}])(?<![0-9][.,])",
                            right=rf"(?![{WORD}]|[.,][0-9])", pending="[.,]?") for expression in expressions)


def _personal(category: str, what: str, *shapes: Expression, output: Action = Action.REDACT) -> Detector:
    return Detector("pii", category, what, output, shapes)


PII = (
    _personal("card", "a payment card number", *_number(*_CARD_FORMS, test=whole(_card))),
    _personal("iban", "a bank account number (IBAN)", Expression("[A-Z]{2}[0-9]{2}[A-Z0-9 ]{11,39}", _iban)),
    _personal("us-social-security", "a US social security number",
              Expression("[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}", whole(_social_security), left=rf"(?<![{WORD}-])",
                         right=rf"(?![{WORD}-])")),
    _personal("it-fiscal-code", "an Italian fiscal code",
              Expression("[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]",
                         whole(_fiscal_code))),
    _personal("es-identity", "a Spanish identity number", *_number(
        "[0-9]{8}-?[A-HJ-NP-TV-Z]", "[XYZ]-?[0-9]{7}-?[A-HJ-NP-TV-Z]", test=whole(_spanish))),
    _personal("fr-social-security", "a French social security number", *_number(
        "[12][0-9]{14}", "[12] [0-9]{2} [0-9]{2} [0-9]{2} [0-9]{3} [0-9]{3} [0-9]{2}", test=whole(_french))),
    _personal("br-cpf", "a Brazilian taxpayer number", *_number(
        r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", test=whole(_brazilian))),
    _personal("in-aadhaar", "an Indian Aadhaar number",
              Expression("[2-9][0-9]{3} [0-9]{4} [0-9]{4}", whole(lambda found: verhoeff(found.replace(" ", ""))),
                         left=rf"(?<![{WORD}])(?<![0-9] )", right=rf"(?![{WORD}]| [0-9])", pending=" ?")),
    _personal("email", "an e-mail address",
              Expression(r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{0,127}\.[A-Za-z]{2,24}",
                         whole(_email), left=r"(?<![A-Za-z0-9._%+-])"), output=Action.FLAG),
    _personal("phone", "a telephone number",
              *_number(r"\+[1-9][0-9 ().-]{6,18}[0-9]", r"\(?[2-9][0-9]{2}\)?[ .-][2-9][0-9]{2}[.-][0-9]{4}",
                       r"\([2-9][0-9]{2}\)[2-9][0-9]{2}[.-][0-9]{4}", test=whole(_phone)), output=Action.FLAG),
    _personal("ip-address", "a public IP address",
              *_number(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}", test=whole(_address)),
              Expression("[23][0-9a-fA-F]{3}:[0-9a-fA-F:]{2,34}", whole(_address), left=rf"(?<![{WORD}:])",
                         right=rf"(?![{WORD}:])"), output=Action.FLAG),
)
