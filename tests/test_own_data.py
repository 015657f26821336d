"""Data, targets and label functions of users: the good run, the bad are a sentence and exit code 2 before the first step."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cl_engine.errors import RunFailed, UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from cl_engine.runs.data_root import DataRoot
from cl_engine.streams.views import Views
from tests.own_plugins import ME, Margin, Sign
from tests.test_cli import call

DRAW = np.random.default_rng(0)
SIDE = 8
X = DRAW.integers(0, 256, (12, 3, SIDE, SIDE), dtype=np.uint8)
Y = np.arange(12) % 3
DEPTH = DRAW.random((12, 1, SIDE, SIDE), dtype=np.float32) + 1
MASK = DRAW.integers(0, 3, (12, SIDE, SIDE))
BOXES = np.tile(np.array([[1.0, 1, 5, 6], [-1, -1, -1, -1]]), (12, 1, 1))
GOOD: dict[str, np.ndarray] = {"x": X, "y": Y, "depth": DEPTH, "mask": MASK, "boxes": BOXES, "age": Y / 7}
SCENARIO = """
[stream]
name = "views"
source = "{source}"
views = {views}
[net]
name = "{net}"
{width}
[train]
epochs = 1
batch = 6
lr = 0.001
optimizer = "adam"
[agenda]
evaluate_ahead = 0
"""
UNET = {"net": "unet", "width": "width = 4\nstages = 2"}
MLP = {"net": "mlp", "width": "hidden = [4]"}


def archive(root: Path, **changes: Any) -> str:
    """Write `GOOD` with changes (None: left out) as an archive, and return the source's name."""
    arrays = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    np.savez(
        root / "mine.npz", **{f"{half}_{name}": value for half in ("train", "test") for name, value in arrays.items()}
    )
    return "arrays/mine"


def table(root: Path, *lines: str) -> str:
    (root / "pets.csv").write_text("\n".join(lines))
    return "arrays/pets"


def changed(good: np.ndarray, where: Any, value: Any) -> np.ndarray:
    found = good.copy()
    found[where] = value
    return found


def run(root: Path, source: str, *views: str, settings: tuple[str, ...] = (), net: dict[str, str] = UNET) -> Any:
    scenario = root / "own.toml"
    scenario.write_text(SCENARIO.format(source=source, views=[*views], **net))
    sets = [part for setting in settings for part in ("--set", setting)]
    return call("run", scenario, "-s", "finetune", "--data-root", root, "--out", root / "run", "--quiet", *sets)


def refused(found: Any, words: str, root: Path) -> None:
    said = " ".join(found.output.split())
    assert found.exit_code == 2 and words in said, said
    assert said.startswith("Error: ") and not (root / "run" / "log.h5").exists()


def targets(root: Path) -> list[str]:
    return [json.loads(said)["target"] for said in open_run(root / "run").results["task_target"].values.tolist()]


# What is good.


def test_an_archive_of_arrays_is_learned_in_all_its_labellings_and_its_answers_are_drawn(tmp_path: Path):
    done = run(tmp_path, archive(tmp_path), "classes", "depth?kind=depth", "mask", "boxes", "age", "rotation")
    assert done.exit_code == 0, done.output
    assert targets(tmp_path) == ["classes", "number_map", "class_map", "boxes", "numbers", "classes"]
    for task in (2, 4):
        file = tmp_path / f"{task}.png"
        drawn = call("show", tmp_path / "run", "--task", task, "--predictions", file, "--data-root", tmp_path)
        assert drawn.exit_code == 0 and file.stat().st_size > 1000, drawn.output


def test_a_table_is_learned_without_a_class_of_its_own(tmp_path: Path):
    rows = [f"{k},{k / 2},{k * 1.5},{'test' if k % 4 > 1 else 'train'}" for k in range(12)]
    done = run(tmp_path, table(tmp_path, "a,b,label:price,split", *rows), "price", net=MLP)
    assert done.exit_code == 0, done.output


