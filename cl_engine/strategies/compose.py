"""Compositional Models: one set of blocks, used by every task in an order of its own."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cached_property, partial
from typing import Any, Literal

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.errors import RunFailed
from cl_engine.events import Event
from cl_engine.masks.norms import TaskNorms
from cl_engine.modules.events import OrderTried, SourceScored
from cl_engine.modules.logged_transfers import LoggedTransfers
from cl_engine.modules.pools import Mix, Orders
from cl_engine.modules.reordering import beside, best_of, certainty, order_events, refined, repeated
from cl_engine.modules.shortlist import Scan, Shortlist, ranking_log
from cl_engine.modules.transferability import compared, nearest_neighbours, pooled
from cl_engine.nn.head import HEAD
from cl_engine.nn.net import Params
from cl_engine.nn.target import quality
from cl_engine.nn.task_heads import empty_heads, head_for, row_of
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.optimizers import Train


class Compose(Strategy):
    """Compositional Models: a task is an order of shared blocks, with norms and head of its own (Zhmoginov et al. 2021).

    The first tasks train the blocks together, each with its own order; then blocks are frozen, and a task learns its
    order, normalisation and head alone. While it learns, each step mixes blocks; temperature and entropy make it settle
    on one, which is what remains. A block may serve at several steps. A task without labels changes nothing but the
    order, starting from those of past tasks, so that answers get certain and differ from row to row.

    Blocks are modules of one configuration behind the first: those of the net ``isometric``, or hidden layers of an MLP.

    >>> Compose.Options(joint=10).joint
    10
    """

    settings = ("task",)
    needs_labels = validates = False

    joint: int = option(3, "tasks at the start that train the blocks, their rows kept so long", ge=1)
    blocks: int | None = option(None, "blocks to choose from at each step; left out: as many as there are steps", ge=2)
    common: list[Literal["norms", "head"]] = option(
        [], "what tasks have in common beside the blocks: with norms and head, nothing but the order tells tasks apart"
    )
    spread: float = option(0.0, "deviation of the noise on the orders that joint tasks start from", ge=0)
    mix: Mix = option("kernels", "what is mixed while learning: kernels, or outputs, which takes a run of every block")
    order_lr: float = option(0.05, "learning rate of orders (Adam)", gt=0)
    temperature: float = option(1.0, "temperature of the shares at the start of learning", gt=0)
    coldest: float = option(0.1, "temperature at the end", gt=0)
    entropy: float = option(0.1, "weight of the mean entropy of the shares in the loss, reached at the end", ge=0)
    settle: float = option(0.3, "last share of learning, in which the likeliest block alone is used", ge=0, le=1)
    rows: int = option(500, "training rows on which past tasks are asked how near they are, at most", ge=2)
    scan: Scan
    sources_from: str | None = option(None, "taxonomy's run whose log ranks past tasks, not the proxy", before=None)
    refine: int = option(3, "most rounds, step by step, over an order that is all a task has of its own", ge=0)
    adapt_epochs: int = option(20, "epochs of each start of adaptation without labels", ge=1)
    starts: int = option(8, "past tasks whose orders adaptation starts from, the latest", ge=1)
    _logged: LoggedTransfers | None = None

    def start(self) -> State:
        seeds, device = len(self.seeds), self.net.device
        blocks, order = self._orders.start(self.seeds)
        return {
            "shared": {name: t for name, t in self._initial.items() if name in self._shared},
            "blocks": blocks,
            "orders": Bank.empty(seeds, order.shape[1:], device=device),
            **({} if "head" in self.common else {"heads": empty_heads(self.net, seeds)}),
            **self._norms.start(seeds),
            **self._shortlist.start(),
        }

    def check_stream(self, stream: Stream) -> None:
        self._orders.check_pools()
        self._logged = ranking_log(self.scan.sources == "gaussian", self.sources_from, stream)

    def learn(self, experience: Experience) -> Learning:
        task, known = experience.task_id, len(self.state["orders"])
        if not experience.labelled:
            if known < self.joint:
                raise RunFailed(
                    f"compose: task {task} comes without labels before {self.joint} tasks with labels have trained the "
                    f"blocks; set strategy.compose.joint to {known} at most, or let stream.unlabelled begin later"
                )
            yield from self._adapted(experience)
        elif known < self.joint:
            yield from self._jointly(experience)
        else:
            own, order = self._own(task), self._order(task)
            if task >= known:
                order = yield from self._nearest(experience)
            params = {"orders": {"0": order}, "own": {"0": own}}
            frozen = {"shared": self.state.get("shared", {}), "blocks": self.state["blocks"]}
            rows = (experience.train.x.unsqueeze(1), experience.train.y.unsqueeze(1))
            fitted = yield from self._fitted(params, experience, rows, frozen)
            if "own" in fitted:
                self._keep(task, fitted["orders"]["0"], fitted["own"]["0"])
            else:
                score, tried = partial(self._accuracy, {}, experience.train), (order, fitted["orders"]["0"])
                judged = [refined(self._orders, one, score, self.refine) for one in tried]
                self._keep(task, best_of(judged), {})
        self._shortlist.keep(self.state, experience, self.rows)
        yield from order_events(self._orders, self._order(experience.task_id), self.coldest, experience)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        return self.net.all(self._hard(self._order(task_id), self._own(task_id)), x)

    def fingerprint(self, task_id: int | None) -> int | None:
        orders: Bank = self.state["orders"]
        if task_id is None or "data" in self.state or not len(orders):
            return None
        return orders.writes(task_id)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        """Return logits of the task being learned (the last one in the trees), with the likeliest blocks."""
        return self._answered(params, frozen, max(params["orders"], key=int), x, 1.0, 1.0)

    @cached_property
    def _orders(self) -> Orders:
        return Orders(self.net, self.blocks)

    @cached_property
    def _shortlist(self) -> Shortlist:
        return Shortlist(self.net, self.scan.sources, self.scan.scanned)

    @cached_property
    def _norms(self) -> TaskNorms:
        return TaskNorms(self.net, "frozen" if "norms" in self.common else "affine")

    @cached_property
    def _initial(self) -> Params:
        return self.net.init(self.seeds)

    @cached_property
    def _shared(self) -> list[str]:
        """Names of what is neither in a block nor a task's own."""
        own = {*self._norms.trained({"norms": []}, 0, self._initial), *([] if "head" in self.common else HEAD)}
        return [name for name in self._initial if name not in own | self._orders.names]

    def _order(self, task: int) -> Tensor:
        orders: Bank = self.state["orders"]
        return orders[task] if task < len(orders) else self._orders.start(self.seeds)[1]

    def _first_order(self, task: int) -> Tensor:
        """Return the order of a task, of one not yet met with noise, so that joint tasks need not go the same way."""
        order = self._order(task)
        if task < len(self.state["orders"]):
            return order
        noise = [torch.randn(order.shape[1:], generator=rng.tensors(s, "orders", task)) for s in self.seeds]
        return order + self.spread * torch.stack(noise).to(order.device)

    def _own(self, task: int) -> Tree:
        """Return norms and head of a task, as far as it has its own; of one not yet met those it starts from."""
        norms = self._norms.trained(self.state, task, self._initial)
        heads = self.state.get("heads")
        return {"norms": norms, "head": {} if heads is None else head_for(heads, task, self._initial)}

    def _keep(self, task: int, order: Tensor, own: Tree) -> None:
        self.state["orders"].put(task, order)
        if "heads" in self.state:
            self.state["heads"].put(task, row_of(own["head"]))
        self._norms.put(self.state, task, own.get("norms", {}))

    def _hard(self, order: Tensor, own: Tree) -> Params:
        """Return the weights that use at each step the likeliest block."""
        blocks = self._orders.hardened(self.state["blocks"], order)
        mine = {**own.get("norms", {}), **own.get("head", {})}
        return {**self._initial, **self.state.get("shared", {}), **blocks, **mine}

    def _answered(self, params: Tree, frozen: Tree | None, key: str, x: Tensor, *how: Tensor | float) -> Tensor:
        """Return logits of one seed for rows of one task, with blocks in shares: given temperature, and whether hard."""
        tree = {**(frozen or {}), **params}
        own = tree.get("own", {}).get(key, {})
        shares = self._orders.chances(tree["orders"][key], *how)
        blocks, hooks = self._orders.mixed(tree["blocks"], shares, self.mix)
        whole = {**tree.get("shared", {}), **blocks, **own.get("norms", {}), **own.get("head", {})}
        learns = "shared" in params or "norms" in params.get("own", {}).get(key, {})
        return self.net.one(whole, x, statistics=learns, hooks=hooks)

    def _loss(self, params: Tree, frozen: Tree | None, x: Tensor, *rest: Tensor) -> Tensor:
        """Return the mean loss over tasks: inputs ``[N, tasks, …]``, labels ``[N, 1, …]`` of each, and how cold it is."""
        *labels, temperature, entropy, hard = rest
        losses = []
        for place, (key, y) in enumerate(zip(sorted(params["orders"], key=int), labels, strict=True)):
            logits = self._answered(params, frozen, key, x[:, place], temperature, hard)
            shares = self._orders.chances(params["orders"][key], temperature)
            asked = self.target if len(labels) == 1 else self.target_of(int(key))
            losses.append(asked.loss(logits, y[:, 0]) + entropy * self._orders.entropy(shares))
        return torch.stack(losses).mean()

    def _fitted(
        self, params: Tree, experience: Experience, rows: tuple[Tensor, ...], frozen: Tree | None = None
    ) -> Generator[Event, None, Tree]:
        """Fit orders, norms and heads and, unless frozen, what is shared; shares get colder on the way."""
        epochs = self.train.epochs
        how: Any = {"overrides": {"orders": self._order_train(epochs)}, "loss_inputs": partial(self._cooling, epochs)}
        return (yield from self.fit(params, self._loss, experience, frozen=frozen, rows=rows, **how))

    def _order_train(self, epochs: int) -> Train:
        return self.train.by("adam", lr=self.order_lr, weight_decay=0.0, epochs=epochs)

    def _cooling(self, epochs: int, epoch: int, batch: int, batches: int) -> Sequence[float]:
        """Return temperature, weight of the entropy, and whether the likeliest blocks are used alone."""
        done = (epoch + batch / batches) / epochs
        temperature = self.temperature * (self.coldest / self.temperature) ** done
        return temperature, self.entropy * done, float(done >= 1 - self.settle)

    def _jointly(self, experience: Experience) -> Learning:
        """Train blocks, and the orders, norms and heads of all tasks so far, on the rows of all of them."""
        new = {"x": experience.train.x.unsqueeze(0), "y": experience.train.y.unsqueeze(0)}
        data = self.state["data"] = {**self.state.get("data", {}), f"{experience.task_id}": new}
        tasks = sorted(int(task) for task in data)
        x = beside([data[f"{task}"]["x"][0] for task in tasks])
        y = [repeated(data[f"{task}"]["y"][0], len(x)).unsqueeze(1) for task in tasks]
        params = {
            "orders": {f"{task}": self._first_order(task) for task in tasks},
            "own": {f"{task}": self._own(task) for task in tasks},
            "shared": self.state.get("shared", {}),
            "blocks": self.state["blocks"],
        }
        fitted = yield from self._fitted(params, experience, (x, *y))
        self.state["shared"], self.state["blocks"] = fitted.get("shared", {}), fitted["blocks"]
        for task in tasks:
            self._keep(task, fitted["orders"][f"{task}"], fitted.get("own", {}).get(f"{task}", {}))
        if len(self.state["orders"]) == self.joint:
            del self.state["data"]

    def _nearest(self, experience: Experience) -> Generator[Event, None, Tensor]:
        """Return for each seed the order of the past task whose features suit the new one best, or whose answers do."""
        rows, scores = experience.train.spread(self.rows), []
        tasks = yield from self._shortlist.tasks(self.state, range(len(self.state["orders"])), experience, self.rows)
        for task in tasks:
            if self._logged is not None:
                score = (self._logged.source(experience.task_id, task),) * len(self.seeds)
            elif "head" in self.common:
                score = tuple(self._accuracy(self._own(task), rows, self._order(task)).tolist())
            else:
                features = self.net.all_features(self._hard(self._order(task), self._own(task)), rows.x)
                score = tuple(nearest_neighbours(pooled(own), compared(self.target, rows.y)) for own in features)
            scores.append(score)
            yield SourceScored(step=experience.step, task_id=experience.task_id, source=task, score=score)
        orders, best = self.state["orders"].rows, torch.tensor(scores).argmax(dim=0).tolist()
        return self._orders.opened(torch.stack([orders[seed, tasks[place]] for seed, place in enumerate(best)]))

    def _adapted(self, experience: Experience) -> Learning:
        """Find an order for rows without labels; norms and head stay those of the task whose order it started from."""
        epochs, rows = self.adapt_epochs, experience.train.spread(self.rows)
        tasks = [task for task in range(len(self.state["orders"])) if task != experience.task_id][-self.starts :]
        tried = []
        for task in tasks:
            own, started = self._own(task), self._orders.opened(self._order(task))
            fitted = yield from self.fit(
                {"orders": {"0": started}},
                self._certainty_loss,
                experience,
                frozen={"own": {"0": own}, "shared": self.state.get("shared", {}), "blocks": self.state["blocks"]},
                train=self._order_train(epochs),
                loss_inputs=partial(self._cooling, epochs),
            )
            score = partial(self._certainty, own, rows)
            found = [refined(self._orders, one, score, self.refine) for one in (started, fitted["orders"]["0"])]
            tried.append((best_of(found), torch.stack([value for _, value in found]).amax(dim=0)))
            yield OrderTried(
                step=experience.step,
                task_id=experience.task_id,
                source=task,
                before=tuple(score(started).tolist()),
                after=tuple(tried[-1][1].tolist()),
            )
        self.state["orders"].put(experience.task_id, best_of(tried))
        source = torch.tensor(tasks)[torch.stack([value for _, value in tried]).argmax(dim=0).cpu()].to(self.net.device)
        for part in {"heads", "norms"} & set(self.state):
            rows = self.state[part].rows
            self.state[part].put(experience.task_id, rows[torch.arange(len(rows), device=rows.device), source])

    def _certainty_loss(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor, *cooling: Tensor) -> Tensor:
        """Return what answers without labels are judged by, and the entropy of the shares."""
        temperature, entropy, hard = cooling
        shares = self._orders.chances(params["orders"]["0"], temperature)
        said = self._answered(params, frozen, "0", x, temperature, hard)
        return entropy * self._orders.entropy(shares) - certainty(said)

    def _certainty(self, own: Tree, rows: Data, order: Tensor) -> Tensor:
        return certainty(self.net.all(self._hard(order, own), rows.x))

    def _accuracy(self, own: Tree, rows: Data, order: Tensor) -> Tensor:
        return quality(self.target, self.net.all(self._hard(order, own), rows.x), rows.y)
