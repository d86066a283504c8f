import io

from umbel.progress import Reporter


def test_a_log_gets_lines_with_share_note_and_time_left():
    stream = io.StringIO()
    task = Reporter(stream, every_s=0).start("packing", 4, "bases", done=1)
    for note in ("one", "two", "three"):
        task.advance(1, note)
    lines = stream.getvalue().strip().splitlines()
    assert "25%" in lines[0]
    assert "100%" in lines[-1]
    assert "4/4" in lines[-1]
    assert "three" in lines[-1]
    assert all("packing" in line and "\r" not in line for line in lines)


def test_quiet_says_nothing():
    stream = io.StringIO()
    reporter = Reporter(stream, quiet=True)
    reporter.say("hello")
    task = reporter.start("packing", 2, "bases")
    task.advance(2)
    task.close()
    assert stream.getvalue() == ""


def test_messages_stay():
    stream = io.StringIO()
    Reporter(stream).say("hello")
    assert stream.getvalue() == "hello\n"
