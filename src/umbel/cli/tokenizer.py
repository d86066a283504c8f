"""``umbel tokenizer train``: learn DNA words from a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Json, Out, Quiet, begin, finish

app = typer.Typer(no_args_is_help=True)


@app.callback()
def tokenizer() -> None:
    """Keep ``train`` a command of its own while it is the only one."""


@app.command()
def train(
    corpus: Annotated[Path, typer.Argument(help="Folder made by umbel corpus build.")],
    out: Out,
    vocab_size: Annotated[int, typer.Option(help="Tokens to have, 12 fixed ones among them.")] = 4096,
    bases: Annotated[int, typer.Option(help="Learn from training windows of about this many bases.")] = 50_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the windows and strands that are read.")] = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Learn the words of a vocabulary by byte-pair encoding: same corpus and settings, same bytes."""
    from umbel.data.bpe_training import train_bpe

    facts = train_bpe(corpus, out, vocab_size=vocab_size, max_bases=bases, seed=seed, reporter=begin(quiet))
    size, measured = facts["vocab_size"], facts["measured_on"]
    lines = [f"{out}: {size:,} tokens, the longest of {facts['longest_word_bp']:,} bases"]
    if size < vocab_size:
        lines.append(f"  {vocab_size:,} were asked for: no further pair of tokens occurs twice in what was read")
    lines.append(f"  bases per token, on {measured['bases']:,} bases of role {measured['role']}:")
    lines += [f"    {name:6} {value:.2f}" for name, value in sorted(facts["bases_per_token"].items())]
    lines.append(f"  to train with it: --set tokens.kind=bpe --set tokens.file={out} --set model.vocab_size={size}")
    finish({"path": str(out), **facts}, lines, json)
