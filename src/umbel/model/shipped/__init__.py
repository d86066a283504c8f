"""Models that come with the package, and the one rule of what a user means by a CKPT."""

from __future__ import annotations

from pathlib import Path

from umbel.errors import CheckpointError

SHIPPED = ("mini",)
"""Names that mean a model of the package wherever a checkpoint is asked for; each is a folder beside this file."""
_NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "run.json", "README.md")
_MARKS = ("config.json", "run.json", "checkpoint/config.json")
"""Any of these makes a folder one of ours: a checkpoint, or a run, finished or not."""


def shipped_folder(name: str) -> Path:
    """Find a model that comes with the package.

    Raises
    ------
    CheckpointError
        If there is none of that name, or the installation has lost a file of it.

    Examples
    --------
    >>> shipped_folder("mini").name
    'mini'
    """
    if name not in SHIPPED:
        raise CheckpointError(f"{name}: no model of that name comes with umbel, which has {', '.join(SHIPPED)}")
    folder = Path(__file__).parent / name
    missing = [file for file in _NEEDED if not (folder / file).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: the model {name} comes with umbel, and this installation lacks {', '.join(missing)} of it. "
            "Install umbel again (pip install --force-reinstall --no-deps umbel), or in a checkout fetch the folder "
            "back (git checkout -- src/umbel/model/shipped)"
        )
    return folder


def model_path(checkpoint: str | Path) -> Path:
    """Tell where the model is that a user named: a text that is just ``mini`` comes with the package.

    Any other text, and every ``Path``, is a path. ``"./mini"`` is the folder of that name.

    Raises
    ------
    CheckpointError
        If the name could mean both: there is also a folder of that name here with a model or run in it.

    Examples
    --------
    >>> model_path("mini") == shipped_folder("mini"), model_path("./mini"), model_path("runs/mini")
    (True, PosixPath('mini'), PosixPath('runs/mini'))
    """
    if isinstance(checkpoint, Path) or checkpoint not in SHIPPED:
        return Path(checkpoint)
    folder = shipped_folder(checkpoint)
    if any(Path(checkpoint, mark).exists() for mark in _MARKS):
        raise CheckpointError(
            f"{checkpoint}: this could be the model that comes with umbel, and it could be the folder of that name in "
            f"{Path.cwd()}. Write ./{checkpoint} for the folder, or {folder} for the model of the package"
        )
    return folder


def model_text(path: Path) -> str:
    """Write down where a model is, so that :func:`model_path` understands it here and on other machines.

    Examples
    --------
    >>> model_text(shipped_folder("mini")), model_text(Path("./mini")), model_text(Path("runs/a"))
    ('mini', './mini', 'runs/a')
    """
    if path.name in SHIPPED and path.resolve() == (Path(__file__).parent / path.name).resolve():
        return path.name
    return f"./{path}" if str(path) in SHIPPED else str(path)


def about_shipped(path: Path) -> str:
    """Say which models come with the package, where a path that was named may have been meant as one of them.

    Examples
    --------
    >>> about_shipped(Path("midi"))
    '. With umbel come: mini'
    >>> about_shipped(Path("runs/midi"))
    ''
    """
    if path.exists() or len(path.parts) != 1:
        return ""
    as_text = f". As a text, {str(path)!r}, it is the one" if str(path) in SHIPPED else ""
    return f". With umbel come: {', '.join(SHIPPED)}{as_text}"
