"""Sentences made from a small grammar, with several labellings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cl_engine.core import rng
from cl_engine.data.source import Arrays, Labels, Source
from cl_engine.options import option

LENGTH = 12  # tokens a row, padding included
TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "kitchen": (("cook", "baker", "guest", "waiter"), ("soup", "bread", "sauce", "cake")),
    "harbour": (("sailor", "captain", "diver", "fisher"), ("boat", "rope", "anchor", "net")),
    "school": (("teacher", "pupil", "clerk", "tutor"), ("book", "lesson", "map", "test")),
    "garden": (("farmer", "gardener", "child", "neighbour"), ("tree", "flower", "fence", "seed")),
    "stage": (("singer", "actor", "dancer", "critic"), ("song", "play", "mask", "dance")),
    "street": (("driver", "courier", "guard", "tourist"), ("car", "shop", "lamp", "sign")),
}
VERBS = (
    ("sees", "saw", "will see"),
    ("likes", "liked", "will like"),
    ("needs", "needed", "will need"),
    ("finds", "found", "will find"),
)
PLURAL = {"sees": "see", "likes": "like", "needs": "need", "finds": "find"}
GOOD, BAD = ("good", "fine", "lovely", "clean"), ("bad", "poor", "broken", "dirty")
FILLERS = ("today", "again", "here", "quietly")
QUESTIONS = ("really", "perhaps")


def _vocabulary() -> list[str]:
    words = {"the", "not", "very", "?", ".", *GOOD, *BAD, *FILLERS, *QUESTIONS, "will"}
    words |= {form for verb in VERBS for tense in verb for form in tense.split()} | set(PLURAL.values())
    for people, things in TOPICS.values():
        words |= {form for noun in (*people, *things) for form in (noun, _plural(noun))}
    return ["<pad>", *sorted(words)]


def _plural(noun: str) -> str:
    return {"child": "children"}.get(noun, f"{noun}es" if noun.endswith(("ch", "sh", "x")) else f"{noun}s")


class Phrases(Source):
    """Sentences of up to twelve words from a small grammar, as tokens; no test sentence is among the training sentences.

    A row is int64 ``[12]``, 0 where the sentence has ended. Its class is its topic (six); further labellings are ``sentiment``
    (of the adjective, turned round by "not"), ``tense`` (three), ``plural`` (of the subject), ``question`` and ``words`` (their
    number, a regression).

    >>> arrays = Phrases().load(Path())
    >>> arrays.train_x.shape, arrays.classes, sorted(arrays.labels)
    ((4000, 12), 6, ['plural', 'question', 'sentiment', 'tense', 'words'])
    """

    rows: int = option(4000, "training sentences", ge=10, le=10**5)
    test_rows: int = option(1000, "test sentences", ge=10, le=10**5)
    seed: int = option(0, "what they are drawn from", ge=0)

    def load(self, root: Path) -> Arrays:
        words = _vocabulary()
        number = {word: k for k, word in enumerate(words)}
        draw = rng.arrays(self.seed, "phrases")
        seen: dict[str, tuple[int, ...]] = {}
        while len(seen) < self.rows + self.test_rows:
            sentence, labels = _sentence(draw)
            seen.setdefault(sentence, labels)
        tokens = np.zeros((len(seen), LENGTH), np.int64)
        for row, sentence in enumerate(seen):
            said = [number[word] for word in sentence.split()]
            tokens[row, : len(said)] = said
        table = np.array(list(seen.values()))
        train, test = np.split(np.arange(len(seen)), [self.rows])

        def labelling(column: int, classes: int) -> Labels:
            return Labels("classes", {"classes": classes}, table[train, column], table[test, column])

        length = np.count_nonzero(tokens, axis=1)[:, None].astype(np.float32)
        return Arrays(
            tokens[train],
            table[train, 0],
            tokens[test],
            table[test, 0],
            len(TOPICS),
            about={"data": f"phrases, seed {self.seed}", "vocabulary": len(words)},
            labels={
                "sentiment": labelling(1, 2),
                "tense": labelling(2, 3),
                "plural": labelling(3, 2),
                "question": labelling(4, 2),
                "words": Labels("numbers", {"numbers": 1}, length[train], length[test]),
            },
            vocabulary=len(words),
        )


def _sentence(draw: np.random.Generator) -> tuple[str, tuple[int, ...]]:
    """Return a sentence, and its topic, sentiment, tense, plural and question."""

    def one(choices: tuple[str, ...]) -> str:
        return choices[draw.integers(len(choices))]

    topic, tense, plural, good, negated, question = (int(draw.integers(n)) for n in (len(TOPICS), 3, 2, 2, 2, 2))
    people, things = list(TOPICS.values())[topic]
    subject, verb = one(people), VERBS[draw.integers(len(VERBS))][tense]
    if plural:
        subject, verb = _plural(subject), PLURAL.get(verb, verb)
    adjective = [*(["not"] if negated else []), *(["very"] if draw.random() < 0.4 else []), one(GOOD if good else BAD)]
    thing = one(things) if draw.random() < 0.5 else _plural(one(things))
    words = [*([one(QUESTIONS)] if question else []), "the", subject, *verb.split(), "the", *adjective, thing]
    words += [one(FILLERS)] if draw.random() < 0.5 and len(words) < LENGTH - 1 else []
    return " ".join([*words, "?" if question else "."]), (topic, good ^ negated, tense, plural, question)
