"""Orders of blocks, judged and changed step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from cl_engine.data.stream import Data, Experience
from cl_engine.events import Event
from cl_engine.modules.events import OrderLearned
from cl_engine.modules.pools import Orders


def certainty(logits: Tensor) -> Tensor:
    """Return the entropy of the mean answer less the mean entropy of answers ``[…, N, C]``, in nats, ``[…]``.

    Greatest where each row is answered with certainty and all classes are used alike: information maximisation (Krause,
    Perona & Gomes 2010).
    """
    log_p = torch.log_softmax(logits, dim=-1)
    p = log_p.exp()
    spread: Tensor = torch.special.entr(p.mean(dim=-2).clamp_min(1e-12)).sum(dim=-1)
    return spread + (p * log_p).sum(dim=-1).mean(dim=-1)


def refined(orders: Orders, order: Tensor, score: Callable[[Tensor], Tensor], sweeps: int) -> tuple[Tensor, Tensor]:
    """Return an order and its score after changing one step at a time for the better, seed by seed.

    Args:
        orders: what steps and blocks there are.
        order: what to start from, ``[S, steps, blocks]``.
        score: returns how good an order is, ``[S]``; more is better.
        sweeps: how often to go through all steps and blocks, at most.
    """
    order = orders.opened(order)
    best = score(order)
    for _ in range(sweeps):
        before = best
        for place in range(len(orders.places)):
            for block in range(orders.pools[orders.places[place][0]].blocks):
                changed = orders.replaced(order, place, block)
                found = score(changed)
                order = torch.where((found > best)[:, None, None], changed, order)
                best = torch.maximum(best, found)
        if torch.equal(best, before):
            break
    return order, best


def beside(rows: Sequence[Tensor]) -> Tensor:
    """Return rows of several tasks ``[N, …]`` beside each other, ``[most, tasks, …]``, those of shorter ones again."""
    longest = max(map(len, rows))
    return torch.stack([repeated(own, longest) for own in rows], dim=1)


def repeated(rows: Tensor, count: int) -> Tensor:
    """Return as many rows, those there are from the start again where they are too few."""
    return rows[torch.arange(count, device=rows.device) % len(rows)]


def rows_beside(rows: Sequence[Data]) -> tuple[Tensor, ...]:
    """Return inputs of several tasks beside each other ``[N, T, …]``, of one as they are ``[N, …]``; and labels of each."""
    if len(rows) == 1:
        return rows[0].x, rows[0].y
    x = beside([own.x for own in rows])
    return x, *(repeated(own.y, len(x)) for own in rows)


def best_of(tried: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return for each seed the order of greatest score, the first if several are equal, from pairs of order and score ``[S]``."""
    best = torch.stack([score for _, score in tried]).argmax(dim=0)
    orders = torch.stack([order for order, _ in tried])
    return orders[best, torch.arange(len(best), device=best.device)]


def order_events(orders: Orders, order: Tensor, coldest: float, experience: Experience) -> Iterator[Event]:
    """Yield the block at each step of a task's order, and the entropy of its shares at the lowest temperature, by seed."""
    shares = [orders.chances(of_seed, coldest) for of_seed in order]
    for place, (_, step) in enumerate(orders.places):
        block = tuple(int(of_seed[place].argmax()) for of_seed in shares)
        entropy = tuple(float(torch.special.entr(of_seed[place]).sum()) for of_seed in shares)
        yield OrderLearned(step=experience.step, part=step, task_id=experience.task_id, block=block, entropy=entropy)