def pictures(root: Path, *, classes: bool = False, mode: str = "P", sizes: tuple[int, int] = (SIDE, SIDE)) -> Path:
    """Write six images a half, with masks ``parts`` and a table of numbers beside them, and return the folder."""
    folder = root / "pets"
    palette = [0, 0, 0, 255, 0, 0, 0, 255, 0]
    for half in ("train", "test"):
        lines = ["file,age,price,kind"]
        for k in range(6):
            name, side = f"{'ant' if k % 2 else 'bee'}/{k}.png" if classes else f"{k}.png", sizes[k % 2]
            for place in (folder / half / name, folder / f"{half}_parts" / name):
                place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((side, side, 3), 20 * k, np.uint8)).save(folder / half / name)
            numbers = (np.arange(side * side).reshape(side, side) + k) % 3
            mask = Image.fromarray(numbers.astype(np.uint8))
            if mode == "P":
                mask = mask.convert("P")
                mask.putdata(numbers.flatten().tolist())
                mask.putpalette(palette)
            (mask if mode in ("L", "P") else mask.convert(mode)).save(folder / f"{half}_parts" / name)
            lines.append(f"{name},{k % 2},{k * 1.5},{'old' if k > 2 else 'new'}")
        (folder / f"{half}.csv").write_text("\n".join(lines))
    return folder


def test_a_folder_of_images_with_masks_and_numbers_beside_them_is_learned(tmp_path: Path):
    pictures(tmp_path)
    done = run(tmp_path, "folder/pets", "parts", "age", "price", "kind", "flip")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("mode", ["P", "L"])
def test_class_numbers_of_masks_are_places_in_the_palette_or_grey_values(tmp_path: Path, mode: str):
    pictures(tmp_path, mode=mode)
    found = DataRoot(tmp_path).load("folder/pets").labels
    assert found["parts"].target == "class_map" and found["parts"].options == {"classes": 3}
    assert found["parts"].train[1, 0, :4].tolist() == [1, 2, 0, 1]
    assert (found["age"].target, found["price"].target, found["kind"].target) == ("classes", "numbers", "classes")
    assert found["price"].test[:, 0].tolist() == [0, 1.5, 3, 4.5, 6, 7.5]
    assert found["kind"].train.tolist() == [0, 0, 0, 1, 1, 1]


def test_images_in_folders_of_classes_have_masks_and_numbers_under_the_same_paths(tmp_path: Path):
    pictures(tmp_path, classes=True)
    found = DataRoot(tmp_path).load("folder/pets")
    assert found.classes == 2 and found.train_y.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.labels["price"].train[:, 0].tolist() == [1.5, 4.5, 7.5, 0, 3, 6]  # ants first


def test_a_mask_is_brought_to_the_size_of_its_image_by_whole_classes(tmp_path: Path):
    pictures(tmp_path, sizes=(SIDE, 2 * SIDE))
    found = DataRoot(tmp_path).load("folder/pets")
    assert found.train_x.shape[2:] == found.labels["parts"].train.shape[1:] == (224, 224)
    assert set(np.unique(found.labels["parts"].train)) == {0, 1, 2}


def test_images_without_any_labels_are_asked_what_needs_none(tmp_path: Path):
    source = archive(tmp_path, **dict.fromkeys(("y", "depth", "mask", "boxes", "age")))
    assert len(Views(DataRoot(tmp_path), source=source, views=["rotation", "autoencode"])[1].train) == 12


def test_grey_images_without_an_axis_of_channels_get_one(tmp_path: Path):
    assert DataRoot(tmp_path).load(archive(tmp_path, x=X[:, 0])).train_x.shape == (12, 1, SIDE, SIDE)


def test_other_labels_of_the_same_images_are_other_data(tmp_path: Path):
    sources = DataRoot(tmp_path)
    sources.load(archive(tmp_path))
    sources.load(archive(tmp_path))
    archive(tmp_path, depth=DEPTH + 1)
    with pytest.raises(RunFailed, match="labels 'depth'"):
        sources.load("arrays/mine")


# What is bad.


