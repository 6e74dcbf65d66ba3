"""The folder of an evaluation: its numbers by arithmetic, its page alone in the world, its images decodable."""

import csv
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from evaluation import measurement, metrics, report
from evaluation.report import chart_images, evaluation_page
from runtime.errors import UserError
from training.data.spec import DatasetSpec, Example
from training.runs import run_folders as folder_module

NAMES = ("NaN & <b>", "wall", "fence", "never")  # the first would break HTML and JSON that is glued together
SPEC = DatasetSpec("four", NAMES, ((200, 0, 0), (0, 200, 0), (0, 0, 200), (9, 9, 9)), ("val",), (33, 47))
PNGS = ("confusion", "confusion-counts", "classes", "best", "worst", "curves")
HISTORY = [
    {"epoch": 1, "loss": 2.0, "val_loss": 2.1, "val_miou": 0.2, "val_pixel_accuracy": 0.4, "learning_rate": 1e-3},
    {"epoch": 2, "loss": 1.0, "val_loss": 1.2, "val_miou": 0.4, "val_pixel_accuracy": 0.6, "learning_rate": 5e-4},
]  # fmt: skip


def truth_of(index: int) -> np.ndarray:
    """Columns of classes 0, 1 and 2; the last image is void."""
    ids = np.repeat(np.arange(47) * 3 // 47, 33).reshape(47, 33).T.astype(np.uint8)
    return np.full_like(ids, 255) if index == 5 else ids


def examples() -> list[Example]:
    def read(index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((33, 47, 3), 10 * index, np.uint8), truth_of(index)

    return [Example(f"image-{index}", lambda index=index: read(index)) for index in range(6)]


def predict(rgb: np.ndarray) -> np.ndarray:
    """Right, but for the upper rows, as many as the image's number times four, whose fences are walls."""
    index = int(rgb[0, 0, 0]) // 10
    ids = truth_of(0).copy()
    ids[: 4 * index][ids[: 4 * index] == 2] = 1
    return ids


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run") / "evaluation" / "four-val"
    write(place, "a" * 64, history=HISTORY)
    return place


def write(place: Path, weights: str, function=predict, **more) -> dict:
    found = measurement.measure(examples(), SPEC, function)
    result = {**measurement.result(found), "weights_sha256": weights}
    report.write_evaluation(place, found, result, function, examples(), "one <run> on four val", **more)
    return result


class Page(HTMLParser):
    """What a page refers to, its elements, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "srcset", "href", "data", "action")]

    def handle_data(self, data):
        self.text += data


def test_the_page_stands_alone(folder: Path) -> None:
    text = (folder / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.links) > 16 and all(link.startswith("data:image/") for link in page.links)
    assert not {"script", "link", "iframe", "b>"} & set(page.tags)
    assert (
        "default-src 'none'" in text and "prefers-color-scheme: dark" in text and "width=device-width" in text
    )
    assert "one <run> on four val" in page.text and "NaN & <b>" in page.text
    assert "url(" not in text and "@import" not in text


def test_every_image_can_be_decoded(folder: Path) -> None:
    for name in PNGS:
        image = cv2.imread(str(folder / f"{name}.png"))
        assert image is not None and image.std() > 1, name
    assert cv2.imread(str(folder / "best.png")).shape[1] == 4 * report.PREVIEW_WIDTH


def test_confusions_are_those_of_the_matrix(folder: Path) -> None:
    found = evaluation_page.confusions(np.array([[80, 20, 0], [0, 300, 100], [1, 0, 199]]))
    assert [(one.truth, one.predicted, one.pixels) for one in found] == [
        (1, 2, 100),
        (0, 1, 20),
    ]  # 1 of 200 is 0.5%
    assert found[0].of_truth == 0.25 and found[1].of_truth == 0.2
    assert found[0].of_predicted == pytest.approx(100 / 299) and found[1].of_predicted == pytest.approx(
        20 / 320
    )
    assert found[0].of_wrong == pytest.approx(100 / 121)
    assert evaluation_page.sentence(found[0], ("a", "b", "c")) == "b is taken for c in 25% of its pixels"
    # 4 of 33 rows wrong in image 1, 8 in 2, 12 in 3, 16 in 4: 40 of the 165 rows that five images have
    assert (
        "fence is taken for wall in 24% of its pixels"
        in Page((folder / "index.html").read_text(encoding="utf-8")).text
    )
    assert (
        evaluation_page.confusions(np.diag([5, 6])) == []
        and evaluation_page.confusions(np.zeros((2, 2), int)) == []
    )


def test_best_and_worst_are_ordered_disjoint_and_never_void(folder: Path) -> None:
    quality = np.array([0.5, np.nan, 0.9, 0.1, 0.7, 0.3])
    assert report.extremes(quality, 2) == ([2, 4], [3, 5])
    assert report.extremes(quality, 4) == ([2, 4, 0], [3, 5])
    assert report.extremes(np.array([np.nan, 0.2]), 4) == ([1], [])
    with open(folder / "images.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == [f"image-{index}" for index in (4, 3, 2, 1, 0, 5)]
    # Image 4: of 16 columns of fence (31..46), 16 of 33 rows are taken for wall (15..30, also 16 columns).
    columns = [int((truth_of(0)[0] == index).sum()) for index in range(3)]
    wrong = 16 * columns[2]
    fence = (33 * columns[2] - wrong) / (33 * columns[2])
    wall = 33 * columns[1] / (33 * columns[1] + wrong)
    assert float(rows[0]["miou"]) == pytest.approx((1 + wall + fence) / 3)
    assert float(rows[0]["pixel_accuracy"]) == pytest.approx(1 - wrong / (33 * 47))


def test_scores_are_strict_json_and_counts_add_up(folder: Path) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert scores["classes"]["never"]["iou"] is None and list(scores["classes"]) == list(NAMES)
    assert scores["title"] == "one <run> on four val"
    with np.load(folder / "counts.npz") as stored:
        assert stored["names"].tolist() == [example.name for example in examples()]
        matrix = np.array(scores["confusion_matrix"])
        assert np.array_equal(stored["counts"].sum(axis=0), metrics.counts(matrix))


def test_what_was_before_is_that_of_other_weights(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "four-val"
    shutil.copytree(folder, place)
    assert not (place / "previous.json").exists()
    result = write(place, "b" * 64, lambda rgb: truth_of(0))
    before = json.loads((place / "previous.json").read_text(encoding="utf-8"))
    assert before["weights_sha256"] == "a" * 64 and result["miou"] == 1.0
    gain = 100 * (1 - before["miou"])
    text = (place / "index.html").read_text(encoding="utf-8")
    assert (
        f"{gain:+.2f}" in Page(text).text and text.count("<u style") == 3
    )  # a mark a class that has a score
    write(place, "b" * 64, lambda rgb: truth_of(0))
    assert json.loads((place / "previous.json").read_text(encoding="utf-8"))["weights_sha256"] == "a" * 64


@pytest.mark.parametrize("content", [None, "{", '{"miou": 1}', '{"classes": {"a": {}}}'])
def test_a_previous_evaluation_that_does_not_fit_is_refused(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "scores.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"--previous .*scores.json"):
        report.read_scores(tmp_path, NAMES)


def test_cells_of_the_count_matrix_have_at_most_four_signs() -> None:
    numbers = (1, 950, 999, 999.6, 3456, 99_949, 999_499, 999_999, 7_654_321, 123_456_789, 4.2e9)
    texts = [chart_images._compact(number) for number in numbers]
    assert texts[0] == "1" and texts[4] == "3.5k" and texts[8] == "7.7M" and texts[10] == "4.2G"
    assert max(map(len, texts)) <= 4, texts


def test_a_hundred_and_fifty_classes_are_drawn_without_text() -> None:
    matrix = np.diag(np.arange(150))
    figure = chart_images.confusion(matrix, [f"class {index}" for index in range(150)], "many")
    assert not figure.axes[0].texts and len(figure.axes[0].get_yticklabels()) == 150
    assert chart_images.confusion(matrix[:3, :3], NAMES[:3], "few").axes[0].texts


@pytest.mark.slow
def test_in_a_browser_light_dark_and_on_a_phone(folder: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the pip package playwright")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("needs a browser: apt-get install chromium")
    shown = {}
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for scheme, width in (("light", 1200), ("dark", 375)):
            context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page, fetched, said = context.new_page(), [], []
            page.on("request", lambda request, fetched=fetched: fetched.append(request.url))
            page.on("console", lambda message, said=said: said.append(message.text))
            page.goto((folder / "index.html").as_uri())
            assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth)")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert not said and [url for url in fetched if not url.startswith("data:")] == [fetched[0]]
            shown[scheme] = page.evaluate(
                "[getComputedStyle(document.body).backgroundColor, document.querySelector('picture img').currentSrc]"
            )
        browser.close()
    assert shown["light"][0] == "rgb(255, 255, 255)" and shown["dark"][0] == "rgb(13, 17, 23)"
    assert shown["light"][1] != shown["dark"][1]


FORMULAS = ("$\\frac{a$", "$x_1$", "a^b_c", "\\")


@pytest.mark.parametrize("theme", [chart_images.LIGHT, chart_images.DARK])
def test_a_class_may_be_called_like_a_formula(theme) -> None:
    """matplotlib reads what stands between dollars as a formula, and refuses to draw a wrong one."""
    matrix = np.array([[5, 1, 0, 0], [0, 7, 2, 0], [1, 0, 9, 0], [0, 0, 0, 10**6]])
    panels = [("$\\frac{a$", [0.1, 0.2, 0.3, 0.4], [None] * 4)]
    figures = (
        chart_images.confusion(matrix, FORMULAS, FORMULAS[0], theme=theme),
        chart_images.confusion(matrix, FORMULAS, FORMULAS[0], counts=True, theme=theme),
        chart_images.bars(FORMULAS, [0.1, 0.2, 0.3, 0.4], FORMULAS[0], theme=theme),
        chart_images.intervals(FORMULAS, panels, theme=theme),
    )
    for figure in figures:
        drawn = cv2.imdecode(np.frombuffer(chart_images.png(figure), np.uint8), cv2.IMREAD_COLOR)
        assert drawn.std() > 1
        shown = [
            text.get_text() for text in figure.axes[0].findobj(chart_images.Text) if not text.get_parse_math()
        ]
        assert set(FORMULAS) <= set(shown)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    folder_module.write_history(tmp_path / "history.csv", HISTORY)
    return tmp_path / "history.csv"


def test_history_is_read_back(history: Path, capsys) -> None:
    assert report.read_history(history.parent) == HISTORY and not capsys.readouterr().err
    history.unlink()
    assert report.read_history(history.parent) == [] and not capsys.readouterr().err


def test_any_damaged_byte_of_history_costs_the_curves_at_most(history: Path, capsys) -> None:
    whole, lost = history.read_bytes(), 0
    for place in range(len(whole)):
        for byte in (0, 10, 34, 44, 120, 255):
            history.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            rows = report.read_history(history.parent)
            lost += not rows
            assert all(set(chart_images.COLUMNS) <= set(row) for row in rows)
    assert lost > len(whole)  # most of these are noticed
    assert "history.csv cannot be read (" in capsys.readouterr().err
