"""What is asked of sequences one by one: log-probabilities of bases, embeddings, and the experts they went to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from umbel.data.bpe import BpeTokens
from umbel.data.kmers import Encoding
from umbel.data.masking import hide
from umbel.genome.sequence import Codes, Mask, N, encode, revcomp
from umbel.model.backbone import Output
from umbel.model.heads import apply_head
from umbel.model.pooling import Pool
from umbel.model.routing import Routing
from umbel.predict.choices import (
    ONE_STRAND,
    Pooling,
    Strand,
    require_embedding_pooling,
    require_layer,
    require_strand,
)
from umbel.predict.loaded import LOGITS_AT_ONCE, LoadedModel
from umbel.predict.per_base import Reading, base_log_probs, joined, read_hidden_bases

if TYPE_CHECKING:
    from umbel.predict.precision import PrecisionReport
    from umbel.progress import Reporter


class SequencePredictor(LoadedModel):
    """A masked language model that answers for sequences of any lengths.

    Sequences are arrays of base codes (A 0, C 1, G 2, T 3, N 4; see :func:`umbel.genome.sequence.encode`).
    They are sorted by length, padded and batched inside; a result depends on its own sequence only, within
    1e-5 in float32.
    """

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
        _, ids, readings = self._hide(codes, hidden)
        results: list[np.ndarray] = [np.empty((0, 4), np.float32)] * len(ids)

        def use(tensor: Tensor, output: Output, indices: list[int]) -> None:
            counts = [len(readings[i].token) for i in indices]
            row, reading = np.repeat(np.arange(len(indices)), counts), joined([readings[i] for i in indices])
            states = output.hidden[torch.from_numpy(row), torch.from_numpy(reading.token)]
            parts = np.split(self._log_probs_of(states, reading), np.cumsum(counts)[:-1])
            for i, part in zip(indices, parts, strict=True):
                results[i] = part

        self._run(ids, use)
        return results

    def _hide(
        self, codes: Sequence[Codes], hidden: Sequence[Mask]
    ) -> tuple[list[Encoding], list[np.ndarray], list[Reading]]:
        """Give encodings, token ids with the hidden bases masked, and where each hidden base is read."""
        tokens = self.tokens
        assert not isinstance(tokens, BpeTokens)
        encodings = self._encode(codes)
        readings = [
            read_hidden_bases(encoding, sequence, mask, tokens.k)
            for encoding, sequence, mask in zip(encodings, codes, hidden, strict=True)
        ]
        ids = [hide(encoding, mask).input_ids for encoding, mask in zip(encodings, hidden, strict=True)]
        return encodings, ids, readings

    def _log_probs_of(self, states: Tensor, reading: Reading) -> np.ndarray:
        """Give ``(n, 4)`` log-probabilities of hidden bases from the states ``(n, D)`` at which they are read."""
        tokens = self.tokens
        assert not isinstance(tokens, BpeTokens)
        size = max(1, LOGITS_AT_ONCE // tokens.size)
        logs = [
            base_log_probs(
                apply_head(self._model.lm_head, states[start : start + size]),
                tokens.first_of_length,
                reading.part(slice(start, start + size)),
            )
            for start in range(0, len(states), size)
        ]
        return np.concatenate([np.empty((0, 4), np.float32), *logs])

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

    def embed_bases(
        self,
        codes: Sequence[Codes],
        places: Sequence[Sequence[int]],
        strand: Strand = "forward",
        layer: int = -1,
    ) -> np.ndarray:
        """Give the states of single bases, nothing hidden: those of the tokens that stand for them.

        Parameters
        ----------
        codes
            Sequences, ``(L_i,)`` each.
        places
            Bases of each sequence, from 0; as many of every one.
        strand, layer
            As in :meth:`embed`; rows are those of the sequence as given, whatever the reading.

        Returns
        -------
        ``(n, places, D)`` float32.

        Raises
        ------
        ValueError
            If a sequence is shorter than one token, has another number of places or none there, or the strand is none
            of the three.
        ConfigError
            If there is no such layer.
        """
        require_strand(strand)
        require_layer(layer, self.config.n_layers)
        wanted = np.array(places, np.int64).reshape(len(codes), -1)
        for i, (sequence, own) in enumerate(zip(codes, wanted, strict=True)):
            if len(own) and not 0 <= own.min() <= own.max() < len(sequence):
                raise ValueError(f"sequence {i} has {len(sequence)} bases, and none at {own.tolist()}")
        if strand == "both":
            forward, other = (self.embed_bases(codes, places, one, layer) for one in ONE_STRAND)
            return (forward + other) / 2
        if strand == "revcomp":
            wanted = np.array([[len(s)] for s in codes], np.int64).reshape(len(codes), -1) - 1 - wanted
            codes = [revcomp(sequence) for sequence in codes]
        encodings = self._encode(codes)
        result = np.empty((*wanted.shape, self.config.d_model), np.float32)

        def use(tensor: Tensor, output: Output, indices: list[int]) -> None:
            tokens = np.stack([encodings[i].token_of_base(len(codes[i]))[wanted[i]] for i in indices])
            rows = torch.arange(len(indices))[:, None]
            result[indices] = output.hidden[rows, torch.from_numpy(tokens)].float().cpu().numpy()

        self._run([encoding.ids for encoding in encodings], use, None if layer == -1 else layer + 1)
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
        results: list[np.ndarray] = [np.empty((0, len(sequence), self.config.top_k), np.uint8) for sequence in codes]

        def visit(routings: tuple[Routing, ...], rows: list[tuple[int, np.ndarray]]) -> None:
            experts = torch.stack([routing.experts for routing in routings]).to(torch.uint8).cpu().numpy()
            for row, (i, token) in enumerate(rows):
                results[i] = experts[:, row, token]

        self.visit_routings(codes, visit)
        return results

    def visit_routings(
        self,
        codes: Sequence[Codes],
        visit: Callable[[tuple[Routing, ...], list[tuple[int, np.ndarray]]], None],
        layer: int | None = None,
    ) -> None:
        """Show the routings of sequences, batch by batch, before they are forgotten.

        Parameters
        ----------
        codes
            Sequences, ``(L_i,)`` each.
        visit
            Gets the routings of a batch, one per expert layer in order of depth; and for each of its rows which
            sequence it is, and for each of that sequence's bases the index of the token that stands for it,
            ``(L_i,)``. Not called where the model has no experts.
        layer
            The last layer to compute; by default the last that has experts.

        Raises
        ------
        ValueError
            If a sequence is shorter than one token.
        """
        encodings = self._encode(codes)

        def use(tensor: Tensor, output: Output, indices: list[int]) -> None:
            visit(output.routings, [(i, encodings[i].token_of_base(len(codes[i]))) for i in indices])

        if self.moe_layers:
            last = self.moe_layers[-1] if layer is None else layer
            self._run([encoding.ids for encoding in encodings], use, n_layers=last + 1)

    def precision_report(
        self, codes: Sequence[Codes] | None = None, *, reporter: Reporter | None = None
    ) -> PrecisionReport:
        """Compare speed and answers with float32; see :func:`umbel.predict.precision.compare`."""
        from umbel.predict.precision import compare

        return compare(self, codes, reporter=reporter)
