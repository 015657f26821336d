"""Names that strategies have elsewhere, so that who asks for one by such a name is told what it is called here."""

from __future__ import annotations

from collections.abc import Iterable

from cl_engine import errors
from cl_engine.errors import UsageError

# a class of Avalanche's, and the strategy here that does the same; empty: there is none
AVALANCHE = {
    "AGEM": "agem",
    "AR1": "",
    "BiC": "",
    "CWRStar": "",
    "CoPE": "",
    "Cumulative": "joint",
    "DER": "der",
    "ER_ACE": "er_ace",
    "ER_AML": "",
    "EWC": "ewc",
    "FromScratchTraining": "",
    "GDumb": "gdumb",
    "GEM": "",
    "GSS_greedy": "",
    "GenerativeReplay": "",
    "ICaRL": "icarl",
    "JointTraining": "joint",
    "LFL": "",
    "LwF": "lwf",
    "MAS": "mas",
    "MER": "",
    "MIR": "",
    "Naive": "finetune",
    "PackNet": "packnet",
    "Replay": "replay",
    "SCR": "",
    "StreamingLDA": "slda",
    "SynapticIntelligence": "si",
}
# other names that papers and programs use
OTHERS = {
    "A-GEM": "agem",
    "DER++": "der",
    "DERpp": "der",
    "ER": "replay",
    "ExperienceReplay": "replay",
    "GreedySampler": "gdumb",
    "LearningWithoutForgetting": "lwf",
    "MemoryAwareSynapses": "mas",
    "NCM": "nearest_mean",
    "OnlineEWC": "ewc",
    "SGD": "finetune",
}


def unknown(kind: str, found: str, allowed: Iterable[str]) -> UsageError:
    """Return the error for a plug-in that does not exist: with its names here and in Avalanche, where it has such.

    >>> str(unknown("strategy", "EWC", ["ewc", "si"]))
    "no strategy named 'EWC': it is 'ewc' here, and Avalanche's own is 'avalanche:EWC'; there are: ewc, si"
    """
    if kind != "strategy":
        return errors.unknown(kind, found, allowed)
    names = sorted(allowed)
    plain = _plain(found)
    guest = next((name for name in AVALANCHE if _plain(name) == plain), "")
    own = AVALANCHE.get(guest) or next((own for name, own in OTHERS.items() if _plain(name) == plain), "")
    own = own or next((name for name in names if _plain(name) == plain), "")
    if not (guest or own):
        return errors.unknown(kind, found, names)
    here = f"it is '{own}' here" if own else "there is none here"
    there = f", and Avalanche's own is 'avalanche:{guest}'" if guest else ""
    return UsageError(f"no strategy named '{found}': {here}{there}; there are: {', '.join(names)}")


def _plain(name: str) -> str:
    """Return a name in lower case, without what separates its words."""
    return "".join(sign for sign in name.lower() if sign not in "_- ")
