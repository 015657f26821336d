"""The metrics that a run is judged by: what each is called, what it means, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number by which runs are judged.

    >>> METRICS["forgetting"].title, METRICS["forgetting"].higher
    ('forgetting', False)

    Attributes:
        name: its name in logs and on the command line.
        title: its name in tables and pictures.
        meaning: its definition in a sentence, with its source; empty where the title says all.
        higher: whether more is better.
        signed: whether it is a difference, shown with its sign.
        unit: its unit; empty for a share.
    """

    name: str
    title: str
    meaning: str = ""
    higher: bool = True
    signed: bool = False
    unit: str = ""


METRICS = {
    metric.name: metric
    for metric in (
        Metric(name="acc", title="ACC", meaning="mean accuracy over the tasks met (Lopez-Paz & Ranzato 2017)"),
        Metric(
            name="bwt",
            title="BWT",
            meaning="backward transfer: accuracy less that right after learning, mean over the earlier tasks "
            "(Lopez-Paz & Ranzato 2017)",
            signed=True,
        ),
        Metric(
            name="forgetting",
            title="forgetting",
            meaning="best earlier accuracy less the present one, mean over the earlier tasks (Chaudhry et al. 2018)",
            higher=False,
            signed=True,
        ),
        Metric(
            name="fwt",
            title="FWT",
            meaning="forward transfer: accuracy just before learning less that of the untrained learner "
            "(Lopez-Paz & Ranzato 2017)",
            signed=True,
        ),
        Metric(
            name="learning_accuracy",
            title="learning accuracy",
            meaning="accuracy right after learning, mean over tasks (Riemer et al. 2019)",
        ),
        Metric(
            name="online_accuracy",
            title="online accuracy",
            meaning="accuracy of each batch by the forward pass that trains on it, before its step, mean over the rows of an "
            "experience and over experiences (total average online accuracy of Kumar et al. 2023)",
        ),
        Metric(
            name="curve_area",
            title="curve area",
            meaning="area under the curve of test accuracy while learning a task, divided by its length",
        ),
        Metric(
            name="lca",
            title="LCA",
            meaning="mean accuracy after 0, 1, … β batches of learning a task, where β is the number of batches after "
            "each of which it was tested (Chaudhry et al. 2019)",
        ),
        Metric(
            name="transfer",
            title="transfer",
            meaning="accuracy right after learning less that of the run `independent`, mean over tasks; that of the last "
            "task alone is the transfer of a stream (Veniat et al. 2021)",
            signed=True,
        ),
        Metric(name="transfer_last", title="transfer, last task", signed=True),
        Metric(
            name="delta_m",
            title="Δm",
            meaning="mean over tasks of the last score less that of the run `independent`, relative to it, with its sign turned "
            "where less is better (Maninis et al. 2019, eq. 3)",
            signed=True,
        ),
        Metric(
            name="intransigence",
            title="intransigence",
            meaning="accuracy of the run `joint` right after each task less this run's, mean over tasks "
            "(Chaudhry et al. 2018)",
            higher=False,
            signed=True,
        ),
        Metric(name="min_acc", title="min-ACC"),
        Metric(name="wc_acc", title="WC-ACC"),
        Metric(
            name="windowed_forgetting",
            title="WF10",
            meaning="largest drop of a task's accuracy within 10 tests in a row, from before its first batch to the end, "
            "mean over tasks (De Lange et al. 2023)",
            higher=False,
        ),
        Metric(
            name="windowed_plasticity",
            title="WP10",
            meaning="the same of the largest gain, so that learning the task itself counts (De Lange et al. 2023)",
        ),
        Metric(name="performance_maintenance", title="maintenance", signed=True),
        Metric(name="remembering", title="remembering"),
        Metric(name="relative_performance", title="relative performance"),
        Metric(
            name="sample_efficiency",
            title="sample efficiency",
            meaning="how high and how soon accuracy saturates while a task is learned, against the run `independent`; 0 where "
            "it falls (New et al. 2022)",
        ),
        Metric(
            name="memory",
            title="memory",
            meaning="bytes one seed would have to save at the end, but for what follows from the seed",
            higher=False,
            unit="byte",
        ),
        Metric(name="seconds", title="time", higher=False, unit="s"),
        Metric(
            name="training_flops",
            title="training FLOPs",
            meaning="multiplications and additions of matrix products and convolutions in all fits, one seed's",
            higher=False,
        ),
        Metric(
            name="inference_flops",
            title="inference FLOPs",
            meaning="the same for answering one row of the last task",
            higher=False,
        ),
        Metric(
            name="size_efficiency",
            title="size efficiency",
            meaning="mean of memory after the first task over memory after each, at most 1 (Díaz-Rodríguez et al. 2018)",
        ),
    )
}
# those that are logged after every evaluation
SCORES = ("acc", "bwt", "fwt", "forgetting")
