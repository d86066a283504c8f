"""Made-up expert atlases whose tables agree with each other: small, big, and awkward."""

import math

import numpy as np

from umbel.evaluate.experts.atlas import SCHEMAS, Atlas, empty_table, make_table

SMALL_CLASSES = {
    "region": ("CDS", "intron", "intergenic", "UTR"),
    "codon phase": ("first", "second", "third"),
}
BIG_CLASSES = {
    "region": ("CDS", "UTR", "intron", "promoter", "intergenic"),
    "codon phase": ("first", "second", "third"),
    "repeat": ("none", "LTR/Copia", "LTR/Gypsy", "TIR", "Helitron", "satellite"),
    "species": ("A. thaliana", "O. sativa", "Z. mays", "B. rapa"),
}


def js(p, q):
    m = (p + q) / 2
    parts = [w * math.log(w / m[i]) for side in (p, q) for i, w in enumerate(side) if w > 0]
    return max(sum(parts) / 2, 0.0)


def entropy(p):
    return -sum(w * math.log(w) for w in p if w > 0)


def fake_facts(n_items, layers, classes, **more):
    return {
        "model": {
            "name": "toy <mixture> & more",
            "weights_hash": "0123456789abcdef" * 4,
            "dtype": "float32",
            "quantisation": None,
            "n_parameters": 1_234_567,
        },
        "source": {"fasta": "toy.fa", "gff3": "toy.gff3"},
        "settings": {"seed": 0, "n_draws": 1000, "n_shifts": 199},
        "versions": {"umbel": "0.1.0", "torch": "2.13.0"},
        "sample": {
            "item": "base",
            "n_items": n_items,
            "n_stretches": 60,
            "n_units": 24,
            "effective_units": 17.4,
            "layers": layers,
        },
        "labellings": [{"name": n, "level": "base", "classes": list(c)} for n, c in classes.items()],
        "notes": ["2 stretches of less than 200 bases were left out."],
        **more,
    }


