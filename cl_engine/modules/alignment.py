"""The loss that adapts a net to rows without labels, and the options that say how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.modules.adversary import reversal
from cl_engine.modules.domain_judges import (
    DomainsJudged,
    balanced,
    domain_judge,
    released_losses,
    reversed_loss,
    told_apart,
)
from cl_engine.modules.unlabelled import consistency, entropy, information
from cl_engine.nn.head import HEAD, apply_head
from cl_engine.nn.net import Net, Params
from cl_engine.nn.target import Target
from cl_engine.options import OptionGroup, option
from cl_engine.training.optimizers import Train

Read = Literal["features", "predictions"]
LOOKED_AT = 256  # rows of each domain that judges are measured on
EMA = "ema."  # before names of a teacher's weights, so that these are not taken for those of the net


class Alignment(OptionGroup):
    """Options that say how a net is adapted to rows without labels.

    >>> Alignment(align=["predictions"]).method
    'judges'
    """

    method: Literal["judges", "teacher", "shot", "statistics", "none"] = option(
        "judges", "how the net is adapted to rows without labels; none: it is not, and knows labelled rows alone"
    )
    align: list[Read] = option(["features"], "what judges read: features, predictions, or both (judges)")
    adversary: Literal["released", "reversal"] = option(
        "released", "judges move the target side alone (released), or both sides by gradient reversal (reversal)"
    )
    weight: float = option(0.3, "weight of what the judge of features teaches the net (judges)", ge=0)
    weight_predictions: float = option(0.3, "weight of what the judge of predictions teaches the net (judges)", ge=0)
    hidden: int = option(
        64, "hidden units, or maps, of a judge's first layer; the second has half as many (judges)", ge=1
    )
    judge_lr: float = option(1e-3, "learning rate of judges, by rmsprop, which is Adam without momentum (judges)", gt=0)
    balance: list[float] = option(
        [],
        "factors of the kinds of answers, one each, which then count alike but for them, by what the net says of the target's "
        "rows or places (judges, teacher; released: 3 for background, 1 for cars); left out: each counts as often as it is said",
    )
    entropy: float = option(0.0, "weight of the entropy of the target's answers (judges; released: 0.3)", ge=0)
    sure: float = option(0.9, "chance from which a teacher's answer is learned (teacher)", ge=0, le=1)
    ema: float = option(0.99, "share of a teacher's weights that stays at each batch (teacher)", ge=0, lt=1)
    weight_teacher: float = option(3.0, "weight of what a teacher teaches (teacher)", ge=0)

    def check(self, targets: Sequence[Target]) -> None:
        """Raise a `UsageError` if the options have no meaning for what tasks ask for."""
        asked = {target.key: target.name() for target in targets}
        if len(asked) > 1:
            raise UsageError(
                f"the strategy 'align' has one head for all tasks, and they ask for {len(asked)} things "
                f"({', '.join(asked.values())}): choose tasks that ask for the same"
            )
        kinds = _kinds(targets[0])
        wanted = {"balance": bool(self.balance), "entropy": self.entropy > 0}
        odd = [f"strategy.{name}" for name, used in wanted.items() if used]
        odd += [f"strategy.method = '{self.method}'"] if self.method in ("teacher", "shot") else []
        if odd and not kinds:
            raise UsageError(
                f"{odd[0]}: found, and '{targets[0].name()}' has no kinds of answers that this could be about: use judges alone, "
                "statistics or none"
            )
        if self.method == "shot" and targets[0].background:
            raise UsageError(
                f"strategy.method = 'shot': lets all kinds of answers be as frequent, and most places of '{targets[0].name()}' "
                "say that nothing is there: use judges, teacher, statistics or none"
            )
        if self.balance and len(self.balance) != kinds:
            raise UsageError(
                f"strategy.balance: found {len(self.balance)} factors, and there are {kinds} kinds of answers; one each is needed"
            )
        if len(set(self.align)) < len(self.align):
            raise UsageError(f"strategy.align: found {self.align}; name each once")


def _kinds(target: Target) -> int:
    """Return how many kinds of answers there are; 0: none."""
    found = target.chances(torch.zeros(1, target.outputs))
    return 0 if found is None else found.shape[1]


class AlignmentLoss:
    """The loss of one seed on rows of a target domain, without their labels, beside rows of the source.

    What is fitted is a tree: ``net``; and, by the method, a judge under the name of what it reads, or the weights of a
    ``teacher``, which no gradient reaches and the loss changes in place.

    >>> AlignmentLoss.__name__  # made by the strategy `align`
    'AlignmentLoss'
    """

    def __init__(self, net: Net, target: Target, how: Alignment) -> None:
        self._net, self._target, self._how = net, target, how

    def start(self, held: Params, x: Tensor, seeds: Sequence[int], key: int) -> tuple[Tree, Params | None]:
        """Return what is fitted, and what is frozen, of a net's weights ``{name: [S, …]}``, given rows of the target."""
        how = self._how
        frozen = {name: held[name] for name in HEAD} if how.method == "shot" else None
        params: Tree = {"net": {name: leaf for name, leaf in held.items() if name not in (frozen or {})}}
        if how.method == "teacher":
            params["teacher"] = renamed(self._net, held, EMA)
        if how.method == "judges":
            for part, read in self.read_by_judges(held, x[:1]).items():
                params[part] = domain_judge(seeds, read.shape[2:], how.hidden, self._net.device, part, key)
        return params, frozen

    def train_of(self, part: str, train: Train) -> Train:
        """Return how a part of the tree beside the net is trained: judges in their own way."""
        if part not in self._how.align:
            return train
        return train.by("rmsprop", lr=self._how.judge_lr, weight_decay=0.0)

    def __call__(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor, *more: Tensor) -> Tensor:
        """Return the loss on rows ``x`` of the target; then come inputs and labels of the source, if any, and progress."""
        *source, progress = more
        net: Params = {**(frozen or {}), **params["net"]}
        if self._how.method == "shot":
            return -information(self._chances(self._net.one(net, x)))
        known = self._read(net, source[0]) if source else {}
        labelled: Tensor = self._target.mean_loss(known["outputs"], source[1]) if source else x.new_zeros(())
        read = self._read(net, x)
        if self._how.method == "teacher":
            taught, said = self._taught(params, x), self._chances(read["outputs"])
            agreed = consistency(said, taught, self._how.sure, self._shares(said))
            total: Tensor = labelled + self._how.weight_teacher * agreed
            return total
        return labelled + self._by_judges(params, known, read, progress)

    def _by_judges(self, params: Tree, known: Tree, read: Tree, progress: Tensor) -> Tensor:
        """Return the losses of the judges, what they teach the net, and the entropy of its answers."""
        how = self._how
        chances = self._target.chances(read["outputs"])
        total: Tensor = read["outputs"].new_zeros(())
        if how.entropy and chances is not None:
            total = total + how.entropy * entropy(chances).mean()
        shares = None if chances is None else self._shares(chances)
        for part in how.align:
            weight = how.weight if part == "features" else how.weight_predictions
            given = (params[part], known[part], read[part])
            if how.adversary == "reversal":
                total = total + reversed_loss(*given, weight * reversal(progress), shares)
            else:
                own, taught = released_losses(*given, shares)
                total = total + own + weight * taught
        return total

    def answering(self, params: Tree) -> Params:
        """Return the weights that answer, of those being fitted: a teacher's where there is one."""
        return {**params["net"], **{name.removeprefix(EMA): held for name, held in params.get("teacher", {}).items()}}

    def read_by_judges(self, net: Params, x: Tensor) -> dict[str, Tensor]:
        """Return what judges read of rows, ``{name: [S, N, …]}``, in evaluation mode."""

        def still(part: str, own: Params, rows: Tensor) -> Tensor:
            with self._net.evaluating():
                return self._read(own, rows)[part]

        return {part: self._net.over_seeds(partial(still, part), net, x) for part in self._how.align}

    def scored(self, experience: Experience, trained: Tree, target: Tensor, source: Tensor) -> Iterator[DomainsJudged]:
        """Yield how well each judge tells some rows of the source from some of the target."""
        if self._how.method != "judges":
            return
        known, found = (self.read_by_judges(trained["net"], some(rows)) for rows in (source, target))
        for part in self._how.align:
            right = []
            for seed, pair in enumerate(zip(known[part], found[part], strict=True)):
                judge = {name: weight[seed] for name, weight in trained[part].items()}
                right.append(told_apart(judge, *pair))
            where: dict[str, Any] = {"step": experience.step, "task_id": experience.task_id, "part": part}
            yield DomainsJudged(**where, accuracy=tuple(right))

    def _read(self, net: Params, x: Tensor) -> dict[str, Tensor]:
        """Return what judges may read of rows of one seed, and the outputs."""
        features = self._net.features(net, x)
        outputs = apply_head(features, *(net[name] for name in HEAD))
        return {"features": features, "predictions": self._target.smooth_answers(outputs), "outputs": outputs}

    def _chances(self, outputs: Tensor) -> Tensor:
        found = self._target.chances(outputs)
        assert found is not None
        return found

    def _shares(self, chances: Tensor) -> Tensor | None:
        if not self._how.balance:
            return None
        return balanced(chances, torch.tensor(self._how.balance, device=chances.device))

    def _taught(self, params: Tree, x: Tensor) -> Tensor:
        """Return what the teacher says, after its weights have followed those of the net."""
        with torch.no_grad():
            for name, held in params["teacher"].items():
                held.mul_(self._how.ema).add_((1 - self._how.ema) * params["net"][name.removeprefix(EMA)])
            return self._chances(self._net.one(self.answering(params), x, training=False))


def renamed(net: Net, params: Params, prefix: str) -> Params:
    """Return copies of what is trained of a net, under names of their own."""
    return {prefix + name: leaf.detach().clone() for name, leaf in params.items() if not net.is_held(name)}


def some(x: Tensor) -> Tensor:
    """Return at most so many rows as are looked at, evenly spread."""
    return x[torch.linspace(0, len(x) - 1, min(len(x), LOOKED_AT)).long().to(x.device)]