@pytest.mark.parametrize(
    ("changes", "view", "words"),
    [
        ({"depth": DEPTH[:11]}, "depth", "'train_depth' has shape (11, 1, 8, 8), and there are 12 inputs"),
        ({"depth": DEPTH[..., 1:]}, "depth", "for images of 8 × 8; allowed are"),
        ({"depth": changed(DEPTH, 3, np.nan)}, "depth", "of its training labels 'depth' no place of row 3 has one"),
        ({"depth": changed(DEPTH, (3, 0, 0, 0), np.inf)}, "depth", "of its training labels 'depth' some are infinite"),
        ({"depth": DEPTH.astype(complex)}, "depth", "'train_depth' is complex128; labels are numbers"),
        ({}, "depth?kind=height", "'depth?kind=height': target.kind"),
        ({}, "mask?classes=2", "of its training labels 'mask?classes=2' one of them is 2; allowed are 0 to 1"),
        ({"mask": changed(MASK, 2, 255)}, "mask", "of its training labels 'mask' no place of row 2 has one"),
        ({"mask": MASK - 1}, "mask", "one of them is -1; allowed are 0 to 1, and 255 for none"),
        ({"mask": MASK * 150}, "mask", "'mask' holds class 300; maps of classes may have the classes 0 to 254"),
        ({"mask": (MASK > 1) * 255}, "mask", "'mask' holds 0 and 255 alone, and 255 stands for places without a label"),
        ({"mask": MASK[:, :4]}, "mask", "'train_mask' is int64 of shape (12, 4, 8), for images of 8 × 8"),
        ({"boxes": changed(BOXES, (4, 1), [1, 1, 9, 4])}, "boxes", "a box of row 4 is [1.0, 1.0, 9.0, 4.0]"),
        ({"boxes": changed(BOXES, (4, 1), [1, 1, np.nan, 4])}, "boxes", "a box of row 4 is [1.0, 1.0, nan, 4.0]"),
        ({"boxes": np.full_like(BOXES, -1)}, "boxes", "of its training labels 'boxes' no row has a box"),
        ({"boxes": BOXES[:, :0]}, "boxes", "no row has a box"),
        ({"age": changed(Y / 7, 4, np.nan)}, "age", "of its training labels 'age' that of row 4 is not finite"),
        ({"age": changed(Y / 7, 4, np.inf)}, "age", "of its training labels 'age' that of row 4 is not finite"),
        ({"y": Y * 2}, "classes", "class 1 of its 5 has no training rows"),
        ({"y": None}, "classes", "the view 'classes' needs two classes; the source has 1"),
        ({"y": None}, "parity", "the view 'parity' is about ten digits"),
        ({"x": X.transpose(0, 2, 3, 1)}, "age", "channels last; images are [rows, channels, height, width]"),
        ({"x": X[:0]}, "age", "'train_x' has shape (0, 3, 8, 8); inputs are [rows, …], one row at least"),
        ({"x": X.astype(np.float32) * np.nan}, "age", "training inputs that are not finite"),
        ({"x": None}, "age", "'train_x' is missing; there are:"),
        ({"age": np.array([{}] * 12)}, "age", "cannot be read as an archive of plain arrays: Object arrays"),
        ({}, "smell", "no view named 'smell'; there are: aspect"),
    ],
    ids=str,
)
def test_bad_arrays_and_labels_are_a_sentence(tmp_path: Path, changes: dict[str, Any], view: str, words: str):
    refused(run(tmp_path, archive(tmp_path, **changes), view), words, tmp_path)


def one_array(file: Path) -> None:
    np.save(file.with_suffix(".npy"), X)
    file.with_suffix(".npy").rename(file)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (one_array, "holds one array; write numpy.savez"),
        (lambda file: file.write_bytes(b"nonsense"), "cannot be read as an archive of plain arrays"),
        (lambda file: np.savez(file, train_x=X, test_x=X[..., 1:]), "inputs must be alike"),
        (lambda file: np.savez(file, train_x=X, test_x=X, train_y=Y), "there is 'train_y' and no 'test_y'"),
        (lambda file: np.savez(file, train_x=X, test_x=X, train_y=Y, test_y=Y[:, None]), "they must be alike"),
        (lambda file: None, "there is no mine.npz, no mine.csv and no mine/train.csv under the data root"),
    ],
)
def test_archives_that_are_none_are_a_sentence(tmp_path: Path, write: Callable[[Path], None], words: str):
    write(tmp_path / "mine.npz")
    refused(run(tmp_path, "arrays/mine", "age"), words, tmp_path)


