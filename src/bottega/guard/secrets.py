"""Keys, tokens and passwords by their published shapes; `tests/guard/test_secrets.py` finds one of each kind.

Only structured ones: what gives itself away by a prefix, a checksum or the words around it. Nothing is guessed from
how random a text looks, so hashes, identifiers and base64 are left alone.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import string
import zlib

from bottega.guard.detectors import Detector, Expression, Rest, Shape, Test, run_of, whole
from bottega.guard.verdict import Action

# GitHub, "Behind GitHub's new authentication token formats": the last six characters are the CRC-32 of the thirty
# before them, in base 62; npm's tokens are made the same way.
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_URL_SAFE = "-A-Za-z0-9_"
_KEY_BEGIN = "-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY[A-Z ]{0,6}-----"
_KEY_END = Rest(re.compile("-----END [A-Z0-9 ]{0,24}PRIVATE KEY[A-Z ]{0,6}-----"), 60)


def _varied(found: str) -> bool:
    """Say whether a text is too varied for a placeholder such as `xxxxxxxx` or `your-key-here`."""
    return len(set(found)) >= 12 and any(letter.isdigit() for letter in found)


def _checksum(found: str) -> bool:
    body, check = found[-36:-6], found[-6:]
    value = 0
    for letter in check:
        value = value * 62 + _BASE62.index(letter)
    return value == zlib.crc32(body.encode())


def _amazon(found: str) -> bool:
    return not found.endswith("EXAMPLE") and len(set(found[4:])) >= 6  # the documentation's keys end so


def _after_equals(found: str) -> tuple[int, int] | None:
    """Take the last forty characters: the value, without the words that gave it away."""
    return (len(found) - 40, len(found)) if _varied(found[-40:]) else None


def _web_token(found: str) -> bool:
    """Say whether the beginning of a JSON web token decodes to a header that names its algorithm."""
    head = found.split(".", 1)[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except ValueError:
        return False
    return isinstance(header, dict) and "alg" in header


def _macaroon(found: str) -> bool:
    try:
        return b"pypi.org" in base64.urlsafe_b64decode(found.removeprefix("pypi-")[:24])
    except binascii.Error:
        return False


def _user_and_password(found: str) -> tuple[int, int] | None:
    """Take `user:password` of `://user:password@`, unless the password is plainly a placeholder."""
    password = found[3:-1].split(":", 1)[1]
    shown = password[:1] in "<{$%[*" or len(set(password)) < 3 or password.lower() in ("password", "pass", "pwd")
    return None if shown else (3, len(found) - 1)


def _secret(category: str, what: str, *expressions: str | Shape, test: Test | None = None,
            rest: Rest | None = None) -> Detector:
    shapes = tuple(Expression(shape, test, right="" if rest else r"(?![A-Za-z0-9_])")
                   if isinstance(shape, str) else shape for shape in expressions)
    return Detector("secrets", category, what, Action.REDACT, shapes, rest)


SECRETS = (
    _secret("private-key", "a private key",
            *(Expression(_KEY_BEGIN + after, left="", right="") for after in (
                r"\s{1,20}[A-Za-z0-9+/]{16}", r"\\r?\\?n[A-Za-z0-9+/]{16}", r"\s{1,20}[A-Z][A-Za-z-]{3,11}: ")),
            rest=_KEY_END),
    _secret("aws-access-key", "an AWS access key", "A[KS]IA[A-Z2-7]{16}", "A[BC][CI]A[A-Z2-7]{16}",
            test=whole(_amazon)),
    _secret("aws-secret-key", "an AWS secret key",
            *(Expression(name + r"[\x22\x27]?\s{0,4}[:=]{1,2}\s{0,4}[\x22\x27]?[A-Za-z0-9/+]{40}", _after_equals,
                         right="(?![A-Za-z0-9/+=])", ignore_case=True)
              for name in ("secret_?access_?key", "aws_?secret_?access_?key"))),
    _secret("github-token", "a GitHub token", "gh[pousr]_[A-Za-z0-9]{36}", test=whole(_checksum)),
    _secret("github-fine-token", "a fine-grained GitHub token", "github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
            test=whole(_varied)),
    _secret("gitlab-token", "a GitLab token", f"gl[dr]t-[{_URL_SAFE}]{{20}}", f"glpat-[{_URL_SAFE}]{{20}}",
            f"glptt-[{_URL_SAFE}]{{20}}", test=whole(_varied), rest=run_of(_URL_SAFE, joints=".")),
    _secret("slack-token", "a Slack token", "xox[abeoprs]-[0-9]{9,13}-[A-Za-z0-9]{8}", test=whole(_varied),
            rest=run_of("A-Za-z0-9-")),
    _secret("slack-webhook", "a Slack webhook address",
            "hooks\\.slack\\.com/services/[TE][A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{24}", test=whole(_varied)),
    _secret("stripe-key", "a Stripe key", "[sr]k_live_[A-Za-z0-9]{20}", "[sr]k_test_[A-Za-z0-9]{20}",
            "whsec_[A-Za-z0-9+/]{24}", test=whole(_varied), rest=run_of("A-Za-z0-9+/=")),
    _secret("openai-key", "an OpenAI key", "sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}",
            *(f"sk-{kind}-[{_URL_SAFE}]{{40}}" for kind in ("proj", "svcacct", "admin")), test=whole(_varied),
            rest=run_of(_URL_SAFE)),
    _secret("anthropic-key", "an Anthropic key", f"sk-ant-[a-z]{{3,8}}[0-9]{{2}}-[{_URL_SAFE}]{{40}}",
            test=whole(_varied), rest=run_of(_URL_SAFE)),
    _secret("google-api-key", "a Google API key",
            Expression(f"AIza[{_URL_SAFE}]{{35}}", whole(_varied), right=f"(?![{_URL_SAFE}])")),
    _secret("google-client-secret", "a Google client secret",
            Expression(f"GOCSPX-[{_URL_SAFE}]{{28}}", whole(_varied), right=f"(?![{_URL_SAFE}])")),
    _secret("web-token", "a JSON web token",
            Expression(f"eyJ[{_URL_SAFE}]{{8,510}}\\.eyJ[{_URL_SAFE}]{{8}}", whole(_web_token), right="",
                       left=r"(?<![A-Za-z0-9_.-])"), rest=run_of(_URL_SAFE, joints=".")),
    _secret("npm-token", "an npm token", "npm_[A-Za-z0-9]{36}", test=whole(_checksum)),
    _secret("pypi-token", "a PyPI token", f"pypi-AgE[{_URL_SAFE}]{{60}}", test=whole(_macaroon),
            rest=run_of(_URL_SAFE)),
    _secret("sendgrid-key", "a SendGrid key",
            Expression(f"SG\\.[{_URL_SAFE}]{{22}}\\.[{_URL_SAFE}]{{43}}", whole(_varied), right=f"(?![{_URL_SAFE}])")),
    _secret("twilio-key", "a Twilio key", "SK[0-9a-f]{32}", test=whole(lambda found: len(set(found)) >= 10)),
    _secret("huggingface-token", "a Hugging Face token", "hf_[A-Za-z]{34}",
            test=whole(lambda found: len(set(found)) >= 12)),
    _secret("digitalocean-token", "a DigitalOcean token", "do[opr]_v1_[0-9a-f]{64}", test=whole(_varied)),
    _secret("shopify-token", "a Shopify token", *(f"shp{kind}_[0-9a-f]{{32}}" for kind in ("at", "ca", "pa", "ss")),
            test=whole(_varied)),
    _secret("databricks-token", "a Databricks token", "dapi[0-9a-f]{32}", test=whole(_varied)),
    _secret("telegram-token", "a Telegram bot token",
            Expression(f"[0-9]{{8,10}}:AA[{_URL_SAFE}]{{33}}", whole(_varied), right=f"(?![{_URL_SAFE}])")),
    _secret("azure-storage-key", "an Azure storage key",
            Expression("AccountKey=[A-Za-z0-9+/]{86}==", whole(_varied), right="")),
    _secret("vault-token", "a Vault token", f"hv[sbr]\\.[{_URL_SAFE}]{{24}}", test=whole(_varied),
            rest=run_of(_URL_SAFE)),
    _secret("docker-token", "a Docker token",
            Expression(f"dckr_[op]at_[{_URL_SAFE}]{{27,32}}", whole(_varied), right=f"(?![{_URL_SAFE}])")),
    _secret("age-key", "an age secret key", "AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}"),
    _secret("bottega-key", "a key of a Bottega server", f"btg-[{_URL_SAFE}]{{40}}", test=whole(_varied),
            rest=run_of(_URL_SAFE)),
    _secret("url-password", "a password in an address",
            Expression(r"://[^\s/:@\x22\x27]{0,64}:[^\s/@\x22\x27]{3,128}@", _user_and_password, left="", right="")),
)
