import pytest

from bottega.training.display import Display, duration, sparkline


def test_sparkline_falls_with_the_loss():
    assert sparkline([4.0, 3.0, 2.0, 1.0]) == "█▆▃▁"
    assert len(sparkline([float(i) for i in range(1000)], width=40)) == 40
    assert sparkline([]) == ""
    assert sparkline([2.0]) == "▁"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (42.4, "42 s"), (187, "3:07"), (7500, "2:05:00")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_share_of_peak():
    display = Display("x", peak=1e9, flops=1e4)
    assert display.share(50_000) == 0.5


def test_what_is_counted_has_its_name(capsys, monkeypatch):
    monkeypatch.setattr("bottega.training.display._LINE_SECONDS", 0.0)
    for items in ("tokens", "pictures"):
        Display("x", peak=0, flops=1, items=items).update(step=1, progress=0.5, loss=1.0, rate=1234, seconds=1,
                                                          watt_hours=lambda: 0.0)
        assert f"1,234 {items}/s" in capsys.readouterr().err