HEAD, TRAIN, TEST = "a,label,label:price,split", "1,cat,1.5,train", "2,dog,2,test"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((HEAD, TRAIN, TEST, "x,cat,1.5,train"), "an input is no number: could not convert string to float: 'x'"),
        (
            (HEAD, TRAIN, TEST, "1,cat,much,train"),
            "column 'label:price': 'much' is no number, and others of the column",
        ),
        ((HEAD, TRAIN, TEST, "nan,dog,1.5,train", "2,cat,3,test"), "training inputs that are not finite numbers"),
        ((HEAD, TRAIN, TEST, "1,dog,nan,train", "2,cat,3,test"), "'price' that of row 1 is not finite"),
        ((HEAD, TRAIN, TEST, "1,cat,train"), "has not as many fields as the 4 columns"),
        (("a,a,label,split", "1,1,cat,train"), "has two columns 'a'"),
        ((HEAD, TRAIN), "'test_x' has shape (0, 1)"),
        (("label:price,split", "1.5,train", "2,test"), "'train_x' has shape (1, 0)"),
        (("a,split", "1,train", "2,test"), "no view named 'price'"),
        (("a,label:price", "1,2"), "has no column 'split'"),
    ],
    ids=str,
)
def test_bad_tables_are_a_sentence(tmp_path: Path, lines: tuple[str, ...], words: str):
    refused(run(tmp_path, table(tmp_path, *lines), "price", net=MLP), words, tmp_path)


def without(path: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        found = folder / path
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    return remove


def edited(old: str, new: str) -> Callable[..., None]:
    def edit(folder: Path, half: str = "train") -> None:
        file = folder / f"{half}.csv"
        file.write_text(file.read_text().replace(old, new))

    return edit


def with_mask(image: Image.Image) -> Callable[[Path], None]:
    return lambda folder: image.save(folder / "train_parts" / "3.png")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("train_parts/3.png"), "train/3.png and no mask"),
        (with_mask(Image.new("P", (4, 4))), "train_parts/3.png is of 4 × 4 pixels, and its image of 8 × 8"),
        (with_mask(Image.new("RGB", (SIDE, SIDE))), "of PIL's mode 'RGB'; class numbers are grey values, or places in"),
        (with_mask(Image.new("L", (SIDE, SIDE), 255)), "of its training labels 'parts' no place of row 3 has one"),
        (lambda folder: (folder / "train_parts/3.png").write_bytes(b"no"), "3.png is not a PNG that can be read"),
        (without("test_parts"), "there is no folder"),
        (without("test.csv"), "train.csv and no"),
        (edited("file", "image"), "has the columns image, age, price, kind; 'file' and others are needed"),
        (edited("3.png", "9.png"), "train.csv names '9.png', and there is no such image under"),
        (edited("3.png,1,4.5,old\n", ""), "train.csv has no row for '3.png', an image under"),
        (edited("3.png", "3.png,1,4.5,old\n3.png"), "train.csv has two rows for '3.png'"),
        (edited("4.5", "much"), "column 'price': 'much' is no number"),
        (edited("price", "cost"), "has the columns age, cost, kind,"),
        (
            lambda folder: [edited("age", "parts")(folder, half) for half in ("train", "test")],
            "there are two labellings 'parts'",
        ),
    ],
)
def test_bad_folders_of_images_are_a_sentence(tmp_path: Path, change: Callable[[Path], None], words: str):
    change(pictures(tmp_path))
    refused(run(tmp_path, "folder/pets", "parts"), words, tmp_path)


def test_tasks_of_classes_are_not_made_of_a_source_without_classes(tmp_path: Path):
    experiment = Experiment.of("permuted_digits", "finetune", **{"stream.source": archive(tmp_path, y=None)})
    named = r"has no two classes; its labellings are age, boxes, depth, mask: for other tasks use stream.name = '(\w+)'"
    with pytest.raises(UsageError, match=named) as error:
        experiment.stream(data_root=tmp_path)
    found = re.search(named, str(error.value))
    assert found and found[1] in plugins.names("streams")  # what is advised exists


