"""Streams of unrelated data sets, images in folders, and bringing images to one shape."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cl_engine.data import image_files
from cl_engine.data.images import to_shape
from cl_engine.data.source import Arrays
from cl_engine.errors import UsageError
from cl_engine.runs import plugins
from cl_engine.runs.data_root import DataRoot
from cl_engine.streams.datasets import Datasets
from cl_engine.testing.small import images
from cl_engine.testing.streams import same
from tests.conftest import Given


def load(name: str) -> Arrays:
    if name == "signals":
        return Arrays(
            np.zeros((4, 1, 9), np.float32), np.arange(4) % 2, np.zeros((2, 1, 9), np.float32), np.arange(2), 2
        )
    return images({"six": 6, "four": 4, "two": 2}[name])


def stream(*sources: Any, **options: Any) -> Datasets:
    return Datasets(Given(load), sources=list(sources), **options)


def test_every_task_is_a_data_set_or_some_of_its_classes():
    found = stream("six", {"source": "four", "classes": [3, 1]}, "two")
    assert [found[step].classes for step in range(3)] == [6, 2, 2]
    assert [set(found[step].train.y.tolist()) for step in range(3)] == [set(range(6)), {0, 1}, {0, 1}]
    assert (found.n_tasks, found.n_steps, found.outputs) == (3, 3, 6)
    assert [found.name_of(task) for task in range(3)] == ["six", "four 3, 1", "two"]
    rows = images(4)
    assert torch.equal(found[1].train.x[:8], torch.from_numpy(rows.train_x[rows.train_y == 3]))


def test_a_task_may_have_rows_of_its_own_number_and_draw():
    again = [{"source": "six", "seed": seed, "samples_per_class": 2} for seed in (0, 1)]
    found = stream("six", *again, samples_per_class=3)
    assert [len(found[step].train) for step in range(3)] == [18, 12, 12]
    assert [found.train_rows(step) for step in range(3)] == [18, 12, 12]
    assert not torch.equal(found[1].train.x, found[2].train.x)
    assert torch.equal(found.test(1).x, found.test(0).x)
    # what is newer than experiments on disk is not written into them
    assert found.options()["sources"][0] == "six"
    assert set(stream({"source": "six"}).options()["sources"][0]) == {"source", "classes", "name"}


def test_in_the_class_setting_every_data_set_has_labels_of_its_own():
    found = stream("six", "four", "two", setting="class")
    assert [sorted(set(found[step].train.y.tolist())) for step in range(3)] == [[*range(6)], [6, 7, 8, 9], [10, 11]]
    assert sorted(set(found.test(2).y.tolist())) == [10, 11]
    assert found.outputs == 12


def test_a_step_gives_the_same_however_often_and_in_whatever_order():
    one, other = (stream("six", "four", "two", samples_per_class=4, validation=0.25) for _ in range(2))
    forwards = [one[step] for step in range(3)]
    for step in (2, 0, 1, 2):
        assert same(forwards[step].train, other[step].train)
        assert same(forwards[step].validation, other[step].validation)
    assert len(forwards[0].validation) == 6


def test_the_order_of_data_sets_can_be_changed():
    plain, shuffled = stream("six", "four", "two"), stream("six", "four", "two", task_order=[2, 0, 1])
    assert same(shuffled[0].train, plain[2].train)
    assert [shuffled[step].rng_key for step in range(3)] == [2, 0, 1]
    assert shuffled.name_of(0) == "two"
    with pytest.raises(UsageError, match="must name each of the tasks 0 to 2 once"):
        stream("six", "four", "two", task_order=[0, 1])


def test_all_are_brought_to_one_shape():
    found = stream("six", "two", shape=[3, 8, 8])
    assert found[1].train.x.shape[1:] == found.input_shape == (3, 8, 8)
    assert len(found.mean) in (1, 3)


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        ([], "stream.sources is empty"),
        ([{"source": "four", "classes": [4]}], r"different numbers from 0 to 3, found \[4\]"),
        (["six", "signals"], "'signals' holds no images"),
        ([{"source": "four", "labels": [1]}], "labels"),
    ],
)
def test_data_sets_that_cannot_be_are_refused(sources: list[Any], sentence: str):
    with pytest.raises(UsageError, match=sentence):
        stream(*sources)[len(sources) - 1]


def test_what_is_wrong_with_a_later_data_set_is_met_at_the_start():
    with pytest.raises(UsageError, match="'signals' holds no images"):
        stream("six", {"source": "signals", "classes": [0, 1]})
    with pytest.raises(UsageError, match=r"different numbers from 0 to 3, found \[4\]"):
        stream("six", {"source": "four", "classes": [4]})
    with pytest.raises(UsageError, match=r"different numbers from 0 to 3, found \[\]"):
        stream("six", {"source": "four", "classes": []})


@pytest.mark.parametrize("options", [{}, {"samples_per_class": 5}, {"validation": 0.3}, {"task_order": [2, 0, 1]}])
def test_how_many_rows_a_task_has_is_known_without_reading_them(options: dict[str, Any]):
    found = stream("six", {"source": "four", "classes": [3, 1]}, "two", **options)
    assert [found.train_rows(step) for step in range(3)] == [len(found[step].train) for step in range(3)]


def test_images_of_the_shape_asked_for_stay_as_they_are():
    x = torch.randint(0, 256, (3, 1, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert to_shape(x, (1, 5, 4)) is x


def test_grey_images_show_the_same_in_all_colours_and_colours_become_luminance():
    x = torch.arange(20, dtype=torch.uint8).reshape(1, 1, 5, 4)
    assert torch.equal(to_shape(x, (3, 5, 4)), x.expand(1, 3, 5, 4))
    assert torch.equal(to_shape(x.expand(1, 3, 5, 4), (1, 5, 4)), x)
    assert to_shape(torch.tensor([255, 0, 0], dtype=torch.uint8).reshape(1, 3, 1, 1), (1, 1, 1)).item() == 76


def test_resizing_keeps_an_even_image_even():
    x = torch.full((2, 3, 9, 7), 200, dtype=torch.uint8)
    assert torch.equal(to_shape(x, (3, 4, 16)), torch.full((2, 3, 4, 16), 200, dtype=torch.uint8))
    assert to_shape(x[:0], (1, 2, 2)).shape == (0, 1, 2, 2)


def written(root: Path, sizes: tuple[tuple[int, int], ...], halves: tuple[str, ...] = ("train", "test")) -> Path:
    for half in halves:
        for label in ("ant", "bee"):
            folder = root / "insects" / half / label
            folder.mkdir(parents=True)
            for k, size in enumerate(sizes):
                Image.new("L" if k else "RGB", size, 10 * k).save(folder / f"{k}.png")
            (folder / "notes.txt").write_text("not an image")
    return root


def test_images_of_one_size_are_taken_as_they_are(tmp_path: Path):
    found = plugins.source("folder/insects").load(written(tmp_path, ((12, 10), (12, 10)), ("train", "val")))
    assert found.train_x.shape == (4, 3, 10, 12)
    assert found.train_y.tolist() == [0, 0, 1, 1]
    assert found.classes == 2


def test_images_of_several_sizes_are_cut_as_for_imagenet(tmp_path: Path):
    found = plugins.source("folder/insects").load(written(tmp_path, ((300, 260), (40, 50))))
    assert found.train_x.shape == (4, 3, 224, 224)


def test_a_folder_that_is_not_there_or_empty_is_said(tmp_path: Path):
    with pytest.raises(UsageError, match=r"there is no folder .*insects/train; expected are NAME/train/CLASS"):
        plugins.source("folder/insects").load(tmp_path)
    written(tmp_path, ((5, 5),))
    (tmp_path / "insects" / "test" / "bee" / "0.png").unlink()
    with pytest.raises(UsageError, match="test/bee holds no images"):
        plugins.source("folder/insects").load(tmp_path)
    (tmp_path / "insects" / "test" / "bee" / "0.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match="is not an image that can be read"):
        plugins.source("folder/insects").load(tmp_path)


def grey(value: Any, mode: str | None = None) -> Image.Image:
    return Image.fromarray(np.full((4, 6), value), mode)


def of_alpha(mode: str, alpha: int) -> Image.Image:
    image = Image.new(mode.removesuffix("A"), (6, 4), 0)
    image.putalpha(alpha)
    return image


def with_transparent_index() -> Image.Image:
    image = Image.new("P", (6, 4), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.info["transparency"] = 0
    return image


@pytest.mark.parametrize(
    ("suffix", "image", "colour"),
    [
        ("png", Image.new("1", (6, 4), 1), (255, 255, 255)),
        ("png", Image.new("L", (6, 4), 77), (77, 77, 77)),
        ("png", grey(np.uint16(0)), (0, 0, 0)),
        ("png", grey(np.uint16(128 * 257 + 100)), (128, 128, 128)),
        ("tif", grey(np.uint16(65535)), (255, 255, 255)),
        ("png", of_alpha("LA", 0), (255, 255, 255)),
        ("png", of_alpha("LA", 255), (0, 0, 0)),
        ("png", of_alpha("RGBA", 51), (204, 204, 204)),
        ("png", with_transparent_index(), (255, 255, 255)),
        ("tif", Image.new("CMYK", (6, 4), (0, 255, 255, 0)), (255, 0, 0)),
    ],
)
def test_an_image_of_any_mode_is_read_as_it_looks_on_paper(
    suffix: str, image: Image.Image, colour: tuple[int, ...], tmp_path: Path
):
    image.save(tmp_path / f"a.{suffix}")
    found = np.asarray(image_files.read(tmp_path / f"a.{suffix}"))
    assert found.dtype == np.uint8
    assert np.unique(found.reshape(-1, 3), axis=0).tolist() == [list(colour)]


def test_every_level_of_16_bits_goes_to_the_nearest_of_8(tmp_path: Path):
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(levels).save(tmp_path / "a.png")
    (tmp_path / "a.ppm").write_bytes(b"P5 256 256 65535\n" + levels.astype(">u2").tobytes())
    for name in ("a.png", "a.ppm"):
        found = np.asarray(image_files.read(tmp_path / name))[..., 0]
        assert np.array_equal(found, np.rint(levels / 257).astype(np.uint8))


@pytest.mark.parametrize("value", [np.float32(0.5), np.int32(70000)])
def test_an_image_that_does_not_say_what_is_white_is_refused_with_its_file_and_mode(value: Any, tmp_path: Path):
    image = grey(value)
    image.save(tmp_path / "a.tif")
    with pytest.raises(UsageError, match=rf"a\.tif is an image of PIL's mode '{image.mode}'"):
        image_files.read(tmp_path / "a.tif")


def test_photographs_are_turned_upright_where_that_is_asked_for(tmp_path: Path):
    exif = Image.Exif()
    exif[image_files.ORIENTATION] = 6  # the camera was held sideways: to be turned clockwise
    image = Image.fromarray(np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6))
    for half in ("train", "test"):
        for label in ("ant", "bee"):
            (tmp_path / "set" / half / label).mkdir(parents=True)
            image.save(tmp_path / "set" / half / label / "a.png", exif=exif)
    stored, turned = (DataRoot(tmp_path).load(f"folder/set{more}").train_x for more in ("", "?upright=true"))
    assert (stored.shape, turned.shape) == ((2, 3, 4, 6), (2, 3, 6, 4))
    assert np.array_equal(turned, np.rot90(stored, -1, (2, 3)))
    with pytest.raises(UsageError, match=r"no option named 'folder/set\.upside'"):
        DataRoot(tmp_path).load("folder/set?upside=true")
    with pytest.raises(UsageError, match=r"'upright' is no option; write folder/set\?KEY=VALUE"):
        DataRoot(tmp_path).load("folder/set?upright")


def test_what_desktops_and_notebooks_leave_in_folders_is_no_data(tmp_path: Path):
    written(tmp_path, ((5, 5), (5, 5)))
    before = DataRoot(tmp_path).load("folder/insects")
    for half in ("train", "test"):
        folder = tmp_path / "insects" / half
        for odd in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
            shutil.copytree(folder / "ant", folder / odd)
            shutil.copytree(folder / "ant", folder / "bee" / odd)
        (folder / "ant" / "._0.png").write_bytes(b"of a Mac")
        (folder / ".DS_Store").write_bytes(b"of a Mac")
        (folder / "bee" / "Thumbs.db").write_bytes(b"of Windows")
    after = DataRoot(tmp_path).load("folder/insects")
    assert after.classes == before.classes == 2
    assert np.array_equal(after.train_x, before.train_x)
    assert np.array_equal(after.train_y, before.train_y)


def test_a_path_is_asked_for_where_one_is_needed_and_refused_where_not():
    with pytest.raises(UsageError, match="name it with a path, as 'folder/NAME'"):
        plugins.source("folder")
    with pytest.raises(UsageError, match="it takes no path: name it 'digits'"):
        plugins.source("digits/zero")
