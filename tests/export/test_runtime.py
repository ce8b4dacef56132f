from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tasks.commands.predict import list_images, predict
from tasks.core.errors import ModelError, SourceError
from tasks.export.manifest import Preprocessing
from tasks.export.runtime import Predictor, predict_files
from tasks.images.shards import ShardReader, write_shards
from tasks.images.stored_pixels import stored_pixels
from tasks.nn.geometry import fit_to
from tests.export import toy
from tests.images import pictures

ODD = ("truncated", "cmyk", "one_pixel", "wide", "bomb", "text", "absent")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return toy.exported(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nine plain scenes, and between them what arrives from the world."""
    folder = tmp_path_factory.mktemp("images")
    for n in range(9):
        (folder / f"{n}.jpg").write_bytes(pictures.encode(pictures.scene(90, 70, seed=n), "JPEG"))
    whole = (folder / "0.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    pictures.scene().convert("CMYK").save(folder / "cmyk.jpg")
    pictures.scene(1, 1).save(folder / "one_pixel.png")
    pictures.scene(20_000, 20).save(folder / "wide.png")
    (folder / "bomb.png").write_bytes(pictures.huge_header())
    (folder / "text.png").write_text("no image")
    return folder


def entries(model, paths) -> list[dict]:
    return list(predict_files(model, paths, read=stored_pixels, batch_size=4))


def test_entries_come_in_the_order_of_the_paths(model, folder):
    paths = [folder / f"{n}.jpg" for n in (3, 1, 2, 0, 8, 7, 6, 5, 4)]
    assert [entry["path"] for entry in entries(model, paths)] == list(map(str, paths))


def test_awkward_images_get_a_label_or_an_error_and_do_not_disturb_the_rest(model, folder):
    plain = [folder / f"{n}.jpg" for n in range(9)]
    odd = [next(folder.glob(f"{name}.*"), folder / name) for name in ODD]
    mixed = [path for pair in zip(plain[:7], odd, strict=True) for path in pair] + plain[7:]
    entry_of = {entry["path"]: entry for entry in entries(model, mixed)}
    alone = {entry["path"]: entry for entry in entries(model, plain)}
    assert len(entry_of) == 16
    assert {path: entry_of[path] for path in alone} == alone
    errors = {name: entry_of[str(path)].get("error", "") for name, path in zip(ODD, odd, strict=True)}
    assert [name for name in ODD if not errors[name]] == ["cmyk", "one_pixel", "wide"]
    assert "truncated or damaged" in errors["truncated"]
    assert "decompression bomb" in errors["bomb"]
    assert "not an image" in errors["text"]
    assert "cannot be read" in errors["absent"]


def test_a_batch_without_a_readable_image_has_only_errors(model, folder):
    rows = entries(model, [folder / "text.png"] * 5 + [folder / "0.jpg"])
    assert ["error" in entry for entry in rows] == [True] * 5 + [False]


@pytest.mark.parametrize(("short_side_px", "jpeg_quality"), [(30, None), (30, 85), (200, 85)])
def test_decisions_are_those_of_torch_on_the_pixels_of_the_shards(tmp_path, folder, short_side_px, jpeg_quality):
    """Shards of raw pixels, of JPEGs made for them, and of the files' own bytes."""
    net = toy.tagger()
    preprocessing = Preprocessing(short_side_px, toy.IMAGE_PX, "letterbox", jpeg_quality)
    path = toy.exported(tmp_path, net, implications=[], preprocessing=preprocessing)
    predictor = Predictor(path)
    uris = [f"{n}.jpg" for n in range(9)]
    write_shards(
        pa.table({"image_id": uris, "uri": uris}), tmp_path / "shards", root=folder, short_side_px=short_side_px,
        jpeg_quality=jpeg_quality, images_per_file=9,
    )  # fmt: skip
    reader = ShardReader(tmp_path / "shards")
    for n in range(9):
        pixels = predictor.network_pixels(str(folder / f"{n}.jpg"), stored_pixels)
        assert np.array_equal(pixels, fit_to(reader[n], toy.IMAGE_PX, "letterbox"))
        with torch.inference_mode():
            scores_C = net.scores(net(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]))[0].numpy()
        (entry,) = predict_files(path, [folder / f"{n}.jpg"], read=stored_pixels)
        wanted = {toy.LABELS[c]: scores_C[c] for c in range(5) if scores_C[c] >= toy.manifest().thresholds[c]}
        assert entry["labels"] == pytest.approx(wanted, abs=1e-5)
        assert list(entry["labels"].values()) == sorted(entry["labels"].values(), reverse=True)


