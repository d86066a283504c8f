"""The cluster examples: the SLURM script is run with fakes, the Kubernetes one agrees with itself."""

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import typer.main
import yaml
from torch.distributed.run import get_args_parser

from umbel.cli import app

ROOT = Path(__file__).parents[1]
SBATCH = ROOT / "examples" / "cluster" / "pretrain.sbatch"
YAML = ROOT / "examples" / "cluster" / "pretrain.yaml"
GUIDE = (ROOT / "docs" / "guide" / "cluster.md").read_text()

# From sbatch's manual; those that take a value.
WITH_VALUE = {
    "account", "cpus-per-task", "constraint", "gpus-per-node", "gres", "job-name", "mem", "nodes", "ntasks-per-node",
    "open-mode", "output", "partition", "qos", "signal", "time",
}  # fmt: skip
WITHOUT_VALUE = {"exclusive", "requeue"}

# What each command was called with, one line a call. srun starts its tasks, one a node, as SLURM would; SIGTERM ends
# it and kills them, as the real one does. scancel signals the tasks; a task stops at SIGTERM, having saved.
FAKES = {
    "scontrol": """
echo "scontrol $*" >> "$CALLS"
[ "$1" = show ] && printf 'node%s\\n' $(seq 7 $((6 + SLURM_JOB_NUM_NODES)))
exit 0
""",
    "srun": """
echo "srun" >> "$CALLS"
while [[ "$1" == --* ]]; do shift; done
pids=()
for node in $(seq "$SLURM_JOB_NUM_NODES"); do "$@" & pids+=($!); done
printf '%s\\n' "${pids[@]}" > "$TASKS"
trap 'kill -KILL "${pids[@]}"; exit 143' TERM
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit "$status"
""",
    "torchrun": """
echo "torchrun $(printf '%q ' "$@")" >> "$CALLS"
trap 'echo saved >> "$CALLS"; exit 1' TERM
for _ in $(seq "${TASK_TENTHS:-0}"); do sleep 0.1; done
exit "${TASK_STATUS:-0}"
""",
    "scancel": """
echo "scancel $*" >> "$CALLS"
kill "-${1#--signal=}" $(cat "$TASKS")
""",
}


@pytest.fixture
def cluster(tmp_path):
    """Start the script as SLURM would; give the process and the file of calls."""
    fakes = tmp_path / "bin"
    fakes.mkdir()
    for name, body in FAKES.items():
        (fakes / name).write_text(f"#!/bin/bash\n{body}")
        (fakes / name).chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()

    def start(words, nodes=2, **more):
        environment = {
            "PATH": f"{fakes}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "TASKS": str(tmp_path / "tasks"),
            "SLURM_JOB_ID": "123456",
            "SLURM_JOB_NODELIST": "node[07-08]",
            "SLURM_JOB_NUM_NODES": str(nodes),
            **more,
        }
        process = subprocess.Popen(
            ["bash", str(SBATCH), *words], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        return process, calls

    return start


WORDS = ["plantbimoe", "my corpus", "run", "--set", "train.steps=10"]


def torchrun_words(line):
    return shlex.split(line.removeprefix("torchrun "))


def test_the_script_is_bash_with_documented_options():
    subprocess.run(["bash", "-n", str(SBATCH)], check=True)
    options = re.findall(r"^#SBATCH --([a-z-]+)(=\S+)?$", SBATCH.read_text(), re.M)
    assert len(options) == len(re.findall("^#SBATCH", SBATCH.read_text(), re.M)) > 8
    for name, value in options:
        assert name in (WITH_VALUE if value else WITHOUT_VALUE), name
    given = dict(options)
    assert given["ntasks-per-node"] == "=1"
    assert given["open-mode"] == "=append"
    grace = int(re.fullmatch(r"=B:TERM@(\d+)", given["signal"]).group(1))
    assert grace > int(re.search(r"SHUTDOWN_TIMEOUT=(\d+)", SBATCH.read_text()).group(1)) > 30


@pytest.mark.parametrize("nodes", [1, 2])
def test_the_script_starts_torchrun_on_every_node(cluster, nodes):
    process, calls = cluster(WORDS, nodes)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    lines = calls.read_text().splitlines()
    assert lines.count("srun") == 1
    started = [torchrun_words(line) for line in lines if line.startswith("torchrun")]
    assert len(started) == nodes
    for words in started:
        parsed = get_args_parser().parse_args(words)
        assert (parsed.nnodes, parsed.nproc_per_node, parsed.rdzv_backend) == (str(nodes), "gpu", "c10d")
        assert (parsed.rdzv_endpoint, parsed.rdzv_id) == ("node7:23456", "123456")
        assert (parsed.max_restarts, parsed.module, parsed.training_script) == (3, True, "umbel")
        assert parsed.training_script_args == (
            shlex.split(
                "pretrain plantbimoe --corpus 'my corpus' --out run --set parallel.kind=fsdp --set train.steps=10"
            )
        )
    assert not any("requeue" in line for line in lines)


def test_before_the_time_limit_all_nodes_save_and_the_job_goes_back_into_the_queue(cluster):
    process, calls = cluster(WORDS, TASK_TENTHS="300")
    end = time.monotonic() + 30
    while calls.read_text().count("torchrun") < 2:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.3)  # each task sets its trap after that line
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "job 123456 goes back into the queue" in told
    lines = calls.read_text().splitlines()
    assert lines[-4:] == ["scancel --signal=TERM 123456", "saved", "saved", "scontrol requeue 123456"]


