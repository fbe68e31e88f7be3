"""A table with two columns of free text and a model that writes them, trained for real in a few seconds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from bottega import tables

WARDS = ("cardiology", "surgery", "pediatrics")
_SIGNS = ("cough", "fever", "headache", "nausea", "fatigue", "rash", "chills", "cramps")
_MOODS = ("calm", "tired", "worried", "cheerful")
STEPS = 48


def write_notes(path: Path, rows: int = 300) -> Path:
    """Write rows of which the note tells the ward; a fifth of the notes are missing, every remark has two lines."""
    rng = np.random.default_rng(0)
    draw = rng.integers
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["ward", "age", "note", "remark"])
        for number in range(rows):
            ward, signs = WARDS[rng.choice(3, p=[0.5, 0.3, 0.2])], rng.choice(_SIGNS, 2, replace=False)
            note = f"Seen in {ward} with {signs[0]} and {signs[1]}, {rng.choice(_MOODS)}, pulse {draw(50, 130)}."
            remark = f'"Größe {draw(150, 200)} cm", 体温 正常\nday {draw(1, 99)}, bed {draw(1, 99)}'
            out.writerow([ward, draw(18, 90), "" if number % 5 == 0 else note, remark])
    return path


def fit_notes(home: Path, name: str = "notes", **more: Any) -> tables.TableModel:
    """Fit the table with its texts, two small networks of a few hundred steps."""
    return tables.fit(write_notes(home / f"{name}.csv"), name=name, texts=True, columns={"note": "text",
                      "remark": "text"}, home=home, generator={"width": 16, "depth": 1},
                      training={"budget": {"steps": STEPS}, "sample_every": 0.5}, **more)
