"""Numbers and addresses of people: the ones whose arithmetic is right are found, the others are not."""

import random

import pytest

from bottega.guard.guard import Guard
from bottega.guard.pii import PII, luhn, mod_97, verhoeff
from bottega.guard.verdict import Action
from tests.guard.planted import iban, luhn_number
from tests.guard.test_secrets import delivered

# Published examples of each scheme, or made with its arithmetic; then what differs in a digit or in form.
EXAMPLES = {
    "card": (["4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "3782 822463 10005", "6011111111111117",
              "30569309025904", "3530111333300000", "2223003122003222"],
             ["4111 1111 1111 1112", "41 1111 1111 1111 11", "4111-1111 1111-1111", "9111111111111111",
              "4111111111111111000", "0.4111111111111111", "4111111111111111.25", "0000 0000 0000 0000"]),
    "iban": (["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32", "IT60X0542811101000000123456",
              "NO93 8601 1117 947", "MT84 MALT 0110 0001 2345 MTLC AST0 01S"],
             ["DE89370400440532013001", "GB82 WEST 1234 5698 7654 33", "DE8937040044053201300",
              "XX89370400440532013000", "DE89 37040044 0532013000"]),
    "us-social-security": (["219-09-9998", "536-22-1845"], ["000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567",
                                                            "123-45-0000", "1-536-22-1845", "536-22-1845-7"]),
    "it-fiscal-code": (["RSSMRA85T10A562S", "MRTMTT91D08F205J"], ["RSSMRA85T10A562T", "RSSMRA85T10A562"]),
    "es-identity": (["12345678Z", "X1234567L", "12345678-Z"], ["12345678A", "X1234567M"]),
    "fr-social-security": (["255081416802538", "2 55 08 14 168 025 38"], ["255081416802539", "255131416802538",
                                                                           "25 508 14 168 025 38"]),
    "br-cpf": (["529.982.247-25", "111.444.777-35"], ["529.982.247-26", "111.111.111-11"]),
    "in-aadhaar": (["2847 5629 1033"], ["2847 5629 1034", "2847 5629 1033 1234", "1234 2847 5629 1033"]),
    "email": (["ada@example.org", "a.b+c@mail.example.co.uk", "Max_M%x@ex-ample.museum"],
              ["ada@example", "@example.org", "ada@-example.org", "logo@2x.png", "a..b@example.org",
               "ada @example.org"]),
    "phone": (["+39 347 123 4567", "+1 (415) 555-2671", "(415) 555-2671", "415-555-2671", "+44 20 7946 0958"],
              ["+1 2", "115-555-2671", "415-155-2671", "+1--415--555--2671", "2+3456789x"]),
    "ip-address": (["8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "2001:4860:4860::8888"],
                   ["192.168.0.1", "127.0.0.1", "8.8.8", "8.8.8.8.8", "256.1.1.1", "1.2.3.4.5", "2001:db8::1",
                    "2024:10:05"]),
}


def categories(text: str) -> list[str]:
    return [verdict.category for verdict in delivered(text)[1]]


@pytest.mark.parametrize(("category", "text"), [(name, text) for name, (good, _) in EXAMPLES.items() for text in good])
def test_found(category: str, text: str) -> None:
    for around in ("{}", "It is {}.", "({})", "x={}\n", "{}, and more"):
        assert categories(around.format(text)) == [category], around


@pytest.mark.parametrize(("category", "text"), [(name, text) for name, (_, bad) in EXAMPLES.items() for text in bad])
def test_not_found(category: str, text: str) -> None:
    for around in ("{}", "It is {} ."):
        assert category not in categories(around.format(text))


def test_every_kind_is_tested() -> None:
    assert set(EXAMPLES) == {detector.category for detector in PII}


def test_the_arithmetic_gives_the_published_results() -> None:
    assert luhn("79927398713")
    assert not luhn("79927398710")
    assert mod_97("GB82WEST12345698765432")
    assert not mod_97("GB82WEST12345698765423")
    assert all(map(verhoeff, ("2363", "123451", "1428570")))
    assert not verhoeff("2364")


def test_one_wrong_digit_is_never_a_card_or_an_account() -> None:
    rng = random.Random(2)
    for _ in range(300):
        card, account = luhn_number(rng, rng.choice(["4", "51", "2221", "6011"]), 16), iban(rng)
        assert categories(f"a {card} b") == ["card"]
        assert categories(f"a {account} b") == ["iban"]
        place = rng.randrange(4, 16)
        wrong = str((int(card[place]) + rng.randrange(1, 10)) % 10)
        assert "card" not in categories(f"a {card[:place]}{wrong}{card[place + 1:]} b")
        wrong = str((int(account[place]) + rng.randrange(1, 10)) % 10)
        assert "iban" not in categories(f"a {account[:place]}{wrong}{account[place + 1:]} b")


def test_what_follows_a_number_stays() -> None:
    assert delivered("pay 4111 1111 1111 1111 12/27 now")[0] == "pay [redacted: card] 12/27 now"
    assert delivered("TO GB82 WEST 1234 5698 7654 32 AND NOT LATER THAN NOON")[0] == (
        "TO [redacted: iban] AND NOT LATER THAN NOON")


def test_what_identifies_less_is_told_and_sent() -> None:
    text = "Write to ada@example.org or call +39 347 123 4567 from 8.8.8.8."
    out, verdicts = delivered(text)
    assert out == text
    assert [(verdict.category, verdict.action) for verdict in verdicts] == [
        ("email", Action.FLAG), ("phone", Action.FLAG), ("ip-address", Action.FLAG)]
    assert verdicts[0].where == "output 0, characters 9-24"
    assert all(verdict.digest for verdict in verdicts)


def test_an_address_inside_a_redaction_is_not_told_again() -> None:
    out, verdicts = delivered("https://ada:s3cret99" + "@example.org/ x")
    assert out == "https://[redacted: url-password]@example.org/ x"
    assert [verdict.category for verdict in verdicts] == ["url-password"]


def test_all_checks_agree_that_prose_is_prose() -> None:
    text = "In 1984, 3 of 40 people (7.5 %) bought 2 lamps at 19.99; version 3.11.7 shipped on 2024-10-05 at 10:30. "
    assert categories(text * 20) == []
    assert Guard().moderate(text) == []
