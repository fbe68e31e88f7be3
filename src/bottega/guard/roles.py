"""Text that looks like the tokens a chat is built with, of this workshop or of another.

It cannot take their place: a codec makes reserved tokens from its own template only and spells such text letter by
letter (`tests/guard/test_roles.py` proves it for any text). That somebody tries is still worth a flag.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"<[|｜][A-Za-z][A-Za-z0-9_▁ -]{0,40}[|｜]>"  # <|user|>, <|im_start|>, <|start_header_id|>
    r"|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS)\]"
    r"|(?:^|\n)(?:### (?:Instruction|Response|Human|Assistant|System):|(?:Human|Assistant): (?=\S))")


def forged(text: str) -> list[tuple[int, int]]:
    """Return where a text looks like role or control tokens."""
    return [hit.span() for hit in _TOKEN.finditer(text)]
