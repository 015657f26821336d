"""Nets of several tasks, put together from sets of weights as an assignment says, and the loss that trains both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cl_engine.core.tree import Tree
from cl_engine.masks.layout import Layout
from cl_engine.modules import assignment
from cl_engine.modules.events import SharingLearned
from cl_engine.nn.division import ends
from cl_engine.nn.net import Net
from cl_engine.nn.target import Target


class WeightSets:
    """Sets of weights of each layer of a net, and chances that tasks use them, while they are fitted.

    What is fitted is a tree of one seed: ``sets`` of each layer ``[K, size]``, ``choice`` with ``chances [T, L, K]`` and which
    are ``allowed``, and ``norms`` of each task ``{name: [T, …]}``. What is frozen are ``past`` sets, which come before those,
    tensors that all have in ``common``, and the ``numbers [M, 2, J, T, L]`` that assignments are drawn by.

    >>> from cl_engine.runs.plugins import net_builder
    >>> net = Net(net_builder("mlp", {"hidden": [6]}, (1, 2, 2), 3), (1, 2, 2))
    >>> from cl_engine.nn.division import division
    >>> layouts = [Layout.of(net, names) for names in division(net)]
    >>> sets = {f"{depth}": torch.ones(2, layout.size) for depth, layout in enumerate(layouts)}
    >>> chances = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])  # the first shared, a head each
    >>> params = {"sets": sets, "choice": {"chances": chances}}
    >>> WeightSets(net, layouts).of_rows(params, None, torch.zeros(5, 1, 2, 2), torch.tensor([0, 1, 1, 0, 0])).shape
    torch.Size([5, 3])
    """

    def __init__(self, net: Net, layouts: Sequence[Layout]) -> None:
        """Take the net, and the tensors of a set of each layer."""
        self._net, self._layouts = net, layouts

    def of_place(self, place: int, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        """Return outputs ``[N, O, …]`` for rows of the task at a place among those fitted, by its likeliest sets."""
        chosen = params["choice"]["chances"][place].argmax(dim=-1)[None, None]
        return self._answered(params, frozen, self._sets(params, frozen), chosen, x.unsqueeze(0), None, place)[0, 0]

    def of_rows(self, params: Tree, frozen: Tree | None, x: Tensor, t: Tensor) -> Tensor:
        """Return the same for rows of the tasks at the places ``t [N]``."""
        places = t.unique().tolist()
        found = torch.cat([self.of_place(place, params, frozen, x[t == place]) for place in places])
        return found.index_select(0, torch.cat([(t == place).nonzero()[:, 0] for place in places]).argsort())

    def told(self, step: int, task: int, path: Tensor, chances: Tensor) -> Iterator[SharingLearned]:
        """Yield the sets of a task ``[S, L]`` layer by layer, and the entropy of its chances ``[S, L, K]``."""
        spread = assignment.entropy(chances)
        for depth, layer in enumerate([*ends(self._net), "head"]):
            chosen, open_ = tuple(path[:, depth].tolist()), tuple(spread[:, depth].tolist())
            yield SharingLearned(step=step, part=layer, task_id=task, set=chosen, entropy=open_)

    def loss(
        self,
        targets: Sequence[Target],
        ranked: int,
        by_task: bool,
        params: Tree,
        frozen: Tree | None,
        x: Tensor,
        *rest: Tensor,
    ) -> Tensor:
        """Return the mean loss of all tasks over assignments; its gradient with respect to chances is a step of evolution.

        Args:
            targets: what each task asks for.
            ranked: how many rows, the last of a batch, assignments are ranked by, where there is a choice.
            by_task: whether they are ranked for each task.
            params, frozen: described by the class.
            x: inputs ``[B, T, …]``, of a single task ``[B, …]``.
            rest: labels ``[B, …]`` of each task; and where there is a choice the number of the step, and 1 if chances move.
        """
        ys, told = rest[: len(targets)], rest[len(targets) :]
        x = x.unsqueeze(0) if len(targets) == 1 else x.transpose(0, 1)
        chances = params["choice"]["chances"]
        if not told:
            return self._trained(targets, params, frozen, chances.argmax(dim=-1).unsqueeze(0), x, ys)
        assert frozen is not None
        numbers, (step, moves), own = frozen["numbers"], told, x.shape[1] - ranked
        first, second = numbers.index_select(0, (step % len(numbers)).reshape(1))[0].unbind(dim=0)
        rows = [y[:own] for y in ys]
        loss = self._trained(targets, params, frozen, assignment.drawn(chances, first), x[:, :own], rows)
        with torch.no_grad():
            chosen = assignment.drawn(chances, second)
            outputs = self._answered(params, frozen, self._sets(params, frozen), chosen, x[:, own:], False)
            losses = [
                target.losses(outputs[:, place].flatten(0, 1), again(ys[place][own:], len(chosen)))
                for place, target in enumerate(targets)
            ]
            lost = torch.stack([each.reshape(len(chosen), -1).mean(dim=1) for each in losses], dim=1)
            away = moves * assignment.direction(chances, chosen, lost, by_task=by_task)
        gained: Tensor = (away * chances).sum()
        return loss + (gained.detach() - gained)

    def _trained(
        self,
        targets: Sequence[Target],
        params: Tree,
        frozen: Tree | None,
        chosen: Tensor,
        x: Tensor,
        ys: Sequence[Tensor],
    ) -> Tensor:
        """Return the mean loss of the tasks, of nets as assignments ``[J, T, L]`` put them together."""
        chances, samples = params["choice"]["chances"], len(chosen)
        every = self._sets(params, frozen)
        sets = [assignment.shared_fairly(own, chances[:, d], samples) for d, own in enumerate(every)]
        outputs = self._answered(params, frozen, sets, chosen, x, None)
        losses = []
        for place, target in enumerate(targets):
            loss = target.loss(outputs[0, place], ys[place])  # each row is heard of once
            if samples > 1:
                others = target.mean_loss(outputs[1:, place].flatten(0, 1), again(ys[place], samples - 1))
                loss = (loss + (samples - 1) * others) / samples
            losses.append(loss)
        weights = params.get("sampling", {}).get("weight")
        return (torch.stack(losses) if weights is None else torch.stack(losses) * weights.detach()).mean()

    def _sets(self, params: Tree, frozen: Tree | None) -> list[Tensor]:
        """Return all sets of each layer ``[K, size]``, those of the past first."""
        past = (frozen or {}).get("past", {})
        keys = [f"{depth}" for depth in range(len(self._layouts))]
        return [torch.cat([past[key], params["sets"][key]]) if key in past else params["sets"][key] for key in keys]

    def _answered(
        self,
        params: Tree,
        frozen: Tree | None,
        sets: Sequence[Tensor],
        chosen: Tensor,
        x: Tensor,
        training: bool | None,
        first: int = 0,
    ) -> Tensor:
        """Return outputs ``[J, T, B, O, …]`` for inputs ``[T, B, …]`` by assignments ``[J, T, L]`` of tasks from ``first``."""
        samples, tasks = chosen.shape[:2]
        common = (frozen or {}).get("common", {})
        weights: dict[str, Tensor] = {}
        for depth, layout in enumerate(self._layouts):
            weights |= layout.named(sets[depth].index_select(0, chosen[:, :, depth].reshape(-1)))
        norms = {
            name: self._fair(name, tensor)[first : first + tasks] for name, tensor in params.get("norms", {}).items()
        }
        if self._net.side_by_side(samples * tasks):
            each = {name: again(tensor, samples) for name, tensor in norms.items()}
            found = torch.vmap(lambda own, rows: self._net.one({**common, **own}, rows, training))(
                {**weights, **each}, again(x, samples)
            )
        else:
            nets = [
                {
                    **common,
                    **{name: tensor[place] for name, tensor in weights.items()},
                    **{name: tensor[place % tasks] for name, tensor in norms.items()},
                }
                for place in range(samples * tasks)
            ]
            found = torch.stack([self._net.one(net, x[place % tasks], training) for place, net in enumerate(nets)])
        outputs: Tensor = found.unflatten(0, (samples, tasks))
        return outputs

    def _fair(self, name: str, tensor: Tensor) -> Tensor:
        """Return a tensor of each task ``[T, …]`` as it is, its gradient that of the task's own loss; buffers themselves."""
        if self._net.is_held(name):
            return tensor
        return tensor.detach() + (tensor - tensor.detach()) * len(tensor)


def again(rows: Tensor, times: int) -> Tensor:
    """Return rows ``[N, …]`` so many times, one behind the other."""
    return rows.expand(times, *rows.shape).flatten(0, 1)