class Fake:
    """Rows of every table, and how they are made from made-up shares."""

    def __init__(self, seed, n_layers, n_experts, top_k, classes, n_items=200_000):
        self.rng = np.random.default_rng(seed)
        self.n_layers, self.n_experts, self.top_k, self.classes = n_layers, n_experts, top_k, classes
        self.n_items = n_items
        self.rows = {name: [] for name in SCHEMAS}

    def add(self, table, **row):
        self.rows[table].append(row)

    def atlas(self, facts):
        tables = {}
        for name, rows in self.rows.items():
            columns = {column: [row[column] for row in rows] for column in SCHEMAS[name].names}
            tables[name] = make_table(name, columns) if rows else empty_table(name)
        return Atlas(facts, tables)

    def load_of(self, site, dead):
        weights = self.rng.gamma(3.0, size=self.n_experts)
        if site == 0 and dead is not None:
            weights[dead] = 0.0
        if site == 1 and dead is not None:
            weights[dead] = 0.01 * weights.mean()
        # No expert can be among the chosen more often than once an item.
        load = weights / weights.sum()
        for _ in range(50):
            load = np.minimum(load, 0.9 / self.top_k)
            load /= load.sum()
        return load

    def add_layer(self, site, load, with_scores=True):
        mean = load.mean()
        cv, top = float(load.std() / mean), float(load.max() / mean)
        order = np.sort(load)
        n = len(load)
        gini = float(sum((2 * i - n + 1) * x for i, x in enumerate(order)) / (n * order.sum()))
        chosen = float(self.rng.uniform(0.2, 0.9) * math.log(n))
        self.add(
            "layers", site=site, layer=2 * site + 1, name=f"layers.{2 * site + 1}.moe", n_experts=n, top_k=self.top_k,
            n_shared=0, scores="softmax" if with_scores else "unknown", n_items=self.n_items, max_over_mean=top,
            max_over_mean_bound=n / self.top_k, cv=cv, cv_bound=math.sqrt(n / self.top_k - 1), gini=gini,
            effective_experts=math.exp(entropy(load)), load_entropy=entropy(load) / math.log(n),
            n_dead=int((load == 0).sum()), n_starving=int(((load > 0) & (load < 0.05 / n)).sum()), is_enough=True,
            router_entropy=chosen if with_scores else None,
            router_entropy_share=chosen / math.log(n) if with_scores else None,
            margin=float(self.rng.uniform(0.05, 0.5)) if with_scores else None,
        )  # fmt: skip

    def add_experts(self, site, load, with_ablation):
        for expert, share in enumerate(load.tolist()):
            cost = float(self.rng.gamma(1.0) * share * 0.1)
            self.add(
                "experts", site=site, layer=2 * site + 1, expert=expert,
                n_choices=round(share * self.n_items * self.top_k), load=share, load_low=0.9 * share,
                load_high=min(1.1 * share, 1.0), weight_share=share, is_dead=share == 0,
                is_starving=0 < share < 0.05 / self.n_experts, ablation=cost if with_ablation else None,
                ablation_low=cost - 0.004 if with_ablation else None,
                ablation_high=cost + 0.004 if with_ablation else None,
            )  # fmt: skip

    def shares_of(self, load, n_classes, strength):
        """Shares of the experts in each class, around the load."""
        raw = load * np.exp(strength * self.rng.standard_normal((n_classes, self.n_experts)))
        return raw / raw.sum(axis=1, keepdims=True)

    def add_labelling(self, site, labelling, level, load, contexts, strength, with_ablation):
        names = self.classes[labelling]
        weights = self.rng.dirichlet(np.full(len(names), 4.0))
        shares = self.shares_of(load, len(names), strength)
        for c, name in enumerate(names):
            n_class = round(weights[c] * self.n_items * self.top_k)
            for expert, share in enumerate(shares[c].tolist()):
                other = max((load[expert] - weights[c] * share) / (1 - weights[c]), 1e-4)
                odds = math.log2((share + 1e-5) / (1 - share + 1e-5) / (other / (1 - other)))
                half = float(self.rng.uniform(0.05, 0.9))
                z = odds / (half / 1.96)
                p = min(1.0, math.erfc(abs(z) / math.sqrt(2)) + 0.005)
                is_dead = load[expert] == 0
                self.add(
                    "enrichment", labelling=labelling, level=level, site=site, layer=2 * site + 1, expert=expert,
                    n_joint=round(share * n_class), n_class=n_class, share_in_class=share,
                    share_overall=float(load[expert]), log2_odds=None if is_dead else odds,
                    low=None if is_dead else odds - half, high=None if is_dead else odds + half,
                    p=None if is_dead else p, q=None if is_dead else min(1.0, 1.4 * p), z=None if is_dead else z,
                    **{"class": name},
                )  # fmt: skip
                if with_ablation:
                    delta = float(self.rng.normal(0.01, 0.01))
                    self.add(
                        "ablation", site=site, layer=2 * site + 1, expert=expert, labelling=labelling,
                        n_bases=n_class // 10, delta=delta, low=delta - 0.005, high=delta + 0.005, **{"class": name},
                    )  # fmt: skip
        for a in range(len(names)):
            for b in range(a + 1, len(names)):
                between = js(shares[a], shares[b])
                floor = float(self.rng.uniform(0.0004, 0.004))
                self.add(
                    "divergence", labelling=labelling, class_a=names[a], class_b=names[b], site=site,
                    layer=2 * site + 1, js=between, js_low=0.8 * between, js_high=min(1.2 * between, math.log(2)),
                    js_bits=between / math.log(2), js_share=between / math.log(2), floor=floor,
                    js_corrected=between - floor / 2,
                )  # fmt: skip
        mixed = weights @ shares
        mi = entropy(mixed) - sum(w * entropy(s) for w, s in zip(weights, shares, strict=True))
        base, three, six = np.sort(self.rng.uniform(0.05, 0.95, 3)).tolist()
        self.add(
            "information", labelling=labelling, site=site, layer=2 * site + 1, n_classes=len(names), mi=mi,
            mi_low=0.8 * mi, mi_high=1.2 * mi, mi_bits=mi / math.log(2),
            mi_share=mi / math.log(min(len(names), self.n_experts)), chance=0.002, p=0.001, random=0.004,
            context_base=base if "base" in contexts else None, context_3mer=three if "3-mer" in contexts else None,
            context_6mer=six if "6-mer" in contexts else None, context_token=0.6 if "token" in contexts else None,
        )  # fmt: skip

    def add_pairs(self, site, load):
        """Co-activation of which each row adds up to k - 1."""
        n = self.n_experts
        taken = load * self.top_k
        raw = np.outer(load, load) * np.exp(0.5 * self.rng.standard_normal((n, n)))
        raw = (raw + raw.T) / 2
        np.fill_diagonal(raw, 0)
        counts = np.round(raw / raw.sum() * self.n_items * self.top_k * (self.top_k - 1))
        for a in range(n):
            for b in range(n):
                if a == b:
                    continue
                n_a = taken[a] * self.n_items
                observed = min(counts[a, b] / n_a, 1.0) if n_a else None
                expected = float(load[b] * (self.top_k - 1) / (1 - load[a]))
                self.add(
                    "coactivation", site=site, layer=2 * site + 1, expert_a=a, expert_b=b, n=int(counts[a, b]),
                    observed=observed, expected=expected,
                    lift=observed / expected if observed is not None and expected else None,
                )  # fmt: skip

    def add_paths(self, site, before, load):
        raw = np.outer(before, load) * np.exp(1.0 * self.rng.standard_normal((len(before), len(load))))
        counts = np.round(raw / raw.sum() * self.n_items).astype(int)
        for a in range(len(before)):
            for b in range(len(load)):
                self.add("paths", site_before=site - 1, site=site, expert_before=a, expert=b, n=int(counts[a, b]))

    def add_logo(self, site, expert, n):
        likes = int(self.rng.integers(4))
        for offset in range(-10, 11):
            p = np.array([0.31, 0.19, 0.19, 0.31]) * np.exp(self.rng.normal(size=4) * 0.5 / (1 + abs(offset)))
            if offset == 0:
                p[likes] += 0.8
            p /= p.sum()
            for base, count in zip("ACGT", self.rng.multinomial(n, p).tolist(), strict=True):
                self.add("logos", site=site, layer=2 * site + 1, expert=expert, offset=offset, base=base, n=count)

    def add_windows(self, site, expert, n=5, width=128, contig="chr1"):
        for rank in range(1, n + 1):
            start = int(self.rng.integers(1_000_000))
            self.add(
                "top_windows", site=site, layer=2 * site + 1, expert=expert, rank=rank, contig=contig, start=start,
                end=start + width, share=1.0 - 0.03 * rank, classes="region=intron; codon phase=none",
            )  # fmt: skip

    def fill(
        self, *, dead=None, with_ablation=True, with_dna=True, strengths=(0.6,), contexts=("base", "3-mer", "6-mer")
    ):
        before = None
        for site in range(self.n_layers):
            load = self.load_of(site, dead)
            self.add_layer(site, load)
            self.add_experts(site, load, with_ablation)
            for i, labelling in enumerate(self.classes):
                level = "sequence" if labelling == "species" else "base"
                strength = strengths[i % len(strengths)]
                self.add_labelling(site, labelling, level, load, contexts, strength, with_ablation)
            if self.top_k >= 2:
                self.add_pairs(site, load)
            if before is not None:
                self.add_paths(site, before, load)
            before = load
            for expert in range(self.n_experts):
                if load[expert] > 0:
                    if with_dna:
                        self.add_logo(site, expert, 4_000)
                    self.add_windows(site, expert)
        return self


