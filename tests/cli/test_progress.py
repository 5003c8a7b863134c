import io

import pytest

from d2plan.cli.progress import PlainLines, show_progress, write_duration


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_plain_lines_tell_the_start_the_end_and_the_time_left_now_and_then():
    stream, clock = io.StringIO(), Clock()
    report = PlainLines(stream, clock)
    for done in range(31):
        report("training rex", done, 30)
        clock.now += 1.0
    assert stream.getvalue().splitlines() == [
        "training rex: 0/30",
        "training rex: 10/30, about 20 s left",
        "training rex: 20/30, about 10 s left",
        "training rex: 30/30, took 30 s",
    ]


def test_each_stage_begins_with_a_line_and_ends_once():
    stream, clock = io.StringIO(), Clock()
    report = PlainLines(stream, clock)
    for what in ("a", "b"):
        report(what, 0, 1)
        report(what, 1, 1)
        report(what, 1, 1)
    assert stream.getvalue().splitlines() == ["a: 0/1", "a: 1/1, took 0 s", "b: 0/1", "b: 1/1, took 0 s"]


def test_an_unknown_total_is_told_without_a_time():
    stream = io.StringIO()
    PlainLines(stream, Clock())("loading", 0, 0)
    assert stream.getvalue() == "loading ...\n"


def test_a_stream_that_is_no_terminal_gets_plain_lines():
    stream = io.StringIO()
    with show_progress(stream) as report:
        report("drawing", 0, 2)
        report("drawing", 2, 2)
    assert stream.getvalue().splitlines()[0] == "drawing: 0/2"
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_a_bar_for_each_stage():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with show_progress(stream) as report:
        report("drawing [bold]", 1, 2)
        report("writing", 0, 0)
        report("drawing [bold]", 2, 2)
    assert "drawing [bold]" in stream.getvalue()
    assert "2/2" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min")]
)
def test_durations_are_written_in_words(seconds, words):
    assert write_duration(seconds) == words