def test_prediction_needs_neither_torch_nor_anything_of_the_pipeline(model, folder):
    code = (
        "import sys\n"
        "for name in 'torch torchvision timm onnx pyarrow pandas fsspec mlflow yaml pydantic fastapi'.split():\n"
        "    sys.modules[name] = None\n"
        "import json\n"
        "from tasks.commands.predict import predict\n"
        "from tasks.images.stored_pixels import stored_pixels\n"
        "predict(sys.argv[1], sys.argv[2:], read=stored_pixels, stdin=[], write=print)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, model, folder / "0.jpg"], check=True, capture_output=True, text=True
    )
    (entry,) = entries(model, [folder / "0.jpg"])
    assert json.loads(run.stdout) == entry


def test_a_missing_model_is_reported_before_any_image_is_read(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        predict_files(tmp_path / "absent.onnx", ["x.jpg"], read=stored_pixels)


# ---------------------------------------------------------------- the command


def lines(model, arguments, stdin=()) -> list[dict]:
    written = []
    predict(model, list(map(str, arguments)), read=stored_pixels, stdin=stdin, write=written.append)
    return list(map(json.loads, written))


def test_the_command_writes_one_line_of_json_an_image_and_logs_the_throughput(model, folder, caplog):
    caplog.set_level("INFO", logger="tasks.commands")
    rows = lines(model, [folder / "1.jpg", folder / "text.png", folder / "2.jpg"])
    assert [sorted(entry) for entry in rows] == [["labels", "path"], ["error", "path"], ["labels", "path"]]
    assert "3 images in" in caplog.text
    assert "1 could not be read" in caplog.text


def test_a_folder_is_searched_to_the_bottom_and_only_images_are_taken(tmp_path):
    for name in ("b.jpg", "deep/er/a.PNG", "notes.txt", "c.jpg.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(list_images([str(tmp_path)])) == [str(tmp_path / "b.jpg"), str(tmp_path / "deep/er/a.PNG")]


def test_globs_files_and_standard_input_mix(tmp_path):
    for name in ("a.jpg", "b.jpg", "odd[1].jpg"):
        (tmp_path / name).touch()
    paths = list(
        list_images([str(tmp_path / "?.jpg"), "-", str(tmp_path / "odd[1].jpg")], ["x y.jpg\n", "\n", "z.png\r\n"])
    )
    assert paths == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"), "x y.jpg", "z.png", str(tmp_path / "odd[1].jpg")]


@pytest.mark.parametrize(("argument", "text"), [("", "no images in it"), ("*.jpg", "matches no image")])
def test_a_folder_or_glob_without_images_says_so(tmp_path, argument, text):
    with pytest.raises(SourceError, match=text):
        list(list_images([str(tmp_path / argument)]))


def test_nothing_to_score_is_an_error(model):
    with pytest.raises(SourceError, match="no images"):
        lines(model, ["-"])


# ---------------------------------------------------------------- real photographs


@pytest.mark.parametrize("kit", ["coco", "openimages", "voc"])
def test_real_photographs_are_decided_as_in_torch(real_data, tmp_path, kit):
    """Every image of the kit (of VOC's 1,697 every fourth), through a network with random weights."""
    net = toy.tagger(seed=3)
    path = toy.exported(tmp_path, net, implications=[], preprocessing=Preprocessing(64, toy.IMAGE_PX, "crop"))
    if kit == "voc":
        with tarfile.open(real_data / "voc/VOC2012-animals-train/images.tar") as archive:
            archive.extractall(tmp_path / "voc", filter="data")
    files = sorted((tmp_path / "voc" if kit == "voc" else real_data / kit / "images").rglob("*.jpg"))
    files = files[::4] if kit == "voc" else files
    predictor = Predictor(path)
    pixels = np.stack([predictor.network_pixels(str(f), stored_pixels) for f in files])
    with torch.inference_mode():
        scores_NC = net.scores(net(torch.from_numpy(pixels).permute(0, 3, 1, 2))).numpy()
    decided = [{toy.LABELS[c] for c in np.flatnonzero(row >= toy.manifest().thresholds)} for row in scores_NC]
    assert [set(entry["labels"]) for entry in entries(path, files)] == decided
    assert len(set(map(frozenset, decided))) > 1, "the network says the same of every image"


def test_encoded_bytes_read_as_the_file(model, folder):
    buffer = io.BytesIO()
    Image.open(folder / "4.jpg").save(buffer, "PNG")
    predictor = Predictor(model)
    from_bytes = predictor.network_pixels(buffer.getvalue(), stored_pixels)
    assert np.array_equal(from_bytes, predictor.network_pixels(str(folder / "4.jpg"), stored_pixels))