def small_atlas():
    """Two layers of four experts, top-2; an expert of the first is dead and one of the second starves."""
    fake = Fake(1, 2, 4, 2, SMALL_CLASSES).fill(dead=1, strengths=(0.6, 0.05))
    tracks = ["tracks/layer 1.bw", "tracks/dominant.bed.gz", "igv.html"]
    return fake.atlas(fake_facts(200_000, [1, 3], SMALL_CLASSES, tracks=tracks))


def big_atlas(n_layers=12, n_experts=64):
    """Many layers of 64 experts, top-8."""
    fake = Fake(2, n_layers, n_experts, 8, BIG_CLASSES, n_items=5_000_000).fill(dead=5, strengths=(0.5, 0.2, 0.8, 0.02))
    return fake.atlas(fake_facts(5_000_000, [2 * s + 1 for s in range(n_layers)], BIG_CLASSES))


def awkward_atlas():
    """Top-1 over text tokens, one layer: no ablation, no annotation but a labelling of sequences that lacks a class."""
    classes = {"task <x>": ("code", "prose", "never seen")}
    fake = Fake(3, 1, 6, 1, classes, n_items=900).fill(with_ablation=False, with_dna=False, contexts=("token",))
    fake.rows["layers"][0] |= {"is_enough": True, "router_entropy": None, "router_entropy_share": None, "margin": None}
    fake.rows["layers"][0] |= {"scores": "unknown"}
    for row in fake.rows["enrichment"]:
        row["level"] = "sequence"
        if row["class"] == "prose":
            row |= {"n_class": 40, "n_joint": round(40 * row["share_in_class"])}
        row |= {"low": None, "high": None, "q": 0.9, "p": 0.7}
    for name in ("enrichment",):
        fake.rows[name] = [row for row in fake.rows[name] if row["class"] != "never seen"]
    fake.rows["divergence"] = [r for r in fake.rows["divergence"] if "never seen" not in (r["class_a"], r["class_b"])]
    fake.rows["divergence"][0] |= {"js_low": None, "js_high": None, "floor": None, "js_corrected": None}
    fake.rows["information"][0] |= {"mi_low": None, "mi_high": None, "chance": None, "context_token": None}
    fake.rows["experts"] = [row | {"load_low": None, "load_high": None} for row in fake.rows["experts"]]
    fake.rows["top_windows"] = [row | {"contig": "doc <7>"} for row in fake.rows["top_windows"]]
    facts = fake_facts(900, [1], classes)
    facts["sample"] |= {"item": "token", "effective_units": None, "n_units": 1, "n_stretches": 3}
    facts["notes"] = []
    facts["labellings"][0]["level"] = "sequence"
    return fake.atlas(facts)


def bare_atlas():
    """Only loads: nothing was labelled, ablated, or followed."""
    fake = Fake(4, 2, 4, 1, {}).fill(with_ablation=False, with_dna=False, contexts=())
    for name in ("top_windows", "paths"):
        fake.rows[name] = []
    facts = fake_facts(200_000, [1, 3], {})
    facts["notes"] = ["No annotation was given."]
    return fake.atlas(facts)
