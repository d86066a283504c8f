import io
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from umbel.data.corpus import executors
from umbel.data.corpus.executors import run_jobs
from umbel.errors import BackendError, FastaError, RunError
from umbel.progress import Reporter


@dataclass(frozen=True)
class Square:
    number: int
    size: int = 10


def square(job, advance):
    advance(4)
    if job.number < 0:
        raise FastaError("made to fail.", "a.fa", 3)
    return {"square": job.number**2}


def die(job, advance):
    os._exit(9)


JOBS = [Square(number) for number in range(4)]
SILENT = Reporter(quiet=True)


def results(jobs=JOBS, work=square, reporter=SILENT, **options):
    found = {job.number: result["square"] for job, result in run_jobs(work, jobs, "Squaring", reporter, **options)}
    return found


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_every_job_is_done_once_whatever_the_number_of_workers(workers):
    assert results(workers=workers) == {0: 0, 1: 1, 2: 4, 3: 9}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_bar_ends_at_the_sum_of_the_sizes(workers):
    stream = io.StringIO()
    results(workers=workers, reporter=Reporter(stream, every_s=0), done=60)
    last = stream.getvalue().strip().splitlines()[-1]
    assert "100%" in last and "100/100" in last


@pytest.mark.parametrize("workers", [1, 2])
def test_the_error_of_a_job_comes_as_it_is(workers):
    with pytest.raises(FastaError, match=r"a\.fa, line 3: made to fail\."):
        results([*JOBS, Square(-1)], workers=workers)


def test_a_killed_worker_is_an_error_that_says_what_to_do():
    with pytest.raises(RunError, match=r"a worker process was killed.* with fewer workers"):
        results(work=die, workers=2)


def test_no_jobs_and_no_workers():
    assert results([]) == {}
    with pytest.raises(ValueError, match="at least 1"):
        results(workers=0)


def test_ray_is_asked_for_by_name_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"pip install 'umbel\[dist\]'"):
        results(executor="ray")


RAY_PROGRAM = """
import sys, time
sys.path[:0] = sys.argv[1:]
import test_executors as t
from umbel.data.corpus.executors import run_jobs
from umbel.errors import FastaError

assert t.results(executor="ray", workers=2) == {0: 0, 1: 1, 2: 4, 3: 9}
try:
    t.results([t.Square(-1)], executor="ray")
except FastaError as error:
    assert error.line == 3 and str(error).count("a.fa") == 1, error
    print("refused", flush=True)
"""


def test_ray_does_the_same_jobs_and_raises_the_same_errors():
    pytest.importorskip("ray")
    # Its sockets allow no long path.
    folder = tempfile.mkdtemp(prefix="ray")
    paths = [str(Path(__file__).parent), *(path for path in sys.path if path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "RAY_TMPDIR": folder}
    command = [sys.executable, "-c", RAY_PROGRAM, *paths]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "refused" in done.stdout
