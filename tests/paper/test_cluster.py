"""Jobs through submitit's local executor: success, failure and cancellation."""

import sys

import pytest

from lorae.errors import InputError
from lorae.paper import cluster

pytest.importorskip("submitit")

PARAMETERS = {"timeout_min": 10}  # longer than any job here takes, so no job ends by it


def submit(code: str, jobs: int, folder) -> list[cluster.Job]:
    command = [sys.executable, "-c", code]
    return cluster.submit(command, jobs, folder, cluster="local", parameters=PARAMETERS)


@pytest.mark.slow
def test_jobs_succeed_fail_and_are_cancelled(tmp_path):
    write = "import os, pathlib; pathlib.Path(os.environ['DONE'], str(os.getpid())).touch()"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DONE", str(tmp_path))
        jobs = submit(write, 2, tmp_path / "jobs")
        failing = submit("raise SystemExit(3)", 1, tmp_path / "jobs")
        endless = submit("import time; time.sleep(100)", 1, tmp_path / "jobs")
        assert endless[0].poll() is None
        assert [job.wait() for job in jobs] == [0, 0]
    assert [job.poll() for job in jobs] == [0, 0]
    assert sum(path.is_file() for path in tmp_path.iterdir()) == 2
    assert failing[0].wait() == 1
    endless[0].terminate()
    assert endless[0].wait() == 1  # 0 if the sleep had ended by itself
    jobs[0].terminate()  # has ended: nothing to cancel


def test_a_job_out_of_time_is_queued_again_unchanged():
    command = cluster.Command(["true"])
    assert command.checkpoint().function is command


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cluster": "moon"}, "cluster must be one of"),
        ({"parameters": {"warp": 9}}, "cannot be used: .*warp"),
    ],
)
def test_bad_clusters_and_parameters_are_refused(changed, message, tmp_path):
    with pytest.raises(InputError, match=message):
        cluster.submit(["true"], 1, tmp_path, **({"cluster": "local"} | changed))


def test_without_submitit_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"pip install 'lorae\[cluster\]'"):
        cluster.submit(["true"], 1, tmp_path)
