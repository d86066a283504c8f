"""What a killed run needs to go on exactly: weights and optimisers, whole on disk, written while training goes on.

A state is a folder: shards as torch's distributed checkpoint writes them, each process its own, and ``state.json`` with
the plain numbers and the size and SHA-256 of every file. It gets its name only when all of it is there.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from umbel.errors import RunError
from umbel.files import asking_the_disk, sha256_file, sha256_json, whole_file, write_json, writing
from umbel.progress import Reporter
from umbel.train.processes import World

FACTS = "state.json"
_PREFIX, _TEMPORARY = "step-", ".step-"


class StateWriter:
    """Writes states of a run, one at a time, in a thread of its own.

    Parameters
    ----------
    folder
        Where they go, on a file system that all processes see.
    keep
        How many of the newest to keep.
    """

    def __init__(self, folder: Path, keep: int, world: World):
        self._folder, self._keep, self._world = folder, keep, world
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="umbel-state")
        self._coming: Future[None] | None = None
        world.first(self._clear)

    def _clear(self) -> None:
        """Remove what a killed run left half-written."""
        for path in self._folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(path, ignore_errors=True)

    def save(self, step: int, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Copy everything as it is now, and write it while the caller goes on; wait for the one before.

        Raises
        ------
        OutputError
            If the state before this one could not be written; the states before that are whole.
        """
        self.wait()
        copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        self._coming = self._thread.submit(self._write, step, copies, json.loads(json.dumps(numbers)))

    def wait(self) -> None:
        """Wait until the last state is whole.

        Raises
        ------
        OutputError
            If it could not be written.
        """
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.result()

    def close(self) -> None:
        """Wait, and end the thread; also after a failure."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def _write(self, step: int, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        group, target = self._world.files_group, self._folder / f"{_PREFIX}{step:09d}"
        temporary = self._folder / f"{_TEMPORARY}{step:09d}.tmp"
        with writing(target):
            try:
                temporary.mkdir(parents=True, exist_ok=True)
                with asking_the_disk(temporary):
                    self._write_shards(temporary, tensors)
                own = {
                    path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
                    for path in sorted(temporary.iterdir())
                    if path.name.startswith(f"__{self._world.rank}_") or (self._world.is_first and path.name[0] == ".")
                }
                everyones: list[Any] = [own]
                if self._world.size > 1:
                    everyones = [None] * self._world.size if self._world.is_first else []
                    dist.gather_object(own, everyones or None, dst=0, group=group)
                if self._world.is_first:
                    files = {name: facts for part in everyones for name, facts in part.items()}
                    facts = {"step": step, "numbers": numbers, "processes": self._world.size, "files": files}
                    write_json(temporary / FACTS, facts | {"check": sha256_json(facts)})
                    if target.exists():
                        shutil.rmtree(target)
                    os.replace(temporary, target)
                    _sync_folder(self._folder)
                    self._prune(target)
            except BaseException:
                if self._world.is_first:
                    shutil.rmtree(temporary, ignore_errors=True)
                raise

    def _prune(self, newest: Path) -> None:
        """Delete all but the newest; a later one than that just written is damaged, or this run would be beyond it."""
        found = sorted(self._folder.glob(f"{_PREFIX}*"))
        older = [path for path in found if path.name <= newest.name]
        for path in {*found} - {*older[-self._keep :]}:
            shutil.rmtree(path)

    def _write_shards(self, folder: Path, tensors: dict[str, Tensor]) -> None:
        writer = FileSystemWriter(folder, single_file_per_rank=True, sync_files=True)
        if self._world.size == 1:
            _write_alone(writer, tensors)
            return
        try:
            save(tensors, storage_writer=writer, process_group=self._world.files_group)
        except CheckpointException as failure:
            # The cause of one process, told to all; a disk's refusal is looked for among them.
            causes = [error for error, _ in failure.failures.values()]
            raise next((error for error in causes if isinstance(error, OSError)), causes[0]) from failure


def _write_alone(writer: FileSystemWriter, tensors: dict[str, Tensor]) -> None:
    """Do what torch's ``save`` does, for one process: that one warns of it, which a thread cannot hush for itself."""
    planner = DefaultSavePlanner()
    planner.set_up_planner(tensors, writer.storage_meta(), is_coordinator=True)
    writer.set_up_storage_writer(is_coordinator=True)
    plans, metadata = planner.create_global_plan([writer.prepare_local_plan(planner.create_local_plan())])
    plan = planner.finish_plan(writer.prepare_global_plan(plans)[0])
    writer.finish(metadata, [writer.write_data(plan, planner).wait()])


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def newest_state(folder: Path, reporter: Reporter) -> tuple[Path, int, dict[str, Any]] | None:
    """Find the newest state that is whole: its folder, its step and its numbers; None where there is none.

    Every file is compared with its checksum. A damaged state is named and passed over, and the one before it is taken.

    Raises
    ------
    RunError
        If there are states of an older layout only.
    """
    for path in sorted(folder.glob(f"{_PREFIX}*"), reverse=True):
        if path.is_file():
            raise RunError(f"{path}: a state as umbel wrote them before 0.2; start this run anew in another folder")
        try:
            facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
            check = facts.pop("check")
            if check != sha256_json(facts):
                raise ValueError(f"{FACTS} does not agree with its checksum")
            for name, file in facts["files"].items():
                _require_whole(path / name, file)
            return path, int(facts["step"]), facts["numbers"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reporter.say(f"warning: {path} is damaged ({error}); going back to the state before it")
    return None


def _require_whole(path: Path, facts: dict[str, Any]) -> None:
    if path.stat().st_size != facts["bytes"]:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes of {facts['bytes']:,}")
    if sha256_file(path) != facts["sha256"]:
        raise ValueError(f"{path.name} does not agree with its checksum")


def saved_shapes(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Give the whole shape and the dtype of every tensor in a state."""
    metadata = FileSystemReader(folder).read_metadata()
    return {
        name: (facts.size, facts.properties.dtype)
        for name, facts in metadata.state_dict_metadata.items()
        if isinstance(facts, TensorStorageMetadata)
    }


def read_tensors(folder: Path, tensors: dict[str, Tensor], world: World) -> None:
    """Read a state into tensors that are there, however many processes wrote it and hold it now.

    Raises
    ------
    RunError
        If the state has not what the run needs.
    """
    reader = FileSystemReader(folder)
    try:
        with warnings.catch_warnings():
            # It says that one process is one process.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(tensors, storage_reader=reader, process_group=world.files_group, no_dist=world.size == 1)
    except CheckpointException as failure:
        error = next(iter(failure.failures.values()))[0]
        raise RunError(f"{folder}: does not fit this run ({error}); start in a new folder") from failure


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``; a last line cut short by a kill is left out.

    Raises
    ------
    RunError
        If any other line is not JSON.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise RunError(f"{path}, line {number}: not JSON ({error}); delete that line") from error
    return records


def rewind_metrics(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop what a killed run wrote after its last state, so that no step is told twice."""
    records = [record for record in read_metrics(path) if record["step"] <= step]
    with whole_file(path) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return records
