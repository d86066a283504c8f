"""Fetch the files of a suite from the Hugging Face Hub, for those who are online; nothing is re-hosted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from umbel.errors import OutputError
from umbel.evaluate.suites.long_range import shard_names
from umbel.evaluate.suites.manifest import Dataset, Suite
from umbel.files import sha256_file, writing
from umbel.progress import Reporter, reporter_or_silent

Wanted = tuple[tuple[str, ...], str | None]


def fetch_suite(
    suite: Suite, folder: str | Path, datasets: Sequence[str] = (), reporter: Reporter | None = None
) -> list[Path]:
    """Download what is not there yet; the same call goes on where an earlier one broke off.

    Parameters
    ----------
    suite
        Whose files.
    folder
        Where they go, in the publishers' own layout.
    datasets
        Fetch these only; none: all.
    reporter
        Told the licences first, then of each file.

    Returns
    -------
    The files, those that were there already too.

    Raises
    ------
    ConfigError
        If a name of ``datasets`` is none of the suite's.
    OutputError
        If files cannot be fetched: not on the Hub, no network, gated, not found, or another checksum than the
        manifest's; with the page to go to.
    """
    reporter = reporter_or_silent(reporter)
    chosen = [suite.dataset(name) for name in datasets] or list(suite.datasets)
    for licence in dict.fromkeys(dataset.source.licence for dataset in chosen):
        pages = dict.fromkeys(dataset.source.page for dataset in chosen if dataset.source.licence == licence)
        reporter.say(f"licence: {licence} ({', '.join(pages)})")
    for dataset in chosen:
        if not dataset.source.repo:
            raise OutputError(
                f"{suite.name}: {dataset.name} is not on the Hugging Face Hub. {dataset.source.how or 'See its page'}. "
                f"Page: {dataset.source.page}"
            )
    wanted = {(dataset.folder, files): (dataset, sha256) for dataset in chosen for files, sha256 in _files(dataset)}
    progress = reporter.start("Fetching", len(wanted), "files")
    fetched = []
    for (_, files), (dataset, sha256) in wanted.items():
        fetched.append(_fetch(suite, dataset, files, sha256, Path(folder) / dataset.folder))
        progress.advance(note=fetched[-1].name)
    progress.close()
    for how in dict.fromkeys(dataset.source.how for dataset in chosen if dataset.genomes and dataset.source.how):
        reporter.say(how)
    return fetched


def _files(dataset: Dataset) -> Iterator[Wanted]:
    """Yield the names that each file of a dataset may have in its repository, and its checksum."""
    for split, file in dataset.splits():
        if file.reader == "classes":
            for path in file.paths:
                yield from (((f"{path}/{name}.csv.gz",), None) for name in dataset.classes)
            continue
        yield file.paths, file.sha256
        if file.reader == "lrb_tracks":
            parent = Path(file.paths[0]).parent.as_posix()
            yield from (((f"{parent}/targets_subset/{name}",), None) for name in shard_names(split))
    yield from (((path,), None) for path in dataset.companions)


def _fetch(suite: Suite, dataset: Dataset, names: tuple[str, ...], sha256: str | None, folder: Path) -> Path:
    """Fetch the first of ``names`` that the repository has."""
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    path = path or next((found for name in names if (found := _download(suite, dataset, name, folder))), None)
    if path is None:
        raise OutputError(
            f"{suite.name}: {dataset.source.repo} has no file {' or '.join(names)}. Its publishers may have "
            f"changed it: see {dataset.source.page}"
        )
    if sha256 and sha256_file(path) != sha256:
        raise OutputError(
            f"{suite.name}: {path} has another sha256 than the manifest's {sha256}. Delete it, and retry."
        )
    return path


def _download(suite: Suite, dataset: Dataset, name: str, folder: Path) -> Path | None:
    """Download one file; None if the repository has none of that name."""
    import huggingface_hub
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    source = dataset.source
    where = f"{suite.name}: {name} of {source.repo}"
    try:
        with writing(folder / name):
            revision = source.revision or None
            return Path(
                huggingface_hub.hf_hub_download(
                    source.repo, name, repo_type="dataset", revision=revision, local_dir=folder
                )
            )
    # Being offline is a kind of not finding the entry, and must come first.
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        raise OutputError(
            f"{where} cannot be fetched: the Hugging Face Hub is not reached from here. Run this where it is, or get "
            f"the files from {source.page} and copy them into {folder}; then umbel suite check tells whether they fit."
        ) from error
    except EntryNotFoundError:
        return None
    except GatedRepoError as error:
        raise OutputError(
            f"{where} is gated: accept its terms at {source.page}, and log in with hf auth login."
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise OutputError(f"{where}: no such repository or revision any more. See {source.page}") from error
    except HfHubHTTPError as error:
        raise OutputError(f"{where} cannot be fetched: {error}. See {source.page}") from error
    except Exception as error:
        # Which of these the Hub's client is built on changes with its version.
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "requests"):
            raise
        raise OutputError(
            f"{where}: the connection broke ({error}). Run the same command again, it goes on from here. "
            f"Page: {source.page}"
        ) from error