# Targets and label functions of users.


def test_own_targets_and_label_functions_run_like_the_engines_own(tmp_path: Path):
    done = run(tmp_path, archive(tmp_path), "classes", f"{ME}:Light", f"{ME}:Margins")
    assert done.exit_code == 0, done.output
    assert targets(tmp_path) == ["classes", f"{ME}:Sign", f"{ME}:Margin"]


def test_two_targets_of_one_file_are_not_the_same():
    assert Sign.of().key != Margin.of().key and Sign.of().key == Sign.of().key


@pytest.mark.parametrize("kind", ["targets", "labels"])
def test_every_target_and_label_function_is_listed_with_what_it_means(kind: str):
    listed = call("list", kind).output
    for name in plugins.names(kind):  # type: ignore[arg-type]
        [line] = [line for line in listed.splitlines() if line.startswith(f"  {name} ")]
        assert line.rstrip().endswith(".") and len(line.split()) > 2, line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("AsksNoOutputs", "the target 'tests.own_plugins:NoOutputs': outputs is 0; 1, 2, 3, … are allowed"),
        ("AsksOneNameTooFew", "sums have shape (2,), and 1 have names in sum_names"),
        ("AsksMeanLoss", "losses of 3 rows have shape (); one number a row is wanted"),
        ("AsksOtherMeasure", "scores are agreement, and 'accord', the measure, is not among them"),
        ("AsksLongGuess", "a guess has shape (2,); a number for each of the 1 outputs is wanted"),
        ("AsksFifthOutput", "cannot be used: it raised IndexError: index 4 is out of bounds"),
        ("AsksNowhere", "the target 'tests.own_plugins:Nowhere' cannot be imported"),
        ("AsksAbstract", "the target 'cl_engine.nn.target:Target' cannot be made: it raised TypeError"),
        ("AsksTooMany", "no option named 'target.clases'"),
        ("AsksName", "its target is 'classes'; the name of a target, and a dictionary of options, are wanted"),
        ("FailsToPrepare", "the view 'tests.own_plugins:FailsToPrepare' raised ValueError: not this source"),
        ("FailsToAsk", "the view 'tests.own_plugins:FailsToAsk' raised KeyError: 'light'"),
        ("Beyond", "of its training labels 'tests.own_plugins:Beyond' one of them is 2; allowed are 0 to 1"),
        ("NoNumber", "of its training labels 'tests.own_plugins:NoNumber' that of row 0 is not finite"),
        ("Fewer", "the view 'tests.own_plugins:Fewer' gives 11 labels"),
        ("Smaller", "inputs that are torch.uint8 of shape (12, 3, 8, 7)"),
        ("Nobody", "the view 'tests.own_plugins:Nobody' cannot be imported"),
        ("Sign", "'tests.own_plugins:Sign' is not a view"),
    ],
)
def test_bad_targets_and_label_functions_are_a_sentence(tmp_path: Path, name: str, words: str):
    refused(run(tmp_path, archive(tmp_path), f"{ME}:{name}"), words, tmp_path)


# Images shown at random.


@pytest.mark.parametrize(
    ("view", "setting", "words"),
    [
        ("depth", "train.crop=2", "train.crop and train.flip move images, and the labels of 'number_map'"),
        ("mask", "train.flip=0.5", "the labels of 'class_map', which are at places, would stay where they are"),
        ("boxes classes", "train.crop=1", "the labels of 'boxes'"),
        ("flip", "train.flip=0.5", "train.flip: to 'flip' a mirrored image has another answer than the image"),
        ("slant", "train.flip=0.5", "train.flip: to 'slant' a mirrored image"),
    ],
)
def test_images_are_not_moved_where_labels_would_not_follow(tmp_path: Path, view: str, setting: str, words: str):
    refused(run(tmp_path, archive(tmp_path), *view.split(), settings=(setting,)), words, tmp_path)
