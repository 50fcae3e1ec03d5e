"""The detector station on real ONNX files of every format."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_nets import BLUE, RED, Mean, Rectangles, export
from torch import Tensor, nn

from stream.batches import FrameBatch, Segment, Video
from stream.config import DetectorConfig
from stream.detect import Detector
from stream.errors import ConfigError, ModelError
from stream.networks import recording

TRIPLE = ("boxes", "labels", "scores")
KNOWN_AS = {"v8": "YOLOv8", "v5": "YOLOv5", "yo": "YOLOX", "en": "end to end", "tr": "boxes, labels, scores"}
FORMATS: dict[str, dict] = {
    "v8": {"format": "v8"},
    "v8 free size": {"format": "v8", "free_size": True, "metadata": {"imgsz": "[192, 320]", "stride": "32"}},
    "v8 one by one": {"format": "v8", "batch": 1, "size": (320, 320)},
    "v8 batch of 4": {"format": "v8", "batch": 4},
    "v5": {"format": "v5"},
    "v5 free size": {"format": "v5", "free_size": True, "metadata": {"imgsz": "[320, 320]"}},
    "yolox": {"format": "yolox", "batch": 1},
    "yolox free size": {"format": "yolox", "free_size": True, "metadata": {"imgsz": "[192, 320]"}},
    "yolox decoded": {"format": "yolox_decoded"},
    "end to end": {"format": "end_to_end"},
    "triple": {"format": "triple", "batch": 1, "outputs": TRIPLE},
    "triple batched": {"format": "triple_batched", "outputs": ("bboxes", "labels", "scores")},
}


@pytest.fixture(scope="session")
def nets(tmp_path_factory: pytest.TempPathFactory):
    """``nets(name, ...)`` -> path of an exported network; each is exported once."""
    folder = tmp_path_factory.mktemp("detectors")

    def get(key: str, names: str | None = "{0: 'character', 1: 'face'}", **changes: object) -> Path:
        options = FORMATS[key] | changes
        path = folder / f"{abs(hash((key, names, repr(changes))))}.onnx"
        if not path.exists():
            metadata = dict(options.pop("metadata", {})) | ({"names": names} if names else {})
            export(
                Rectangles(options.pop("format"), options.pop("blue", True)),
                path,
                metadata=metadata,
                **options,
            )
        return path

    return get


def frames(images: np.ndarray, name: str = "v") -> FrameBatch:
    n, height, width, _ = images.shape
    video = Video(name, f"/films/{name}.mp4", "video", width, height, "f", frame_rate=25.0)
    return FrameBatch(
        segment=Segment(video, 0, 0.0),
        images=images,
        times=np.arange(n, dtype=np.float64),
        indices=np.arange(n) * 25,
        numbers=np.arange(n),
        shots=np.zeros(n, np.int32),
    )


def picture(
    height: int, width: int, red: tuple[int, ...] | None = None, blue: tuple[int, ...] | None = None
) -> np.ndarray:
    image = np.full((height, width, 3), 200, np.uint8)
    for box, colour in ((red, RED), (blue, BLUE)):
        if box:
            x1, y1, x2, y2 = box
            image[y1:y2, x1:x2] = colour
    return image


@pytest.mark.parametrize("key", FORMATS)
@pytest.mark.parametrize("size", [(360, 640), (640, 360), (97, 131), (540, 720)])
def test_every_format_puts_boxes_where_they_are(nets, key: str, size: tuple[int, int]) -> None:
    height, width = size
    red = [(width // 10, height // 5, width // 2, height // 2), (0, 0, width // 3, height), None]
    blue = [(width // 2, height // 2, width, height), None, None]
    images = np.stack([picture(*size, r, b) for r, b in zip(red, blue, strict=True)])
    detector = Detector(DetectorConfig(model=str(nets(key)), classes=("character", "face")), device="cpu")
    assert f"({KNOWN_AS[key[:2]]}, " in detector.description
    found = detector(frames(images))
    expected = [(0, "character", red[0]), (0, "face", blue[0]), (1, "character", red[1])]
    got = [(int(f), found.class_names[c]) for f, c in zip(found.frame, found.classes, strict=True)]
    assert sorted(got) == [(f, name) for f, name, _ in expected]
    canvas = detector.canvas(*size)
    pixel = max(height / canvas[0], width / canvas[1], 1.0)  # one pixel of the canvas, in the frame's
    for frame, name, box in expected:
        row = next(i for i, g in enumerate(got) if g == (frame, name))
        np.testing.assert_allclose(found.boxes[row], box, atol=1.1 * pixel)
        assert found.scores[row] == pytest.approx(0.9, abs=1e-3)
    assert found.frames.images is images
    assert (found.boxes.dtype, found.classes.dtype) == (np.float32, np.int32)


@pytest.mark.parametrize("key", FORMATS)
def test_no_frames_and_no_characters(nets, key: str) -> None:
    detector = Detector(DetectorConfig(model=str(nets(key))), device="cpu")
    empty = detector(frames(np.empty((0, 90, 160, 3), np.uint8)))
    assert (len(empty), empty.boxes.shape) == (0, (0, 4))
    assert len(detector(frames(np.stack([picture(90, 160)])))) == 0
    assert len(detector(frames(np.zeros((1, 1, 1, 3), np.uint8)))) == 0


@pytest.mark.parametrize(
    ("frame", "config_size", "imgsz", "expected"),
    [
        ((1080, 1920), None, "[192, 320]", (192, 320)),
        ((360, 640), None, "[192, 320]", (192, 320)),
        ((360, 640), None, "[256, 416]", (256, 416)),
        ((480, 640), None, "[192, 320]", (224, 288)),
        ((1920, 1080), None, "[192, 320]", (320, 192)),
        ((1, 5000), None, "[192, 320]", (32, 1920)),
        ((1080, 1920), 640, "[192, 320]", (384, 640)),
        ((1080, 1920), None, "640", (384, 640)),
        ((1080, 1920), None, "[640, 640]", (384, 640)),
        ((1080, 1920), None, None, (384, 640)),
    ],
)
def test_canvas_follows_the_frame(nets, frame, config_size, imgsz, expected) -> None:
    path = nets("v8 free size", metadata={"imgsz": imgsz} if imgsz else {})
    detector = Detector(DetectorConfig(model=str(path), size=config_size), device="cpu")
    assert detector.canvas(*frame) == expected


def test_faces_are_left_out_by_default_and_names_choose(nets) -> None:
    image = frames(picture(180, 320, (10, 10, 90, 90), (150, 50, 250, 150))[None])

    def classes(names: str | None, *wanted: str) -> list[str]:
        detector = Detector(DetectorConfig(model=str(nets("v8", names)), classes=wanted), device="cpu")
        found = detector(image)
        return [found.class_names[c] for c in found.classes]

    assert classes("{0: 'character', 1: 'face'}") == ["character"]
    assert classes("{0: 'character', 1: 'face'}", "face") == ["face"]
    assert sorted(classes("['dog', 'face']")) == ["dog", "face"]
    assert sorted(classes(None)) == ["class 0", "class 1"]
    with pytest.raises(ConfigError, match="does not know 'charactr'; did you mean 'character'"):
        classes("{0: 'character', 1: 'face'}", "charactr")


def test_score_iou_and_limit(nets) -> None:
    image = frames(picture(180, 320, (10, 10, 90, 90), (150, 50, 250, 150))[None])
    model = str(nets("v8", "['a', 'b']"))
    assert len(Detector(DetectorConfig(model=model, score=0.95), device="cpu")(image)) == 0
    assert len(Detector(DetectorConfig(model=model, score=0.85), device="cpu")(image)) == 2
    assert len(Detector(DetectorConfig(model=model, max_per_frame=1), device="cpu")(image)) == 1


def looking(nets, *scales: float, said: str = "[1.0]", **settings: object) -> Detector:
    path = nets("v8 free size", metadata={"imgsz": "[192, 320]", "scales": said})
    config = DetectorConfig(model=str(path), scales=scales or None, classes=("character", "face"), **settings)
    return Detector(config, device="cpu")


def test_several_looks_are_joined_class_by_class(nets) -> None:
    both, one = picture(192, 320, (40, 30, 120, 150), (48, 38, 112, 142)), picture(192, 320, (9, 9, 90, 90))
    images = np.stack([both, picture(192, 320), one])
    detector = looking(nets, 1, 0.8, 1.3)
    found = detector(frames(images))
    assert found.frame.tolist() == [0, 0, 2]
    assert sorted(found.classes[:2].tolist()) == [0, 1]  # they overlap by .7, and are not of one class
    red = found.boxes[found.classes == 0]
    np.testing.assert_allclose(red, [[40, 30, 120, 150], [9, 9, 90, 90]], atol=1.3)
    assert found.scores == pytest.approx([0.9] * 3, abs=1e-3)
    assert len(detector(frames(images[:0]))) == 0
    assert len(looking(nets, 1, 0.8, max_per_frame=1)(frames(images[:1]))) == 1


@pytest.mark.parametrize("key", [key for key in FORMATS if "free size" in key])
@pytest.mark.parametrize("size", [(360, 640), (180, 400), (131, 97)])
def test_a_look_at_the_mirror_image_puts_boxes_where_they_are(nets, key: str, size: tuple[int, int]) -> None:
    """Whether the frame lies in the middle of the canvas or in its corner."""
    height, width = size
    red, blue = (width // 10, height // 5, width // 2, height // 2), (width // 2, height // 2, width, height)
    config = DetectorConfig(model=str(nets(key)), classes=("character", "face"), scales=(1, 1), mirror=True)
    detector = Detector(config, device="cpu")
    found = detector(frames(picture(*size, red, blue)[None]))
    canvas = detector.canvas(*size)
    pixel = max(height / canvas[0], width / canvas[1], 1.0)
    boxes = found.boxes[np.argsort(found.classes)]
    np.testing.assert_allclose(boxes, [red, blue], atol=1.1 * pixel)
    assert found.scores == pytest.approx([0.9, 0.9], abs=1e-3)  # of both looks


def test_every_second_look_is_at_the_mirror_image(nets) -> None:
    """What is red on the left alone is seen by the network on the right in the second look."""
    image = frames(picture(192, 320, (40, 30, 120, 150))[None])
    path = nets("v8 free size", metadata={"imgsz": "[192, 320]", "scales": "[1, 1, 0.8]", "mirror": "True"})
    detector = Detector(DetectorConfig(model=str(path)), device="cpu")
    with recording() as fed:
        found = detector(image)
    red = [int((one[0, 0] - one[0, 2]).sum(0).argmax()) / one.shape[3] for one in fed]
    assert [at > 0.5 for at in red] == [False, True, False]
    np.testing.assert_allclose(found.boxes, [[40, 30, 120, 150]], atol=1.3)
    once = Detector(detector.config.model_copy(update={"mirror": False}), device="cpu")
    with recording() as fed:
        once(image)
    assert len(fed) == 2  # the same look twice is one


def test_what_half_of_the_looks_see_has_half_the_score(nets) -> None:
    """A line of one pixel is no longer red where the picture is halved; together they may see it yet."""
    image = frames(picture(192, 320, (41, 31, 42, 121))[None])
    assert [len(looking(nets, scale)(image)) for scale in (1, 0.5)] == [1, 0]
    assert looking(nets, 1, 0.5, score=0.4)(image).scores == pytest.approx([0.45], abs=1e-3)
    assert len(looking(nets, 1, 0.5, score=0.5)(image)) == 0


def test_a_file_may_say_how_often_a_frame_is_looked_at(nets) -> None:
    assert looking(nets).scales == (1.0,)
    said = looking(nets, said="[1.0, 0.5]")
    assert said.scales == (1.0, 0.5)
    assert looking(nets, 2, said="[1.0, 0.5]").scales == (2.0,)
    assert [said.canvas(360, 640, scale) for scale in said.scales] == [(192, 320), (96, 160)]
    assert [said.canvas(480, 640, scale) for scale in (1, 0.8, 1.3)] == [(224, 288), (160, 224), (288, 384)]
    sized = Detector(DetectorConfig(model=said.config.model, size=640), device="cpu")
    assert sized.canvas(360, 640, 0.5) == (192, 320)


def test_a_file_may_say_at_which_score_it_is_best(nets) -> None:
    image = frames(picture(180, 320, (10, 10, 90, 90), (150, 50, 250, 150))[None])

    def kept(said: str, score: float | None = None) -> int:
        path = nets("v8", "['a', 'b']", metadata={"score": said})
        return len(Detector(DetectorConfig(model=str(path), score=score), device="cpu")(image))

    assert kept("0.95") == 0
    assert kept("0.85") == 2
    assert kept("0.95", score=0.85) == 2


def test_more_channels_than_names_are_not_classes(nets) -> None:
    """As in segmentation exports, whose mask coefficients follow the classes."""
    image = frames(picture(180, 320, (10, 10, 90, 90), (150, 50, 250, 150))[None])
    detector = Detector(DetectorConfig(model=str(nets("v8", "{0: 'only'}"))), device="cpu")
    found = detector(image)
    assert found.class_names == ("only",)
    assert found.classes.tolist() == [0]


def test_labels_beyond_the_names_are_numbered(nets) -> None:
    image = frames(picture(180, 320, (10, 10, 90, 90), (150, 50, 250, 150))[None])
    found = Detector(DetectorConfig(model=str(nets("triple", "{0: 'a'}"))), device="cpu")(image)
    assert found.class_names == ("a", "class 1")


def test_describes_itself(nets) -> None:
    path = nets("yolox")
    detector = Detector(DetectorConfig(model=str(path)), device="cpu", threads=1)
    assert detector.name == "detect"
    assert len(detector.model_hash) == 64
    assert detector.description.startswith(f"{path.name} (YOLOX, 2 classes) on ONNX Runtime")
    assert detector.fallbacks == ()
    detector.close()


def test_what_is_no_detector(nets, tmp_path: Path) -> None:
    embedder = export(Mean(), tmp_path / "mean.onnx")
    with pytest.raises(ModelError, match=r"mean\.onnx: expected a detector .*found output0 float32 \(1, 6\)"):
        Detector(DetectorConfig(model=str(embedder)), device="cpu")
    with pytest.raises(ModelError, match="found neither"):
        Detector(DetectorConfig(model="no_such.onnx"), device="cpu")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelError, match="expected an ONNX file"):
        Detector(DetectorConfig(model=str(tmp_path / "text.onnx")), device="cpu")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"names": "__import__('os').getcwd()"}, "metadata 'names': expected a number, list or dict"),
        ({"names": "{'a': 1}"}, "metadata 'names': expected {0: 'person'"),
        ({"names": "['a', 'b', 'c']"}, "3 class names"),
        ({"imgsz": "[1, 2, 3]"}, "metadata 'imgsz': expected"),
        ({"mean": "[1, 2]"}, "metadata 'mean': expected three numbers"),
        ({"task": "obb"}, "task 'obb'"),
        (
            {"scales": "[0.1, 1]"},
            r"metadata 'scales': expected a list of numbers in 0\.25\.\.4, found \[0\.1, 1\]",
        ),
        ({"scales": "1"}, "metadata 'scales': expected a list of numbers"),
        ({"mirror": "'no'"}, "metadata 'mirror': expected True or False, found 'no'"),
        ({"score": "85"}, r"metadata 'score': expected a number in 0\.\.1, found 85"),
    ],
)
def test_metadata_that_does_not_fit(nets, metadata: dict[str, str], message: str) -> None:
    path = nets("v8", None, metadata=metadata)
    with pytest.raises(ModelError, match=message):
        Detector(DetectorConfig(model=str(path)), device="cpu")


def test_size_of_a_fixed_network_cannot_be_changed(nets) -> None:
    path = str(nets("v8"))
    assert Detector(DetectorConfig(model=path, size=320), device="cpu").canvas(9, 9) == (192, 320)
    with pytest.raises(ModelError, match=r"detector\.size 640: .*fixed at 320x192"):
        Detector(DetectorConfig(model=path, size=640), device="cpu")
    assert Detector(DetectorConfig(model=path, scales=(1,)), device="cpu").scales == (1.0,)
    with pytest.raises(ModelError, match=r"detector\.scales \[1\.0, 1\.3\]: .*fixed at 320x192"):
        Detector(DetectorConfig(model=path, scales=(1, 1.3)), device="cpu")


class OneImage(nn.Module):
    """As torchvision's detectors are exported: (3, H, W) in, boxes of one image out."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return Rectangles("triple")(image[None])


