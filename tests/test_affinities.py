"""What transfers are worth, families of tasks, and policies for all budgets, from transfers made in memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cl_engine.analysis.taxonomy.affinities import affinities_of
from cl_engine.analysis.taxonomy.families import families, linked
from cl_engine.analysis.taxonomy.policies import planned
from cl_engine.core.measure import Measure
from cl_engine.errors import UsageError
from cl_engine.results.transfers import Transfer, Transfers
from tests.made_transfers import made

NAMES = ("digit", "parity", "loops", "ink", "slant")
OFFICIAL = Path(__file__).parents[1] / "benchmarks" / "taskonomy"
FAMILIES = {  # Zamir et al. 2018
    "2D": {"autoencoder", "denoise", "edge2d", "keypoint2d", "segment2d"},
    "3D": {"curvature", "edge3d", "keypoint3d", "reshade", "rgb2depth", "rgb2mist", "rgb2sfnorm", "segment25d"},
    "geometric": {
        *("ego_motion", "fix_pose", "non_fixated_pose"),
        *("point_match", "room_layout", "vanishing_point_well_defined"),
    },
    "semantic": {"class_1000", "class_places", "segmentsemantic_rb"},
}


def changed(found: list[Transfers], place: int, **values: object) -> list[Transfers]:
    """Return transfers of which one of the first seed is another."""
    probed = list(found[0].probed)
    probed[place] = replace(probed[place], **values)
    return [replace(found[0], probed=tuple(probed)), *found[1:]]


def test_the_affinities_of_a_task_sum_to_one_in_every_seed_and_the_own_net_has_the_most():
    found = affinities_of(made(NAMES))
    for target in range(len(NAMES)):
        ways = [way for way in found.ways if way.target == target]
        for name in ("affinity", "borda", "bradley_terry"):
            np.testing.assert_allclose(np.nansum([way.values[name] for way in ways], axis=0), 1)
        assert max(ways, key=lambda way: np.nan_to_num(way.mean("affinity"))).kind == "full"
    assert np.nanmax(found.consistency) < 0.1


def test_quality_and_gain_are_one_half_against_themselves():
    for way in affinities_of(made(NAMES)).ways:
        if way.kind == "full":
            np.testing.assert_array_equal(way.values["quality"], 0.5)
        if way.kind == "scratch":
            np.testing.assert_array_equal(way.values["gain"], 0.5)
            assert np.isnan(way.values["affinity"]).all()


def test_a_transfer_is_matched_against_as_many_nets_that_know_the_target_alone():
    found = affinities_of(made(NAMES))
    by_key = {(way.target, way.kind, way.sources): way for way in found.ways}
    np.testing.assert_array_equal(by_key[0, "transfer", (0,)].values["matched_gain"], 0.5)
    np.testing.assert_array_equal(by_key[0, "copies", (0, 0)].values["matched_gain"], 0.5)
    first, control = (by_key[0, kind, sources] for kind, sources in (("transfer", (1, 2)), ("copies", (0, 0))))
    assert first.mean("matched_gain") < 0.5 < control.mean("gain")
    without = [replace(each, probed=tuple(one for one in each.probed if one.kind != "copies")) for each in made(NAMES)]
    pairs = [way for way in affinities_of(without).ways if len(way.sources) == 2]
    assert pairs
    assert all(np.isnan(way.values["matched_gain"]).all() for way in pairs)


def test_both_outcomes_are_told_and_one_of_them_decides():
    by_errors, by_losses = (affinities_of(made(NAMES), outcomes) for outcomes in ("errors", "losses"))
    for one, other in zip(by_errors.ways, by_losses.ways, strict=True):
        np.testing.assert_array_equal(one.values["quality_by_losses"], other.values["quality"])
        np.testing.assert_array_equal(one.values["gain"], other.values["gain_by_errors"])


def test_the_matrix_has_sources_down_and_targets_across():
    found = affinities_of(made(NAMES))
    matrix = found.matrix()
    assert matrix.shape == (2, 5, 5)
    way = next(way for way in found.ways if (way.kind, way.sources, way.target) == ("transfer", (3,), 1))
    np.testing.assert_array_equal(matrix[:, 3, 1], way.values["affinity"])


def test_sources_that_one_seed_alone_probed_are_worth_nothing_known_in_others_and_no_policy_takes_them():
    transfers = made(NAMES)
    few = tuple(each for each in transfers[0].probed if each.sources != (0, 1))
    found = affinities_of([replace(transfers[0], probed=few), transfers[1]])
    odd = [way for way in found.ways if way.sources == (0, 1)]
    assert len(odd) == 5
    assert all(np.isnan(way.mean("quality")) and np.isfinite(way.values["quality"][1]) for way in odd)
    assert not any(way.sources == (0, 1) for policy in planned(found, draws=2).best for way in policy.ways)


def test_the_four_families_of_taskonomy_are_found_in_its_measurements():
    rows = json.loads((OFFICIAL / "taskonomy_16k.json").read_text())["rows"]
    first = {(s[0], t): a for s, t, a, *_ in rows if len(s) == 1 and a is not None and s[0] not in ("self", "random")}
    sources, targets = (sorted({key[place] for key in first}) for place in (0, 1))
    matrix = np.array([[first[source, target] for target in targets] for source in sources])
    found = [{targets[task] for task in family} for family in families(linked(matrix), 4)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, FAMILIES.values()))


def test_tasks_that_are_near_are_one_family_whatever_was_not_probed():
    matrix = affinities_of(made(NAMES, places=(0, 0.2, 9, 9.3, 9.1))).matrix().mean(axis=0)
    matrix[4, 0] = np.nan
    assert sorted(map(sorted, families(linked(matrix), 2))) == [[0, 1], [2, 3, 4]]


def test_more_labels_never_do_worse_and_beat_policies_at_random():
    plans = planned(affinities_of(made(NAMES)), "quality", draws=50)
    worth = [policy.worth for policy in plans.best]
    assert [policy.budget for policy in plans.best] == [1, 2, 3, 4, 5]
    assert worth == sorted(worth)
    for policy, drawn in zip(plans.best, plans.random, strict=True):
        assert policy.quality.mean() >= max(each.quality.mean() for each in drawn) - 1e-9
        assert policy.share == pytest.approx((len(policy.trained) * 1000 + (5 - len(policy.trained)) * 50) / 5000)
        assert len(policy.trained) == policy.budget


def test_a_trained_task_answers_by_its_own_net_and_no_other_reads_itself():
    for objective in ("affinity", "quality", "gain", "accuracy", "matched_gain"):
        for policy in planned(affinities_of(made(NAMES)), objective, draws=2).best:
            for way in policy.ways:
                assert (way.kind == "full") == (way.target in policy.trained)
                assert way.target not in way.sources
                assert set(way.sources) <= set(policy.trained)


def test_free_labels_need_no_budget():
    found = affinities_of(made(NAMES, free=(3,)))
    assert planned(found, draws=2).best[0].trained == (3,)
    assert planned(found, draws=2).best[0].share == pytest.approx(50 / 1000)
    assert planned(found, free=["digit", "parity"], draws=2).best[0].budget == 0
    assert planned(found, free=[], draws=2).best[0].budget == 1


def test_where_less_is_better_accuracy_means_less():
    error = Measure("error", "1", False)
    found = affinities_of(made(NAMES), measures=[error] * 5)
    plans = planned(found, "accuracy", draws=20)
    assert plans.at(2).score.mean() <= min(each.score.mean() for each in plans.random[1]) + 1e-9


def test_scores_of_several_measures_are_never_averaged():
    found = affinities_of(made(NAMES), measures=[Measure("accuracy")] * 4 + [Measure("mean IoU")])
    assert np.isnan(planned(found, draws=2).at(2).score).all()
    with pytest.raises(UsageError, match="the tasks are measured by several things"):
        planned(found, "accuracy")


def test_one_task_has_one_policy():
    plans = planned(affinities_of(made(("digit",), order=1)), draws=2)
    assert [(policy.budget, policy.trained, policy.share) for policy in plans.best] == [(1, (0,), 1.0)]


def test_a_transfer_with_a_loss_that_is_nan_is_left_out_and_named():
    transfers = made(NAMES)
    place = next(k for k, each in enumerate(transfers[0].probed) if each.sources == (2,) and each.target == 1)
    losses = transfers[0].probed[place].losses.copy()
    losses[3] = np.nan
    found = affinities_of(changed(transfers, place, losses=losses))
    assert found.remarks == ("seed 0: a loss of loops for parity is NaN, and it is left out",)
    assert np.isnan(found.matrix()[0, 2, 1])
    assert np.isfinite(found.matrix()[1, 2, 1])


def test_a_task_without_transfers_is_named_and_answers_by_its_own_net():
    transfers = made(NAMES)
    alone = [
        replace(each, probed=tuple(one for one in each.probed if one.target != 4 or one.kind != "transfer"))
        for each in transfers
    ]
    found = affinities_of(alone)
    assert found.remarks == ("no transfer to slant was probed",)
    assert all(4 in policy.trained for policy in planned(found, draws=2).best)


def test_a_task_that_cannot_be_reached_is_named():
    unreached = [replace(each, probed=tuple(one for one in each.probed if one.target != 4)) for each in made(NAMES)]
    with pytest.raises(UsageError, match="no policy reaches slant"):
        planned(affinities_of(unreached))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"objective": "speed"}, "no objective named 'speed'"),
        ({"order": 3}, "order: found 3; transfers that read 1 to 2 nets were probed"),
        ({"order": 0}, "order: found 0"),
        ({"free": ["digits"]}, "no task named 'digits' .did you mean 'digit'"),
    ],
)
def test_what_was_not_probed_cannot_be_asked_for(asked: dict[str, object], said: str):
    with pytest.raises(UsageError, match=said):
        planned(affinities_of(made(NAMES)), **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("budget", "said"), [(-1, "trains 1"), (0, "trains 1"), (6, "5 tasks cost labels, so that more")]
)
def test_a_budget_that_no_policy_has_is_refused_with_those_that_there_are(budget: int, said: str):
    with pytest.raises(UsageError, match=f"budget: found {budget}; .*{said}"):
        planned(affinities_of(made(NAMES)), draws=2).at(budget)


def test_nothing_probed_and_rows_that_differ_are_refused():
    with pytest.raises(UsageError, match="there are no transfers between tasks"):
        affinities_of([Transfers(0, ("digit",), (9,), frozenset(), ())])
    odd = changed(made(NAMES), 4, losses=np.zeros(7), errors=np.zeros(7))
    with pytest.raises(UsageError, match=r"seed 0, digit: its ways were probed on \[7, 80\] rows"):
        affinities_of(odd)


def test_a_way_is_called_by_what_it_reads():
    found = affinities_of(made(NAMES))
    named = {found.named(way) for way in found.ways if way.target == 0}
    assert {"all labels", "from scratch", "an untrained net", "digit + digit (copies)", "parity + ink"} <= named
    assert Transfer(0, (), "full", 1, np.zeros(1), np.zeros(1), 0.0).order == 0
