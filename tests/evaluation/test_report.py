"""The report is one file that fetches and runs nothing and shows hostile text as text."""

import html.parser
import re
from pathlib import Path
from typing import Any

import pytest

from bottega.core.energy import Cost
from bottega.core.lineage import Licence, Lineage, Parent
from bottega.core.recipe import DataSpec
from bottega.core.request import Alternative, Step
from bottega.data.pipeline import prepare
from bottega.evaluation.report import DataCard, Glass, Metric, ReportData, Sample, Stage, render, visible, write_report

EVIL = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>\"' onmouseover=alert(3) \u202eabc\x00"
VOID = {"meta", "img", "br", "path", "circle", "link", "input"}


class Page(html.parser.HTMLParser):
    """Collects tags, attributes and text, and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _history(start: float) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [{"step": 0, "tokens": 0, "seconds": 0.1,
                                    "validation": {"bits_per_byte": start, "loss": 2 * start}}]
    for step in range(1, 501):
        lines.append({"step": step, "tokens": step * 1024, "seconds": step * 0.2, "loss": start / (1 + step / 200)})
    lines[-1]["validation"] = {"bits_per_byte": start / 3, "loss": start}
    return lines


def _report(word: str) -> ReportData:
    """A report in which every text holds `word`."""
    steps = [Step(0, i, text="x", token=i, token_text=f"{word}{i}\n", logprob=-0.5, probability=0.6,
                  alternatives=(Alternative(7, word, -1.0, 0.3), Alternative(8, "", -2.0, 0.1)), changes=(word,))
             for i in range(5)]
    lineage = [Lineage(kind="model", name=word, content="ab" * 32, step=word, licences=[Licence(spdx=word)],
                       parents=[Parent(kind="dataset", name=word, digest="cd" * 32)])]
    metric = Metric(word, 0.93, n=200, low=0.88, high=0.96, spread=0.01, seeds=3, unit="%", note=word)
    stages = [Stage("untrained", "untrained", samples=[Sample(word, word)], metrics=[Metric(word, 0.01, unit="%")]),
              Stage(word, "pretrain", about=word, history=_history(6.0), samples=[Sample(word, f"2 {word}")],
                    metrics=[metric, Metric("perplexity", float("nan"), better="lower")], facts={word: word},
                    cost=Cost(seconds=90, cpu_seconds=170, energy_wh_low=0.2, energy_wh_high=0.6, method=word),
                    tokens=123456, reused=True),
              Stage("no history", "dpo")]
    card = DataCard(word, kept=90, dropped={word: 10}, splits={word: 80}, sources={word: 50, "b": 40}, licences=[word],
                    facts={word: word}, digest="ef" * 32)
    return ReportData(word, word, stages, headline={word: word}, data=[card],
                      baselines={"bits_per_byte": {word: 2.3, "unigram": 2.9}}, glass=[Glass(word, steps, word)],
                      lineage=lineage, next_steps=[(word, word)], machine=word, made="2026-01-01",
                      price_per_kwh=(0.3, word))


def test_page_parses_and_holds_every_part() -> None:
    page = Page(render(_report("plain")))
    for part in ("What it can do", "What it wrote", "How it learned", "What it was made from", "A look inside",
                 "What it cost", "Lineage", "What to do next", "93.0 %", "n 200", "88.0 % to 96.0 %",
                 "sd 1.0 % over 3 seeds", "dropped: plain", "0.20–0.60", "reused from an earlier run", "60.0 %"):
        assert part in page.text, part
    assert page.tags.count("svg") == 2
    assert len([v for n, v in page.attributes if n == "class" and v == "token"]) == 5


def test_hostile_text_is_shown_not_run() -> None:
    text = render(_report(EVIL))
    page = Page(text)
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.text
    assert "\u202e" not in text
    assert "\x00" not in text
    assert "‹U+202E›" in page.text


@pytest.mark.parametrize("word", ["plain", EVIL])
def test_nothing_is_fetched(word: str) -> None:
    text = render(_report(word))
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    fetching = ("src", "srcset", "href", "action", "data", "poster", "xlink:href")
    loads = [(name, value) for name, value in page.attributes if name in fetching and not value.startswith("#")]
    assert loads == []
    assert not re.search(r"url\(|@import", text)
    assert "default-src 'none'" in text


def test_written_whole_as_utf8(tmp_path: Path) -> None:
    path = write_report(tmp_path / "deep" / "report.html", _report("naïve \ud800 文字 👩\u200d🔬"))
    text = path.read_text(encoding="utf-8")
    assert "文字 👩\u200d🔬" in text
    assert "‹U+D800›" in text


def test_the_least_that_can_be_reported() -> None:
    Page(render(ReportData("t", "s", [])))


def test_page_is_usable_on_a_phone_and_in_the_dark() -> None:
    text = render(_report("plain"))
    assert 'name="viewport" content="width=device-width' in text
    assert "color-scheme: light dark" in text
    assert "max-width: 40rem" in text


def test_data_card_of_a_really_prepared_dataset(tmp_path: Path) -> None:
    for number in range(30):
        words = " ".join(f"word{number * 40 + i} and" for i in range(40))
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{number}.txt").write_text(words)
    (tmp_path / "texts" / "copy.txt").write_text(words)
    spec = DataSpec(sources=[str(tmp_path / "texts")], licence="CC0-1.0", validation=0.3)
    dataset = prepare(spec, home=tmp_path / "home", jobs=1)
    card = DataCard.of(dataset.card, "mine")
    assert card.kept == sum(card.splits.values()) == sum(card.sources.values()) == 30
    assert sum(card.dropped.values()) == 1
    assert card.licences == ["CC0-1.0"]
    page = Page(render(ReportData("t", "s", [], data=[card])))
    assert "CC0-1.0" in page.text
    assert "dropped: " in page.text


def test_best_of_a_row_is_marked() -> None:
    stages = [Stage("a", "pretrain", metrics=[Metric("loss", 2.0, better="lower"), Metric("f1", 0.5)]),
              Stage("b", "sft", metrics=[Metric("loss", 1.0, better="lower"), Metric("f1", 0.25)])]
    rows = re.findall(r"<td( class=\"best\")?>(\S+)", render(ReportData("t", "s", stages)))
    assert rows[:4] == [("", "2"), (' class="best"', "1"), (' class="best"', "0.5"), ("", "0.25")]


def test_visible() -> None:
    assert visible("a\tb\r\nc\x1b[31m\u200b") == "a\tb\nc‹U+001B›[31m‹U+200B›"
