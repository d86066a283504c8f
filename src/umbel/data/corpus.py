"""Build a corpus from a manifest: packed assemblies and an index of windows, as a pure function of both.

Each assembly is a job of its own, so a build may use several processes and go on after it was killed;
the bytes are the same whatever the number of processes and interruptions.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from umbel.config import CorpusConfig, to_dict
from umbel.data.manifest import ROLES, Assembly, read_manifest
from umbel.data.packing import AssemblyJob, pack_assembly
from umbel.data.store import (
    CONTIGS_FILE,
    CONTIGS_SCHEMA,
    FACTS_FILE,
    FORMAT,
    FORMAT_VERSION,
    REGIONS_FILE,
    REGIONS_SCHEMA,
    WINDOWS_FILE,
    WINDOWS_SCHEMA,
    Corpus,
    nibbles_name,
)
from umbel.errors import CorpusError, InputError, RunError, UmbelError
from umbel.files import sha256_file, sha256_json, whole_file, write_json, writing
from umbel.progress import Reporter, reporter_or_silent