def test_a_network_of_single_images_without_a_batch_axis(tmp_path: Path) -> None:
    path = export(OneImage(), tmp_path / "one.onnx", batch=1, stacked=False, outputs=TRIPLE)
    images = np.stack([picture(180, 320, (10, 20, 90, 80)), picture(180, 320, (100, 0, 320, 180))])
    found = Detector(DetectorConfig(model=str(path)), device="cpu")(frames(images))
    assert found.frame.tolist() == [0, 1]
    np.testing.assert_allclose(found.boxes, [[10, 20, 90, 80], [100, 0, 320, 180]], atol=1.1)


class DividesByZero(Rectangles):
    """Infinite where a picture has full red."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / (images.amax((1, 2, 3)) < 0.99).float()[:, None, None]


def test_numbers_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    path = export(DividesByZero("v8"), tmp_path / "broken.onnx")
    detector = Detector(DetectorConfig(model=str(path)), device="cpu")
    with pytest.raises(ModelError, match=r"broken\.onnx: output 'output0' has numbers that are not finite"):
        detector(frames(picture(180, 320, (10, 10, 90, 90))[None]))


@pytest.mark.shared
def test_yolox_nano_finds_the_raccoons(shared: Path) -> None:
    """COCO knows no raccoon; the boxes of its cats, dogs and bears must lie on the labelled ones."""
    import xml.etree.ElementTree as ET

    from kernels.boxes import iou

    detector = Detector(DetectorConfig(model=str(shared / "models" / "yolox_nano.onnx")), device="cpu")
    assert detector.class_names[15:17] == ("cat", "dog")
    hits = total = 0
    for path in sorted((shared / "voc" / "raccoon" / "images").glob("*.jpg"))[:20]:
        labels = next((shared / "voc" / "raccoon").rglob(f"{path.stem}.xml"))
        truth = [
            [float(box.findtext(k, "0")) for k in ("xmin", "ymin", "xmax", "ymax")]
            for box in ET.parse(labels).iter("bndbox")
        ]
        image = np.asarray(Image.open(path).convert("RGB"))
        found = detector(frames(image[None]))
        total += len(truth)
        if len(found):
            hits += int((iou(np.array(truth), found.boxes).max(axis=1) > 0.6).sum())
    assert hits >= 0.75 * total


@pytest.mark.shared
def test_a_face_detector_of_another_format_is_refused(shared: Path) -> None:
    path = shared / "models" / "face_detection_yunet_2026may.onnx"
    with pytest.raises(ModelError, match=r"expected a detector .*found cls_8 float32"):
        Detector(DetectorConfig(model=str(path)), device="cpu")


def test_preparing_a_large_frame_takes_little_time() -> None:
    """1080p to 320x192 takes about 1 ms; ten times that would stall the pipeline."""
    from kernels.image import fit_letterbox, letterbox

    images = np.random.default_rng(0).integers(0, 256, (1, 1080, 1920, 3), dtype=np.uint8)
    place = fit_letterbox(1080, 1920, 192, 320)
    letterbox(images, place, mul=1 / 255)
    best = min(_seconds(lambda: letterbox(images, place, mul=1 / 255)) for _ in range(10))
    assert best < 0.01


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
