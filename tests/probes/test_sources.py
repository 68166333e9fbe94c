"""Probe sets from folders, parquet files, shards, datasets and memory, and how they fail."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from neuronym import probes
from neuronym.errors import (
    InputError,
    MissingError,
    UnavailableError,
    UnknownNameError,
    UnreadableError,
)
from neuronym.probes.shards import expand_braces
from probes_pictures import jpeg, photo


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def same(first: Image.Image, second: Image.Image) -> bool:
    return first.mode == second.mode and first.tobytes() == second.tobytes()


# folders


def test_a_folder_with_classes(tmp_path: Path) -> None:
    for seed, name in enumerate(["dog/b.jpg", "dog/deep/a.JPEG", "cat/z.png", "cat/.hidden.png"]):
        data = jpeg(seed)
        write(tmp_path / name, data)
    write(tmp_path / "dog/notes.txt", b"no image")
    write(tmp_path / ".git/x.jpg", jpeg())
    held = probes.load(str(tmp_path))
    assert isinstance(held, probes.ProbeSet)
    assert held.ids == ("cat/z.png", "dog/b.jpg", "dog/deep/a.JPEG")
    assert held.label_names == ("cat", "dog")
    assert held.labels.tolist() == [0, 1, 1]
    assert held.labels.dtype == np.int64
    assert same(held.image(1), probes.decode(jpeg(0)))
    assert len(held) == 3


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "b.jpg", jpeg(1))
    write(tmp_path / "a.jpg", jpeg(0))
    held = probes.load(tmp_path)
    assert held.ids == ("a.jpg", "b.jpg")
    assert held.labels is None
    assert held.label_names is None
    write(tmp_path / "only/c.jpg", jpeg(2))
    assert probes.load(tmp_path).labels is None


def test_the_fingerprint_of_a_folder_follows_its_content(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", jpeg(0))
    big = np.random.default_rng(0).integers(0, 255, 200_000, dtype=np.uint8).tobytes()
    write(tmp_path / "b.jpg", big)
    first = probes.load(tmp_path).fingerprint
    assert probes.load(tmp_path).fingerprint == first
    write(tmp_path / "b.jpg", big[:100_000] + b"\0" * 16 + big[100_016:])
    second = probes.load(tmp_path).fingerprint
    (tmp_path / "a.jpg").rename(tmp_path / "c.jpg")
    third = probes.load(tmp_path).fingerprint
    assert len({first, second, third}) == 3


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no images in .*; looked for .*\.jpg"):
        probes.load(tmp_path)
    with pytest.raises(MissingError, match=r"do not exist; give a folder of images, FILE\.parquet"):
        probes.load(tmp_path / "nothing")
    file = write(tmp_path / "a.jpg", jpeg())
    with pytest.raises(InputError, match="is a file; give a folder"):
        probes.load(file)
    with pytest.raises(InputError, match="an empty text was given"):
        probes.load(" ")


def test_a_folder_link_that_leads_back_ends(tmp_path: Path) -> None:
    write(tmp_path / "a/x.jpg", jpeg())
    (tmp_path / "a/back").symlink_to(tmp_path, target_is_directory=True)
    assert probes.load(tmp_path).ids == ("a/x.jpg",)


# parquet


def parquet(path: Path, rows: int = 7, *, group: int = 3, **columns: object) -> Path:
    images = [{"bytes": jpeg(row), "path": f"p/{row}.jpg"} for row in range(rows)]
    pq.write_table(pa.table({"image": images, **columns}), path, row_group_size=group)
    return path


def test_a_parquet_file(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", label=[0, 2, 2, 0, 5, 0, 2], label_name=list("accafac"))
    held = probes.load(path)
    assert isinstance(held, probes.ProbeSet)
    assert held.ids[:2] == ("p/0.jpg", "p/1.jpg")
    assert held.labels.tolist() == [0, 2, 2, 0, 5, 0, 2]
    assert held.label_names == ("a", "class 1", "c", "class 3", "class 4", "f")
    for index in (6, 0, 3, 5, 1, 2, 4):
        assert same(held.image(index), probes.decode(jpeg(index)))
    with pytest.raises(IndexError):
        held.image(7)


def test_at_most_two_row_groups_are_kept(tmp_path: Path) -> None:
    held = probes.load(parquet(tmp_path / "x.parquet", 20, group=2))
    for index in (0, 19, 7, 8, 3):
        held.image(index)
        assert len(held._groups) <= 2


def test_parquet_columns_may_be_plain(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"image": pa.array([jpeg(0), None], pa.binary()), "label": ["b", "a"]})
    pq.write_table(table, path)
    held = probes.load(path)
    assert held.ids == ("row-0", "row-1")
    assert held.label_names == ("a", "b")
    assert held.labels.tolist() == [1, 0]
    with pytest.raises(UnreadableError, match="image 'row-1' is null"):
        held.image(1)


def test_parquet_images_by_path_and_stored_class_names(tmp_path: Path) -> None:
    write(tmp_path / "in/a.jpg", jpeg(4))
    stored = {"info": {"features": {"label": {"names": ["no", "yes"]}}}}
    table = pa.table(
        {"image": [{"bytes": None, "path": "in/a.jpg"}], "label": pa.array([None], pa.int64())}
    ).replace_schema_metadata({"huggingface": json.dumps(stored)})
    pq.write_table(table, tmp_path / "x.parquet")
    held = probes.load(tmp_path / "x.parquet")
    assert held.labels.tolist() == [-1]
    assert held.label_names == ("no", "yes")
    assert same(held.image(0), probes.decode(jpeg(4)))


def test_the_fingerprint_of_a_parquet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = probes.load(parquet(tmp_path / "x.parquet", 4))
    second = probes.load(parquet(tmp_path / "y.parquet", 4))
    third = probes.load(parquet(tmp_path / "z.parquet", 5))
    assert first.fingerprint == second.fingerprint != third.fingerprint
    monkeypatch.setattr("neuronym.probes.parquet._WHOLE_FILE", 10)
    large = [probes.load(tmp_path / f"{name}.parquet").fingerprint for name in "xyz"]
    assert large[0] == large[1] != large[2]
    assert large[0] != first.fingerprint


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"picture": [b"x"]}, InputError, "has no column 'image'; its columns: picture"),
        ({"image": [3]}, UnreadableError, "column 'image' holds int64"),
        ({"image": [b"x"], "label": [1.5]}, UnreadableError, "column 'label' holds double"),
        ({"image": [b"x"], "label": [10**9]}, UnreadableError, "label 1000000000 is too large"),
        ({"image": pa.array([], pa.binary())}, InputError, "has no row"),
        (
            {"image": [b"x", b"y"], "label": [1, 1], "label_name": ["a", "b"]},
            UnreadableError,
            "label 1 is named 'a' and, in row 1, 'b'",
        ),
    ],
)
def test_parquet_files_that_cannot_be_used(
    tmp_path: Path, columns: dict, error: type[Exception], message: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(error, match=message):
        probes.load(tmp_path / "x.parquet")


def test_a_file_that_is_not_parquet(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", b"PAR1 but not really")
    with pytest.raises(UnreadableError, match="is not a parquet file"):
        probes.load(tmp_path / "x.parquet")
    with pytest.raises(MissingError, match=r"parquet file .* does not exist"):
        probes.load(tmp_path / "y.parquet")


@pytest.mark.shared_data
def test_real_photos(shared_data: Path) -> None:
    held = probes.load(shared_data / "imagenet-photos.parquet")
    assert len(held) == 800
    assert held.label_names[held.labels[0]] == "tench"
    assert min(held.image(799).size) <= 288
    cifar = probes.load(shared_data / "cifar10-test.parquet")
    assert cifar.label_names[0] == "airplane"
    assert len(cifar.label_names) == 10
    assert np.bincount(cifar.labels).tolist() == [500] * 10


# SPEC strings


def test_scenes_by_spec() -> None:
    assert len(probes.load("scenes")) == 2000
    held = probes.load("scenes:12:3")
    assert (len(held), held.name) == (12, "scenes:12:3")
    assert held.fingerprint == probes.load(held.name).fingerprint
    assert probes.load("scenes:12").name == "scenes:12:0"


@pytest.mark.parametrize(
    ("spec", "name", "classes"),
    [
        ("scenes:12:3:colour+background", "scenes:12:3:colour+background", 99),
        ("scenes:12:pattern", "scenes:12:0:pattern", 6),
        ("scenes:12:3:shape", "scenes:12:3", 10),
    ],
)
def test_scenes_by_spec_with_a_task(spec: str, name: str, classes: int) -> None:
    held = probes.load(spec)
    assert (held.name, len(held.label_names or ())) == (name, classes)
    again = probes.load(held.name)
    assert again.label_names == held.label_names
    np.testing.assert_array_equal(again.labels, held.labels)
    assert held.fingerprint == probes.load("scenes:" + ":".join(name.split(":")[1:3])).fingerprint


def test_a_task_of_scenes_that_is_none() -> None:
    with pytest.raises(UnknownNameError, match=r"group 'color'.*Did you mean 'colour'"):
        probes.load("scenes:12:3:color+background")
    with pytest.raises(InputError, match="different groups"):
        probes.load("scenes:12:colour+colour")


@pytest.mark.parametrize(
    "spec",
    [
        *("scenes:x", "scenes:3:", "scenes:1:2:3", "scenes:-4", "scenes:²", "scenes:colour"),
        *(
            "scenes:3:colour:2",
            "scenes:3:colour+",
            "scenes:3::colour",
            "scenes:3:colour background",
        ),
    ],
)
def test_malformed_scenes(spec: str) -> None:
    with pytest.raises(InputError, match="must be scenes, scenes:N or scenes:N:SEED"):
        probes.load(spec)
    with pytest.raises(InputError, match="n of at least 1"):
        probes.load("scenes:0")


def test_a_mistyped_source_is_recognised() -> None:
    with pytest.raises(MissingError, match="Did you mean 'scenes:40'"):
        probes.load("scene:40")
    with pytest.raises(MissingError, match="Did you mean 'torchvision:CIFAR10/test'"):
        probes.load("torchvison:CIFAR10/test")


# torchvision


def mnist(root: Path) -> None:
    raw = root / "torchvision" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 255, (6, 28, 28), dtype=np.uint8)
    labels = np.array([3, 1, 4, 1, 5, 9], dtype=np.uint8)
    for part in ("train", "t10k"):
        head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in images.shape)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = bytes([0, 0, 8, 1]) + len(labels).to_bytes(4, "big")
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


def test_torchvision_reads_what_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURONYM_CACHE", str(tmp_path))
    mnist(tmp_path)
    held = probes.load("torchvision:MNIST/test")
    assert held.name == "torchvision:MNIST/test"
    assert len(held) == 6
    assert held.labels.tolist() == [3, 1, 4, 1, 5, 9]
    assert held.label_names[3] == "3 - three"
    assert held.image(0).mode == "RGB"
    assert held.image(0).size == (28, 28)
    assert held.fingerprint == probes.load("torchvision:MNIST/train").fingerprint


def test_torchvision_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURONYM_CACHE", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"CIFAR10 is not in .*cannot be downloaded here"):
        probes.load("torchvision:CIFAR10/test")
    with pytest.raises(UnavailableError, match="ImageNet is not in"):
        probes.load("torchvision:ImageNet/val")


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("torchvision:CIFAR/test", UnknownNameError, "Did you mean 'CIFAR10'"),
        ("torchvision:CIFAR10", InputError, "has parts; say which"),
        ("torchvision:CIFAR10/val", InputError, "parts train and test, not 'val'"),
        ("torchvision:EuroSAT/test", InputError, "has no parts; leave out 'test'"),
        ("torchvision:DTD/tset", InputError, "torchvision:DTD/tset: Unknown value 'tset'"),
    ],
)
def test_malformed_torchvision_specs(
    spec: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURONYM_CACHE", str(tmp_path))
    with pytest.raises(error, match=message):
        probes.load(spec)


# webdataset


def tar(path: Path, members: dict[str, bytes], *, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_webdataset_shards(tmp_path: Path) -> None:
    tar(tmp_path / "s-00.tar", {"a.jpg": jpeg(0), "a.cls": b"1", "a.json": b"{}", "t.txt": b"x"})
    tar(tmp_path / "s-01.tar", {"d/b.seg.png": b"", "d/b.jpg": jpeg(1), "d/b.cls": b"0\n"})
    tar(tmp_path / "s-02.tar", {"c.JPG": jpeg(2)})
    held = probes.load(f"webdataset:{tmp_path}/s-{{00..02}}.tar")
    assert isinstance(held, probes.ProbeSet)
    assert held.ids[0] == "a"
    assert held.ids[-1] == "c"
    assert held.labels.tolist() == [1, 0, -1]
    assert held.label_names == ("class 0", "class 1")
    assert same(held.image(0), probes.decode(jpeg(0)))
    assert same(held.image(2), probes.decode(jpeg(2)))
    star = probes.load(f"webdataset:{tmp_path}/s-*.tar")
    assert star.fingerprint == held.fingerprint
    assert probes.load(f"webdataset:{tmp_path}/s-{{00,02}}.tar").ids == ("a", "c")


def test_webdataset_keys_that_repeat_get_unique_ids(tmp_path: Path) -> None:
    for name in ("x", "y"):
        tar(tmp_path / f"{name}.tar", {"0.jpg": jpeg(0)})
    assert probes.load(f"webdataset:{tmp_path}/{{x,y}}.tar").ids == ("x/0", "y/0")
    assert probes.load(f"webdataset:{tmp_path}/{{x,x}}.tar").ids == ("x/0#0", "x/0#1")


def test_webdataset_from_the_web_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web_folder: Callable[[Path], str]
) -> None:
    monkeypatch.setenv("NEURONYM_CACHE", str(tmp_path / "cache"))
    served = tmp_path / "served"
    served.mkdir()
    tar(served / "a.tar", {"a.jpg": jpeg(0)})
    address = web_folder(served)
    first = probes.load(f"webdataset:{address}/a.tar")
    (served / "a.tar").unlink()
    again = probes.load(f"webdataset:{address}/a.tar")
    assert again.fingerprint == first.fingerprint
    assert same(again.image(0), probes.decode(jpeg(0)))
    with pytest.raises(UnavailableError, match=r"shard .*/b\.tar' cannot be downloaded here"):
        probes.load(f"webdataset:{address}/b.tar")


def test_shards_that_cannot_be_used(tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar", {"a.jpg": jpeg(0), "b.jpg": jpeg(1)}).read_bytes()
    write(tmp_path / "cut.tar", whole[:900])
    tar(tmp_path / "zip.tar", {"a.jpg": jpeg(0)}, mode="w:gz")
    tar(tmp_path / "text.tar", {"a.txt": b"x"})
    tar(tmp_path / "cls.tar", {"a.jpg": jpeg(0), "a.cls": b"dog"})
    cases = {
        "cut.tar": (UnreadableError, "not a whole, uncompressed tar|truncated inside 'a'"),
        "zip.tar": (UnreadableError, "is not a whole, uncompressed tar file"),
        "text.tar": (InputError, "no images in the shards"),
        "cls.tar": (UnreadableError, r"the class of 'a' is b'dog', not a whole number"),
        "none.tar": (MissingError, "does not exist"),
        "n*.tar": (MissingError, "no shard matches"),
        "{a.tar": (InputError, "unmatched brace"),
        "{3..1}.tar": (InputError, "must rise"),
        "{a}.tar": (InputError, "must be a range"),
    }
    for name, (error, message) in cases.items():
        with pytest.raises(error, match=message):
            probes.load(f"webdataset:{tmp_path}/{name}")
    with pytest.raises(InputError, match=r"not from 's3://x/a\.tar'"):
        probes.load("webdataset:s3://x/a.tar")


def test_braces() -> None:
    assert expand_braces("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand_braces("{a,b}{1..2}") == ["a1", "a2", "b1", "b2"]
    assert expand_braces("plain") == ["plain"]


# hf


def test_hugging_face_datasets_from_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra `datasets` is not installed")
    features = datasets.Features(
        {"img": datasets.Image(), "y": datasets.ClassLabel(names=["cat", "dog"])}
    )
    rows = {
        "img": [{"bytes": jpeg(i), "path": None} for i in range(3)]
        + [{"bytes": b"", "path": None}],
        "y": [0, 1, 1, 0],
    }
    table = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": table, "test": table.select([1, 2])}).save_to_disk(
        tmp_path / "d"
    )
    held = probes.load(f"hf:{tmp_path}/d/train")
    assert isinstance(held, probes.ProbeSet)
    assert held.labels.tolist() == [0, 1, 1, 0]
    assert held.label_names == ("cat", "dog")
    assert same(held.image(2), probes.decode(jpeg(2)))
    assert same(probes.load(f"hf:{tmp_path}/d/test").image(1), probes.decode(jpeg(2)))
    with pytest.raises(UnreadableError, match="'row-3' is empty"):
        held.image(3)
    assert held.fingerprint == probes.load(f"hf:{tmp_path}/d/train").fingerprint
    assert held.fingerprint != probes.load(f"hf:{tmp_path}/d/test").fingerprint
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        probes.load(f"hf:{tmp_path}/d/tran")
    with pytest.raises(InputError, match="must be hf:REPO/SPLIT"):
        probes.load("hf:train")
    with pytest.raises(InputError, match="was not written by save_to_disk"):
        probes.load(f"hf:{tmp_path}/test")
    plain = datasets.Dataset.from_dict({"y": [1]})
    plain.save_to_disk(tmp_path / "p")
    with pytest.raises(InputError, match="has no image column; it has y"):
        probes.load(f"hf:{tmp_path}/p/train")


def test_hugging_face_hub_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra `datasets` is not installed")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(
        (UnavailableError, MissingError), match=r"images 'hf:some-owner/thing/test'"
    ):
        probes.load("hf:some-owner/thing/test")


# memory


class Pairs:
    """A small map-style dataset."""

    classes = ("no", "yes")
    targets = (0, 1, 0, 1)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if index == 2:
            raise OSError("disk on fire")
        return photo(index), self.targets[index]


def test_images_in_memory() -> None:
    images = [photo(0), Image.new("L", (5, 5), 9)]
    held = probes.from_images(images, labels=[1, 0], label_names=["a", "b"])
    assert isinstance(held, probes.ProbeSet)
    assert held.ids == ("image-0", "image-1")
    assert held.image(1).getpixel((0, 0)) == (9, 9, 9)
    assert held.labels.tolist() == [1, 0]
    assert held.fingerprint == probes.from_images(images, ids=["x", "y"]).fingerprint
    assert held.fingerprint != probes.from_images(images[::-1]).fingerprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": []}, "at least one image"),
        ({"images": [np.zeros((2, 2))]}, "image 0 is a ndarray, not a PIL image"),
        ({"images": [photo()], "ids": ["a", "b"]}, "2 ids for 1 images"),
        ({"images": [photo(), photo()], "ids": ["a", "a"]}, "ids must be unique"),
        ({"images": [photo()], "labels": [0, 1]}, "labels must be 1 whole numbers"),
        ({"images": [photo()], "labels": [2], "label_names": ["a"]}, "1 class names are given"),
    ],
)
def test_images_in_memory_that_cannot_be_used(arguments: dict, message: str) -> None:
    images = arguments.pop("images")
    with pytest.raises(InputError, match=message):
        probes.from_images(images, **arguments)


def test_datasets_in_memory() -> None:
    held = probes.from_dataset(Pairs())
    assert held.labels.tolist() == [0, 1, 0, 1]
    assert held.label_names == ("no", "yes")
    assert same(held.image(3), photo(3))
    with pytest.raises(UnreadableError, match="image 'item-2' is broken: disk on fire"):
        held.image(2)
    assert held.fingerprint == probes.from_dataset(Pairs()).fingerprint
    with pytest.raises(InputError, match="has no length"):
        probes.from_dataset(iter([photo()]))
    with pytest.raises(InputError, match=r"item 0 holds a list.*without its transform"):
        probes.from_dataset([([1, 2], 0)]).image(0)


def test_torch_subsets_keep_labels() -> None:
    from torch.utils.data import Subset

    held = probes.from_dataset(Subset(Pairs(), [3, 0]))
    assert held.labels.tolist() == [1, 0]
    assert held.label_names == ("no", "yes")
    assert same(held.image(0), photo(3))


def test_subsets() -> None:
    whole = probes.load("scenes:10:2")
    part = probes.subset(whole, [7, 1, 4])
    assert isinstance(part, probes.ProbeSet)
    assert part.ids == ("scene-2-7", "scene-2-1", "scene-2-4")
    assert part.labels.tolist() == whole.labels[[7, 1, 4]].tolist()
    assert same(part.image(1), whole.image(1))
    nested = probes.subset(part, np.array([2, 0]))
    assert nested.base is whole
    assert nested.indices.tolist() == [4, 7]
    assert nested.fingerprint == probes.subset(whole, [4, 7]).fingerprint
    assert nested.fingerprint != probes.subset(whole, [7, 4]).fingerprint != whole.fingerprint


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([], "non-empty list of whole numbers"),
        ([0.5], "non-empty list of whole numbers"),
        ([0, 10], "subset index 10 is outside 0 to 9"),
        ([-1], "subset index -1 is outside"),
        ([1, 1], "occur twice"),
    ],
)
def test_subsets_that_cannot_be_taken(indices: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        probes.subset(probes.load("scenes:10"), indices)


def test_so_many_images_are_drawn_by_the_seed() -> None:
    base = probes.load("scenes:30:1")
    drawn = probes.sampled(base, 7, seed=3)
    assert len(drawn) == 7
    assert list(drawn.ids) == [each for each in base.ids if each in set(drawn.ids)]
    assert drawn.ids == probes.sampled(base, 7, seed=3).ids
    assert drawn.ids != probes.sampled(base, 7, seed=4).ids
    assert probes.sampled(base, 30, seed=3) is base
    assert probes.sampled(base, None, seed=3) is base
    with pytest.raises(InputError, match="the number of images must be at least 1, not 0"):
        probes.sampled(base, 0, seed=3)
    with pytest.raises(InputError, match="seed must be at least 0, not -1"):
        probes.sampled(base, 3, seed=-1)
