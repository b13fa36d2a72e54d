import io
import re

from onetok import progress
from onetok.progress import Progress, track


def test_plain_lines_with_rate_and_eta_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    shown = Progress("train x", 4, "steps", done=2)
    shown.advance(note="loss 0.5")
    shown.advance()
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"train x: 3/4 steps \(75%\), [\d.]+/s, ETA \d+:\d\d, loss 0\.5", lines[0])
    assert lines[1].startswith("train x: 4/4 steps (100%)") and lines[1].endswith("loss 0.5")


def test_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert list(track(range(3), "encode", "images")) == [0, 1, 2]
    text = terminal.getvalue()
    assert "encode: 100%" in text and "3/3" in text and "images/s" in text and "\r" in text


def test_only_the_first_process_shows_anything(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    list(track(range(3), "encode", "images"))
    assert capsys.readouterr().err == ""
