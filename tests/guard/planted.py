"""Keys and numbers made up at run time, so that nothing that looks real stands in a file; and what only looks close."""

import base64
import json
import random
import string
import zlib

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
URL_SAFE = BASE62 + "-_"
HEX = "0123456789abcdef"


def some(rng: random.Random, letters: str, count: int) -> str:
    """Return random letters with a digit among them, never too uniform and never ending in a sign."""
    body = [letters[place * 7 % len(letters)] for place in range(count)]
    rng.shuffle(body)
    return "".join(body[:-1]) + ("7" if letters != string.ascii_letters else "q")


def checked(prefix: str, rng: random.Random) -> str:
    """Return a token with GitHub's and npm's checksum."""
    body = some(rng, BASE62, 30)
    value, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        value, rest = divmod(value, 62)
        digits = BASE62[rest] + digits
    return prefix + body + digits


def web_token(rng: random.Random, header: object = None) -> str:
    """Return a JSON web token."""
    parts = ({"alg": "HS256", "typ": "JWT"} if header is None else header, {"sub": "1234567890", "admin": True})
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{head}.{body}.{some(rng, URL_SAFE, 43)}"


def private_key(rng: random.Random, kind: str = "RSA ") -> str:
    """Return a PEM block."""
    lines = "\n".join("MII" + some(rng, BASE62 + "+/", 61) for _ in range(4))
    return f"{'-' * 5}BEGIN {kind}PRIVATE KEY{'-' * 5}\n{lines}\n{'-' * 5}END {kind}PRIVATE KEY{'-' * 5}"


def secrets(seed: int = 0) -> list[tuple[str, str, str]]:
    """Return category, something to find, and something close that is none, for every kind of secret."""
    r = random.Random(seed)
    upper = string.ascii_uppercase + "234567"
    github, npm, pem, token = checked("gh" + "p_", r), checked("npm" + "_", r), private_key(r), web_token(r)
    fine = "github" + "_pat_" + some(r, BASE62, 22) + "_" + some(r, BASE62, 59)
    pypi = "pypi-" + base64.urlsafe_b64encode(b"\x02\x01\x08pypi.org" + b"\x00" + r.randbytes(60)).decode().rstrip("=")
    aws = "AKIA" + some(r, upper, 16)
    account = "Account" + "Key=" + some(r, BASE62 + "+/", 86) + "=="
    age = "AGE-SECRET-" + "KEY-1" + some(r, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)
    return [
        ("private-key", pem, pem.replace("PRIVATE", "PUBLIC")),
        ("aws-access-key", aws, aws[:-1]),
        ("aws-access-key", "ASIA" + aws[4:], "AKIA" + "IOSFODNN7" + "EXAMPLE"),
        ("aws-secret-key", "aws_secret_access_" + "key = " + some(r, BASE62 + "+/", 40),
         "aws_secret_access_" + "key = os.environ['SECRET']"),
        ("aws-secret-key", '"SecretAccess' + 'Key": "' + some(r, BASE62 + "+/", 40), some(r, BASE62 + "+/", 40)),
        ("github-token", github, github[:-1] + ("1" if github[-1] == "0" else "0")),
        ("github-token", "gh" + "s_" + github[4:], "gh" + "x_" + github[4:]),
        ("github-fine-token", fine, fine[:-1]),
        ("gitlab-token", "gl" + "pat-" + some(r, URL_SAFE, 20), "gl" + "pat-" + "your-own-token-here"),
        ("slack-token", "xox" + "b-123456789012-" + some(r, BASE62, 24), "xox" + "b-not-a-token-at-all"),
        ("slack-webhook", "https://hooks." + "slack.com/services/T0" + some(r, upper, 9) + "/B0" + some(r, upper, 9)
         + "/" + some(r, BASE62, 24), "https://hooks." + "slack.com/services/T000/B000/XXXXXXXX"),
        ("stripe-key", "sk_" + "live_" + some(r, BASE62, 24), "sk_" + "live_" + "x" * 24),
        ("openai-key", "sk-" + some(r, BASE62, 20) + "T3Blbk" + "FJ" + some(r, BASE62, 20), "sk-learn-contrib/tools"),
        ("openai-key", "sk-" + "proj-" + some(r, URL_SAFE, 74), "sk-" + "proj-" + "-" * 74),
        ("anthropic-key", "sk-ant-" + "api03-" + some(r, URL_SAFE, 95), "sk-ant-" + "api03-..."),
        ("google-api-key", "AIza" + some(r, URL_SAFE, 35), "AIza" + some(r, URL_SAFE, 34)),
        ("google-client-secret", "GOC" + "SPX-" + some(r, URL_SAFE, 28), "GOC" + "SPX-" + some(r, URL_SAFE, 12)),
        ("web-token", token, web_token(r, header=["no", "algorithm", "here"])),
        ("npm-token", npm, npm[:-1] + ("1" if npm[-1] == "0" else "0")),
        ("pypi-token", pypi, "pypi-" + "AgE" + some(r, BASE62, 70)),
        ("sendgrid-key", "SG" + "." + some(r, URL_SAFE, 22) + "." + some(r, URL_SAFE, 43), "SG.kind.of.file"),
        ("twilio-key", "SK" + some(r, HEX, 32), "SK" + some(r, HEX, 31)),
        ("huggingface-token", "hf" + "_" + some(r, string.ascii_letters, 34), "hf_hub_download_with_a_very_long_name"),
        ("digitalocean-token", "dop" + "_v1_" + some(r, HEX, 64), "dop" + "_v1_" + some(r, HEX, 60)),
        ("shopify-token", "shp" + "at_" + some(r, HEX, 32), "shp" + "at_" + some(r, HEX, 30)),
        ("databricks-token", "da" + "pi" + some(r, HEX, 32), "da" + "pi" + "e" * 32),
        ("telegram-token", "123456789:" + "AA" + some(r, URL_SAFE, 33), "123456789:" + "AA" + some(r, URL_SAFE, 20)),
        ("azure-storage-key", account, account[:-1]),
        ("vault-token", "hv" + "s." + some(r, URL_SAFE, 24), "hv" + "s." + some(r, URL_SAFE, 12)),
        ("docker-token", "dckr" + "_pat_" + some(r, URL_SAFE, 27), "dckr" + "_pat_" + some(r, URL_SAFE, 9)),
        ("age-key", age, age[:-2]),
        ("bottega-key", "btg" + "-" + some(r, URL_SAFE, 43), "btg" + "-" + some(r, URL_SAFE, 12)),
        ("url-password", "postgres://admin:" + some(r, BASE62, 12) + "@db.internal/prod",
         "http://localhost:8080/@home"),
        ("url-password", "https://x-token:" + some(r, BASE62, 20) + "@git.example", "https://user:${PASSWORD}@host"),
    ]


def luhn_number(rng: random.Random, prefix: str, length: int) -> str:
    """Return a card number."""
    body = prefix + "".join(str(rng.randrange(10)) for _ in range(length - len(prefix) - 1))
    total = sum(int(digit) if place % 2 else sum(divmod(2 * int(digit), 10))
                for place, digit in enumerate(reversed(body)))
    return body + str(-total % 10)


def iban(rng: random.Random, country: str = "DE", length: int = 22) -> str:
    """Return a bank account number with right check digits."""
    body = "".join(str(rng.randrange(10)) for _ in range(length - 4))
    number = int("".join(str(int(letter, 36)) for letter in body + country + "00"))
    return f"{country}{98 - number % 97:02d}{body}"
