"""A trained model ready for use: log-probabilities, embeddings and routes of sequences of any lengths."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from umbel.data.bpe import BpeTokens
from umbel.data.kmers import Encoding
from umbel.data.masking import hide
from umbel.data.tokenizers import Tokens, describe, load_tokens
from umbel.data.vocabulary import PAD_ID
from umbel.errors import CheckpointError, ConfigError
from umbel.genome.sequence import Codes, Mask, N, encode, revcomp
from umbel.model.backbone import Backbone, Output, count_parameters
from umbel.model.checkpoint import checkpoint_folder, load_checkpoint, weights_hash
from umbel.model.hf import UmbelForMaskedLM, new_model
from umbel.model.pooling import Pool
from umbel.ops.devices import resolve_device
from umbel.predict.per_base import base_log_probs, joined, read_hidden_bases

if TYPE_CHECKING:
    import pyarrow as pa

    from umbel.genome.interval import Interval
    from umbel.genome.reference import Reference
    from umbel.predict.embed.file import EmbedResult
    from umbel.predict.embed.picture import PictureSettings
    from umbel.predict.embed.settings import EmbedSettings
    from umbel.predict.head import Head
    from umbel.predict.ism.result import IsmResult
    from umbel.predict.ism.settings import IsmSettings
    from umbel.predict.scan.genome_scan import TrackScan
    from umbel.predict.scan.settings import TrackSettings
    from umbel.predict.search.query import SearchResult
    from umbel.predict.tracks.calls import CallSettings
    from umbel.predict.variants.scoring import VariantsResult
    from umbel.predict.variants.settings import VariantSettings
    from umbel.progress import Reporter

Strand = Literal["forward", "revcomp", "both"]
Pooling = Literal["mean", "max", "first", "last"]
EMBEDDING_POOLINGS: tuple[Pooling, ...] = ("mean", "max", "first", "last")
ONE_STRAND: tuple[Strand, Strand] = ("forward", "revcomp")

TOKENS_PER_BATCH = 16_384
"""Padded tokens of one forward pass; a longer sequence goes alone. It changes memory and speed, not results."""
LOGITS_AT_ONCE = 2**24
"""Logits of hidden bases that are held at a time."""


def require_strand(strand: str) -> None:
    """See that a strand is one of the three.

    Raises
    ------
    ValueError
        Naming them.
    """
    if strand not in (*ONE_STRAND, "both"):
        raise ValueError(f"strand is {strand!r}: use forward, revcomp or both")


def require_layer(layer: int, n_layers: int) -> None:
    """See that a model has a layer whose states can be taken.

    Raises
    ------
    ConfigError
        Saying which there are.
    """
    if not -1 <= layer < n_layers:
        raise ConfigError(
            f"layer {layer}: this model has layers 0 to {n_layers - 1}, and -1 is the last one after the final norm"
        )


def require_embedding_pooling(pooling: str) -> None:
    """See that a pooling needs nothing learnt and gives one vector.

    Raises
    ------
    ConfigError
        Saying which there are.
    """
    if pooling == "none":
        raise ConfigError(
            "pooling none: a row for every base takes 4 x D bytes a base, hundreds of times the genome. Use mean, max, "
            "first or last; Predictor.backbone gives the states of single tokens of a sequence in Python"
        )
    if pooling not in EMBEDDING_POOLINGS:
        raise ConfigError(f"pooling {pooling}: use {', '.join(EMBEDDING_POOLINGS[:-1])} or {EMBEDDING_POOLINGS[-1]}")


class Predictor:
    """A masked language model and everything one asks of it without training.

    Sequences are arrays of base codes (A 0, C 1, G 2, T 3, N 4; see :func:`umbel.genome.sequence.encode`).
    They are sorted by length, padded and batched inside; a result depends on its own sequence only, within
    1e-5.

    Attributes
    ----------
    window_bp
        Longest window seen in training; longer sequences are computed, but nobody has trained for them.
    weights_hash
        SHA-256 of the weights file, or ``random-SEED``.
    tokens
        How bases become tokens.
    min_bases
        Bases of the shortest sequence that has a token.
    """

    def __init__(self, model: UmbelForMaskedLM, weights_hash: str, device: torch.device, tokens: Tokens):
        self._model = model.to(device).eval()
        self._device = device
        self.weights_hash = weights_hash
        self.tokens = tokens
        self.min_bases = tokens.shortest
        self.window_bp: int = model.config.window_bp
        self.config = model.config.model
        self.n_parameters, self.n_active_parameters = count_parameters(self.config)
        self.n_experts: int = self.config.n_experts
        self.moe_layers = tuple(i for i, kind in enumerate(self.config.layer_kinds) if kind[1] == "e")

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Predictor:
        """Load a checkpoint folder, a run folder, or a released PlantBiMoE folder.

        Raises
        ------
        CheckpointError
            If it does not hold a model of ours, whole.
        BackendError
            If the device is not here.
        """
        place = resolve_device(device)
        model = load_checkpoint(path)
        tokens = load_tokens(checkpoint_folder(path), model.config.tokens)
        if tokens.size > model.config.vocab_size:
            raise CheckpointError(f"{path}: config.json tells of {tokens.size} tokens, and the model has fewer")
        return cls(model, weights_hash(path), place, tokens)

    def with_random_weights(self, seed: int) -> Predictor:
        """Make the same network as it was before training: the baseline of every claim about its weights."""
        model = new_model(self.config, self.window_bp, seed, describe(self.tokens))
        return Predictor(model, f"random-{seed}", self._device, self.tokens)

    def with_backbone(self, backbone: Backbone, weights_hash: str) -> Predictor:
        """Put this model's language head on another backbone of its shape: one that was tuned, wholly or by an adapter.

        Parameters
        ----------
        backbone
            Shared, not copied: it moves to this predictor's device and into evaluation mode. Adapters may be in it.
        weights_hash
            What identifies its weights.

        Raises
        ------
        ConfigError
            If it has another shape.
        """
        if backbone.config != self.config:
            raise ConfigError("this backbone has another shape than the model, whose language head cannot stand on it")
        # The copy takes the other backbone in place of its own; a tied head keeps the base's embedding.
        model = copy.deepcopy(self._model, {id(self._model.backbone): backbone})
        return Predictor(model, weights_hash, self._device, self.tokens)

    @property
    def backbone(self) -> Backbone:
        """The network below the head, on its device and ready for inference."""
        return self._model.backbone

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self._device

    def require_base_probabilities(self) -> None:
        """See that the tokens let one base be hidden at a time.

        Raises
        ------
        ConfigError
            If they are learnt words.
        """
        if isinstance(self.tokens, BpeTokens):
            raise ConfigError(
                "this model's tokens are learnt words (BPE), and where a hidden word ends would give its bases away: "
                "it has no probability of a single base, and so no masked loss per base. umbel embed and umbel scan "
                "work with it"
            )

    def _encode(self, codes: Sequence[Codes]) -> list[Encoding]:
        for i, sequence in enumerate(codes):
            if len(sequence) < self.min_bases:
                raise ValueError(
                    f"sequence {i} has {len(sequence)} bases, and this model's tokens have {self.min_bases}"
                )
        return [self.tokens.encode(sequence) for sequence in codes]

    def _batches(self, ids: Sequence[np.ndarray]) -> Iterator[list[int]]:
        """Group the indices of similar lengths, longest first, within the token budget."""
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        start = 0
        while start < len(order):
            size = max(1, TOKENS_PER_BATCH // len(ids[order[start]]))
            yield order[start : start + size]
            start += size

    @torch.inference_mode()
    def _run(
        self, ids: Sequence[np.ndarray], use: Callable[[Tensor, Output, list[int]], None], n_layers: int | None = None
    ) -> None:
        """Run every sequence through the first layers, or all; ``use`` gets each padded batch with its indices."""
        for indices in self._batches(ids):
            width = len(ids[indices[0]])
            batch = np.full((len(indices), width), PAD_ID)
            for row, i in enumerate(indices):
                batch[row, : len(ids[i])] = ids[i]
            tensor = torch.from_numpy(batch).to(self._device)
            use(tensor, self._model.backbone(tensor, n_layers=n_layers), indices)

    def masked_log_probs(
        self, codes: Sequence[Codes], hidden: Sequence[Mask], strand: Strand = "forward"
    ) -> list[np.ndarray]:
        """Say how likely each base is at hidden positions, all of a sequence's hidden at once.

        Parameters
        ----------
        codes
            Sequences, ``(L_i,)`` each.
        hidden
            Where to hide the base behind ``[MASK]``, ``(L_i,)`` bool each. Every k-mer that covers a hidden base
            is masked; its visible bases count as known.
        strand
            ``forward`` as given; ``revcomp``: read as reverse complement; ``both``: the mean of the two readings'
            log-probabilities. Rows and columns are those of the sequence as given, whatever the reading.

        Returns
        -------
        One ``(hidden_i, 4)`` float32 array a sequence: natural-log probabilities of A, C, G and T,
        renormalised over these four; see :func:`umbel.predict.per_base.base_log_probs`.

        Raises
        ------
        ConfigError
            If the tokens are learnt words.
        ValueError
            If a sequence is shorter than one token, or the strand is none of the three.
        """
        self.require_base_probabilities()
        require_strand(strand)
        if strand == "both":
            readings = zip(*(self.masked_log_probs(codes, hidden, one) for one in ONE_STRAND), strict=True)
            return [(forward + other) / 2 for forward, other in readings]
        if strand == "revcomp":
            turned = self._masked_log_probs([revcomp(s) for s in codes], [mask[::-1] for mask in hidden])
            return [logs[::-1, ::-1] for logs in turned]
        return self._masked_log_probs(codes, hidden)

    def _masked_log_probs(self, codes: Sequence[Codes], hidden: Sequence[Mask]) -> list[np.ndarray]:
        tokens = self.tokens
        assert not isinstance(tokens, BpeTokens)
        encodings = self._encode(codes)
        readings = [
            read_hidden_bases(encoding, sequence, mask, tokens.k)
            for encoding, sequence, mask in zip(encodings, codes, hidden, strict=True)
        ]
        ids = [hide(encoding, mask).input_ids for encoding, mask in zip(encodings, hidden, strict=True)]
        results: list[np.ndarray] = [np.empty((0, 4), np.float32)] * len(ids)
        size = max(1, LOGITS_AT_ONCE // tokens.size)

        def use(tensor: Tensor, output: Output, indices: list[int]) -> None:
            counts = [len(readings[i].token) for i in indices]
            row, reading = np.repeat(np.arange(len(indices)), counts), joined([readings[i] for i in indices])
            states = output.hidden[torch.from_numpy(row), torch.from_numpy(reading.token)]
            logs = [
                base_log_probs(
                    self._model.lm_head(states[start : start + size]),
                    tokens.first_of_length,
                    reading.part(slice(start, start + size)),
                )
                for start in range(0, len(row), size)
            ]
            parts = np.split(np.concatenate([np.empty((0, 4), np.float32), *logs]), np.cumsum(counts)[:-1])
            for i, part in zip(indices, parts, strict=True):
                results[i] = part

        self._run(ids, use)
        return results

    def pseudo_log_probs(
        self, codes: Sequence[Codes], phases: Sequence[Codes], strand: Strand = "forward"
    ) -> list[np.ndarray]:
        """Say how likely each base is, every one hidden once, those of one phase together.

        Parameters
        ----------
        codes
            Sequences, ``(L_i,)`` each.
        phases
            uint8 ``(L_i,)`` each: the pass in which a base is hidden, such as
            :func:`umbel.predict.phases.strided` gives; a sequence takes as many passes as it has phases.
        strand
            As in :meth:`masked_log_probs`.

        Returns
        -------
        One ``(L_i, 4)`` float32 array a sequence: natural-log probabilities of A, C, G and T at each base; NaN where
        the base is N, which is never hidden.

        Raises
        ------
        ConfigError, ValueError
            As :meth:`masked_log_probs`; or if phases have another length than their sequence.
        """
        shown: list[Codes] = []
        hidden: list[Mask] = []
        source: list[int] = []
        for i, (sequence, phase) in enumerate(zip(codes, phases, strict=True)):
            if sequence.shape != phase.shape:
                raise ValueError(f"sequence {i} has {len(sequence)} bases, and its phases are {len(phase)}")
            known = sequence < N
            for number in np.unique(phase[known]).tolist():
                shown.append(sequence)
                hidden.append(known & (phase == number))
                source.append(i)
        results = [np.full((len(sequence), 4), np.nan, np.float32) for sequence in codes]
        for i, mask, logs in zip(source, hidden, self.masked_log_probs(shown, hidden, strand), strict=True):
            results[i][mask] = logs
        return results

    def embed(
        self,
        sequences: Sequence[Codes] | Sequence[str],
        strand: Strand = "both",
        layer: int = -1,
        pooling: Pooling = "mean",
    ) -> np.ndarray:
        """Make one vector of each sequence from the states of its tokens of real bases (A, C, G, T).

        Parameters
        ----------
        sequences
            Base codes, ``(L_i,)`` each, or letters; every one with at least one real base.
        strand
            ``forward`` as given, ``revcomp`` as its reverse complement, ``both`` the mean of the two: the
            embedding of a sequence and of its reverse complement are then equal.
        layer
            -1: the states after the last layer and the final norm. 0 to n_layers - 1: the residual stream after that
            layer, which no norm has seen; the layers behind it are not computed.
        pooling
            ``mean`` or ``max`` of the states, number by number, or the state of the ``first`` or ``last`` token, in
            the order of reading.

        Returns
        -------
        ``(n, D)`` float32.

        Raises
        ------
        ValueError
            If a sequence has no real base, a letter that is no nucleotide, or fewer bases than one token, or the
            strand is none of the three.
        ConfigError
            If there is no such layer or pooling.
        """
        require_strand(strand)
        codes = [encode(s.encode())[0] if isinstance(s, str) else s for s in sequences]
        empty = [i for i, sequence in enumerate(codes) if not (sequence < 4).any()]
        if empty:
            raise ValueError(f"sequence {empty[0]} has no A, C, G or T: there is nothing to average")
        if strand == "both":
            forward, other = (self.embed(codes, one, layer, pooling) for one in ONE_STRAND)
            return (forward + other) / 2
        shown = [revcomp(sequence) if strand == "revcomp" else sequence for sequence in codes]
        return self.embed_tokens([encoding.ids for encoding in self._encode(shown)], layer, pooling)

    def embed_tokens(self, ids: Sequence[np.ndarray], layer: int = -1, pooling: Pooling = "mean") -> np.ndarray:
        """Do the work of :meth:`embed` for sequences that are framed token ids, int64 ``(T_i,)`` each.

        A sequence without a token of real bases gets zeros.

        Raises
        ------
        ConfigError
            If there is no such layer or pooling.
        """
        require_layer(layer, self.config.n_layers)
        require_embedding_pooling(pooling)
        pool = Pool(pooling, self.config.d_model)
        # They stay on the device until the end: a copy at every batch would make it wait.
        order: list[int] = []
        pooled: list[Tensor] = [torch.empty(0, self.config.d_model, device=self._device)]

        def use(tensor: Tensor, output: Output, indices: list[int]) -> None:
            order.extend(indices)
            pooled.append(pool(output.hidden, tensor))

        self._run(ids, use, None if layer == -1 else layer + 1)
        result = np.empty((len(ids), self.config.d_model), np.float32)
        result[order] = torch.cat(pooled).cpu().numpy()
        return result

    def routes(self, codes: Sequence[Codes]) -> list[np.ndarray]:
        """Tell which experts each base was sent to: those of the token that stands for it.

        Where several do (overlapping k-mers), it is the last to begin.

        Returns
        -------
        One ``(expert layers, L_i, K)`` uint8 array a sequence.

        Raises
        ------
        ValueError
            If a sequence is shorter than one token.
        """
        encodings = self._encode(codes)
        results: list[np.ndarray] = [np.empty(0, np.uint8)] * len(codes)

        def use(tensor: Tensor, output: Output, indices: list[int]) -> None:
            experts = torch.stack([routing.experts for routing in output.routings]).to(torch.uint8).cpu().numpy()
            for row, i in enumerate(indices):
                results[i] = experts[:, row, encodings[i].token_of_base(len(codes[i]))]

        if self.moe_layers:
            self._run([encoding.ids for encoding in encodings], use)
            return results
        return [np.empty((0, len(sequence), self.config.top_k), np.uint8) for sequence in codes]

    def score_variants(
        self,
        vcf: str | Path,
        reference: str | Path,
        out: str | Path | None = None,
        *,
        settings: VariantSettings | None = None,
        head: Head | str | Path | None = None,
        contig_map: str | Path | None = None,
        background_file: str | Path | None = None,
        reporter: Reporter | None = None,
    ) -> VariantsResult | pa.Table:
        """Score the variants of a VCF file: :func:`umbel.predict.variants.scoring.score_variants`.

        Without ``out`` a table is given that has a row for each record and allele, and nothing is written.
        """
        from umbel.predict.variants import scoring

        return scoring.score_or_give(
            self,
            vcf,
            reference,
            out,
            settings=settings,
            head=head,
            contig_map=contig_map,
            background_file=background_file,
            reporter=reporter,
        )

    def embed_file(
        self,
        source: str | Path,
        out: str | Path,
        *,
        fasta: str | Path | None = None,
        regions: Sequence[str] = (),
        settings: EmbedSettings | None = None,
        search: str | Path | None = None,
        species: str = "",
        picture: PictureSettings | None = None,
        reporter: Reporter | None = None,
    ) -> EmbedResult:
        """Embed a FASTA, regions of it, or a BED on ``fasta``; see :func:`umbel.predict.embed.embed_file`."""
        from umbel.predict.embed.file import embed_file

        return embed_file(
            self,
            source,
            out,
            fasta=fasta,
            regions=regions,
            settings=settings,
            search=search,
            species=species,
            picture=picture,
            reporter=reporter,
        )

    def search(
        self,
        index: str | Path,
        query: str | Path,
        *,
        fasta: str | Path | None = None,
        k: int = 10,
        species: str = "",
        contig: str = "",
        interval: str = "",
        approximate: bool = False,
    ) -> SearchResult:
        """Find the rows of an index that are most like a query; see :func:`umbel.predict.search.search`."""
        from umbel.predict.search.query import search

        return search(
            self,
            index,
            query,
            fasta=fasta,
            k=k,
            species=species,
            contig=contig,
            interval=interval,
            approximate=approximate,
        )

    def ism(
        self,
        reference: str | Path | Reference,
        region: str | Interval | None = None,
        out: str | Path | None = None,
        *,
        settings: IsmSettings | None = None,
        head: Head | str | Path | None = None,
        reporter: Reporter | None = None,
    ) -> IsmResult:
        """Score every substitution of a region; see :func:`umbel.predict.ism.mutate.mutate_region`."""
        from umbel.predict.ism.mutate import mutate_region

        return mutate_region(self, reference, region, out, settings=settings, head=head, reporter=reporter)

    def scan(
        self,
        reference: str | Path,
        out: str | Path,
        *,
        settings: TrackSettings | None = None,
        regions: str | Path | None = None,
        contigs: Sequence[str] = (),
        calls: CallSettings | None = None,
        annotation: str | Path | None = None,
        page: bool = True,
        embed_mb: float = 48.0,
        tolerance: float | None = None,
        workers: int = 1,
        devices: Sequence[str] = (),
        threads: int = 0,
        reporter: Reporter | None = None,
    ) -> TrackScan:
        """Write tracks along a genome; see :func:`umbel.predict.scan.genome_scan.scan_tracks`."""
        from umbel.predict.scan.genome_scan import scan_tracks

        return scan_tracks(
            self,
            reference,
            out,
            settings=settings,
            regions=regions,
            contigs=contigs,
            calls=calls,
            annotation=annotation,
            page=page,
            embed_mb=embed_mb,
            tolerance=tolerance,
            workers=workers,
            devices=devices,
            threads=threads,
            reporter=reporter,
        )


def load(path: str | Path, device: str = "auto") -> Predictor:
    """Load a model for use; the short form of :meth:`Predictor.load`."""
    return Predictor.load(path, device)