def test_a_failure_is_not_repeated(cluster):
    process, calls = cluster(WORDS, TASK_STATUS="1")
    process.communicate(timeout=30)
    assert process.returncode == 1
    assert "requeue" not in calls.read_text()


def test_too_few_words_are_told(cluster):
    process, calls = cluster(["plantbimoe"])
    _, told = process.communicate(timeout=30)
    assert process.returncode == 2
    assert told.startswith("usage: sbatch pretrain.sbatch RECIPE CORPUS RUN")
    assert calls.read_text() == ""


def test_the_parts_of_the_kubernetes_example_agree():
    service, job = yaml.safe_load_all(YAML.read_text())
    assert [(x["apiVersion"], x["kind"]) for x in (service, job)] == [("v1", "Service"), ("batch/v1", "Job")]
    spec, template = job["spec"], job["spec"]["template"]
    pod = template["spec"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert pod["subdomain"] == service["metadata"]["name"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    parsed = get_args_parser().parse_args(container["command"][1:])
    assert container["command"][0] == "torchrun"
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(parsed.nnodes)
    assert int(parsed.nproc_per_node) == container["resources"]["limits"]["nvidia.com/gpu"]
    # The first pod of an indexed job, under the headless service.
    host, port = parsed.rdzv_endpoint.split(":")
    assert host == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    (service_port,) = service["spec"]["ports"]
    (container_port,) = container["ports"]
    assert int(port) == service_port["port"] == container_port["containerPort"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert "/dev/shm" in mounts
    words = parsed.training_script_args
    for option in ("--corpus", "--out"):
        assert any(words[words.index(option) + 1].startswith(f"{mount}/") for mount in mounts)
    (timeout,) = (int(v["value"]) for v in container["env"] if v["name"] == "TORCH_ELASTIC_SHUTDOWN_TIMEOUT")
    assert 30 < timeout < pod["terminationGracePeriodSeconds"]
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")


def umbel_words():
    yield list(yaml.safe_load_all(YAML.read_text()))[1]["spec"]["template"]["spec"]["containers"][0]["command"]
    for line in re.findall(r"^torchrun .*$", GUIDE, re.M):
        yield shlex.split(line)


@pytest.mark.parametrize("words", list(umbel_words()), ids=" ".join)
def test_what_torchrun_starts_is_a_command_of_ours(words):
    parsed = get_args_parser().parse_args(words[1:])
    assert (parsed.module, parsed.training_script) == (True, "umbel")
    command = typer.main.get_command(app)
    context = command.make_context("umbel", [], resilient_parsing=True)
    name, command, rest = command.resolve_command(context, parsed.training_script_args)
    assert name == "pretrain"
    options, _, _ = command.make_parser(command.make_context(name, list(rest), resilient_parsing=True)).parse_args(rest)
    assert options["corpus"] and options["out"]


def test_the_python_of_the_guide_runs(toy_training, capsys):
    code = re.search(r"```python\n(.*?)```", GUIDE, re.S).group(1)
    exec(
        code.replace('open("run/metrics.jsonl")', "text.splitlines()"),
        {"text": (toy_training / "metrics.jsonl").read_text()},
    )
    assert len(capsys.readouterr().out.split()) == 3
