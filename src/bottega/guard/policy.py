"""What is done about each finding, and the limits: `bottega serve` takes it from the workshop's settings.

A policy only says what differs from the defaults. Its digest tells which policy a verdict was made under.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import Field, field_validator

from bottega.core.errors import RecipeError, suggest
from bottega.core.files import digest_json
from bottega.core.validate import Strict, validate
from bottega.guard.pii import PII
from bottega.guard.secrets import SECRETS
from bottega.guard.verdict import Action

# category → its check, for everything but the detectors
_OTHERS = {
    "too-many-messages": "sizes", "too-long": "sizes", "broken-text": "sizes", "hidden-text": "hidden",
    "role-token": "roles", "blocked-string": "blocked", "not-json": "format", "too-long-output": "length",
    "duplicate": "duplicates",
}
CHECKS = {**_OTHERS, **{detector.category: detector.check for detector in (*SECRETS, *PII)}}


class Policy(Strict):
    """What a guard does.

    Attributes:
        actions: category or name of a check → action, by name or number; a category goes before its check. Holds for
            input and output.
        blocked_strings: texts that end an output before any part of them is sent.
        max_input_characters: most characters in all messages together.
        max_messages: most messages in a request.
        max_output_characters: an output longer than this is flagged.
    """

    actions: dict[str, Action] = {}
    blocked_strings: list[str] = Field(default=[], max_length=1000)
    max_input_characters: int = Field(default=200_000, ge=1)
    max_messages: int = Field(default=1000, ge=1)
    max_output_characters: int = Field(default=200_000, ge=1)

    @field_validator("actions", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        names = {action.name.lower(): action for action in Action}
        for name, action in value.items():
            if name not in CHECKS and name not in CHECKS.values():
                raise ValueError(f"no check or category is called '{name}'; "
                                 + suggest(str(name), {*CHECKS, *CHECKS.values()}))
            if isinstance(action, str) and action.lower() not in names:
                raise ValueError(f"'{action}' is no action; use one of {', '.join(names)}")
        return {name: names[action.lower()] if isinstance(action, str) else action for name, action in value.items()}

    @field_validator("blocked_strings")
    @classmethod
    def _speaking(cls, value: list[str]) -> list[str]:
        if any(not text.strip() or len(text) > 1000 for text in value):
            raise ValueError("a blocked string needs something to see in it and at most 1000 characters")
        return value

    @staticmethod
    def parse(data: dict[str, Any], *, where: str = "guard policy") -> Policy:
        """Check plain data.

        Raises:
            RecipeError: naming the key, its value and what is allowed.
        """
        return validate(Policy, data, where=where, error=RecipeError)

    def action(self, category: str, default: Action) -> Action:
        """Return what is done about a category."""
        return self.actions.get(category, self.actions.get(CHECKS[category], default))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole policy: equal digests decide equally."""
        return digest_json(self.model_dump(mode="json"))
