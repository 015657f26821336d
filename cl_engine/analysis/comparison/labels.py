"""Other names for what stands in tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from cl_engine.analysis.comparison.compare import Comparison
from cl_engine.errors import UsageError, unknown

Labels = Mapping[str, str]


def renamed(labels: Labels | None, known: Sequence[str]) -> Callable[[str], str]:
    """Return a function from the name of a method, a stream or a score to what it is to be called.

    Raises:
        UsageError: for a label of something that is not there, with what is.
    """
    held = dict(labels or {})
    for name in held:
        if name not in known:
            raise unknown("method, stream or score", name, list(dict.fromkeys(known)))
    return lambda name: held.get(name, name)


def parsed(renames: Sequence[str]) -> dict[str, str]:
    """Return the labels that ``OLD=NEW`` texts give; the last ``=`` parts them, as names may hold one (``replay (samples=5)``).

    Raises:
        UsageError: for a text that is not written so.
    """
    found = {}
    for text in renames:
        old, equals, new = text.rpartition("=")
        if not equals or not old.strip() or not new.strip():
            raise UsageError(f"--rename {text}: write OLD=NEW, as in --rename 'finetune=Fine-tuning'")
        found[old.strip()] = new.strip()
    return found


def relabelled(comparisons: Sequence[Comparison], labels: Labels) -> list[Comparison]:
    """Return comparisons whose methods and streams have other names; the sentences on them keep the old ones.

    Raises:
        UsageError: for a label of something that is in none of them, or two of one name.
    """
    names = [name for each in comparisons for name in (*each.methods, *each.streams)]
    called = renamed(labels, names)
    for kind in (
        [name for each in comparisons for name in each.methods],
        [n for each in comparisons for n in each.streams],
    ):
        told = [called(name) for name in dict.fromkeys(kind)]
        twice = next((name for name in told if told.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"--rename: two would be called '{twice}', and could not be told apart")
    return [_relabelled(each, called) for each in comparisons]


def _relabelled(each: Comparison, called: Callable[[str], str]) -> Comparison:
    def mapped(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
        return table.assign(**{name: [called(str(text)) for text in table[name]] for name in columns})

    ranking = each.ranking
    if ranking is not None:
        pairs = {(called(one), called(other)): p for (one, other), p in ranking.pairs.items()}
        ranking = replace(ranking, methods=tuple(map(called, ranking.methods)), pairs=pairs)
    groups = tuple(replace(g, stream=called(g.stream), method=called(g.method)) for g in each.groups)
    return replace(
        each,
        groups=groups,
        table=mapped(each.table, "stream", "method"),
        pairs=mapped(each.pairs, "stream", "one", "other"),
        overall=mapped(each.overall, "method"),
        ranking=ranking,
    )
