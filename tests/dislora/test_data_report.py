import json

from d2plan.dislora.data_report import DataReport, LeftOut, UsedPicture, remark_on, show_name

SMALL = UsedPicture("s.png", 100, 50, (0, 100, 0, 50), (256, 256), caption="s.txt", mask="masks/s.png")
LARGE = UsedPicture("l.png", 1000, 2000, (100, 900, 0, 2000), (256, 512))


def test_the_report_tells_what_is_used_at_which_sizes_and_what_is_not() -> None:
    report = DataReport((SMALL, LARGE, LARGE), (LeftOut("a\nb.gif", "save it as PNG"),), ("something to know",))
    assert report.buckets == {(256, 512): 2, (256, 256): 1}
    assert report.lines() == (
        "3 pictures used, 1 caption, 1 mask; 1 file left out",
        "sizes: 2 at 512 x 256, 1 at 256 x 256 pixels",
        "left out a\\nb.gif: save it as PNG",
        "something to know",
    )
    assert report.notes == report.lines()[2:]
    assert DataReport().lines() == ("no pictures used, no captions, no masks",)


def test_the_record_is_plain_data_that_json_gives_back() -> None:
    report = DataReport((SMALL,), (LeftOut("\udcff.png", "is damaged"),), ("x",))
    record = report.record()
    assert json.loads(json.dumps(record)) == record
    assert record["used"] == [
        {
            "name": "s.png", "height": 100, "width": 50, "content": [0, 100, 0, 50], "bucket": [256, 256],
            "caption": "s.txt", "mask": "masks/s.png",
        }
    ]  # fmt: skip


def test_a_picture_knows_how_far_it_was_enlarged_and_how_much_the_cut_left() -> None:
    assert SMALL.enlarged == 256 / 50 and SMALL.kept == 0.5
    assert LARGE.enlarged == 256 / 800 and LARGE.kept == 0.8


def test_remarks_tell_of_frames_plain_colour_bars_and_size() -> None:
    assert remark_on(SMALL, animated=True, one_colour=True) == [
        "s.png is animated; only its first frame is used",
        "s.png shows one colour and nothing else, which teaches nothing",
        "s.png shows only 50 x 100 pixels and was enlarged 5.1 times; a larger one would teach more",
    ]
    assert remark_on(LARGE, animated=False, one_colour=False) == [
        "l.png has plain bars at its sides; they were cut off, which left 2000 x 800 pixels"
    ]


def test_a_name_cannot_steer_a_terminal() -> None:
    assert show_name("\x1b[2J\udcff\u202eé.png") == "\\x1b[2J\\udcff\\u202eé.png"
