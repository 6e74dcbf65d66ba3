"""Models by name: the table is true, what is fetched is checked, and a name that is none gets the nearest one."""

import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from kerbside import listing
from runtime import fetch, model_names
from runtime.errors import UserError
from runtime.files import file_sha256
from runtime.model_names import ROWS, File, Row
from runtime.segmenter import Segmenter
from tests.hub_stand_in import serving
from tests.tiny import REPOSITORY

FILES = [file for row in ROWS.values() for file in (row.tflite, row.weights) if file]
SHIPPED = [file for file in FILES if file.source.startswith("models/")]


class Served(BaseHTTPRequestHandler):
    """Gives `server.content` to whoever asks."""

    server: Any

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(404 if self.server.gone else 200)
        self.end_headers()
        self.wfile.write(self.server.content)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mask_bytes: bytes):
    """A server, and a row "mask" of the table whose file it has."""
    monkeypatch.setenv("KERBSIDE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "x.tflite").write_bytes(mask_bytes)
    with serving(Served) as server:
        server.content = mask_bytes
        file = File(f"{server.address}/a/mask.tflite", len(mask_bytes), file_sha256(tmp_path / "x.tflite"))
        monkeypatch.setitem(ROWS, "mask-of-tests", Row(file, None, "Apache-2.0", "none", ""))
        yield server


def test_a_name_is_fetched_once_and_kept(served, tmp_path: Path) -> None:
    assert Segmenter("mask-of-tests").size == (8, 12)
    served.gone = True
    segmenter = Segmenter("mask-of-tests")
    assert segmenter.path == tmp_path / "cache" / "mask.tflite" and served.asked == ["/a/mask.tflite"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"x", "SHA-256 of .* where .* is expected"), (b"x" * 10**6, "larger than it should be")],
)
def test_another_file_than_the_table_s_is_not_kept(
    served, tmp_path: Path, content: bytes, words: str
) -> None:
    served.content = content
    with pytest.raises(UserError, match=f"mask-of-tests .*{words}"):
        Segmenter("mask-of-tests")
    assert not list((tmp_path / "cache").iterdir())


def test_a_kept_file_that_has_changed_is_told(served, tmp_path: Path) -> None:
    kept = Segmenter("mask-of-tests").path
    kept.write_bytes(kept.read_bytes() + b"x")
    with pytest.raises(UserError, match="SHA-256 of mask.tflite is .*remove it, and it is fetched again"):
        Segmenter("mask-of-tests")


def test_what_cannot_be_fetched_is_one_sentence(served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.gone = True
    with pytest.raises(UserError, match="mask-of-tests cannot be fetched: http.* answers 404"):
        Segmenter("mask-of-tests")
    row = ROWS["mask-of-tests"]
    away = row.tflite._replace(source="http://127.0.0.1:9/mask.tflite")
    monkeypatch.setitem(ROWS, "mask-of-tests", row._replace(tflite=away))
    with pytest.raises(
        UserError, match="not on this machine yet, and http://127.0.0.1:9.* cannot be reached"
    ):
        Segmenter("mask-of-tests")


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: Path(file.source).name)
def test_what_ships_is_what_the_table_says(file: File) -> None:
    path = REPOSITORY / file.source
    assert (path.stat().st_size, file_sha256(path)) == (file.bytes, file.sha256)


def test_every_shipped_model_has_a_name() -> None:
    folder = REPOSITORY / "models"
    present = {
        f"models/{path.name}" for pattern in ("*.tflite", "*.weights.h5") for path in folder.glob(pattern)
    }
    assert present and present == {file.source for file in SHIPPED}


def test_the_table_is_in_order() -> None:
    for name, row in ROWS.items():
        assert fetch.is_name(name) and (row.tflite or row.weights) and row.licence and row.score
        assert row.read or row.score == "not read"
        if row.read.startswith("docs/"):
            said = row.score.partition(" ")[0]
            assert said in (REPOSITORY / row.read).read_text(encoding="utf-8"), name
    for file in FILES:
        assert re.fullmatch(r"models/[\w.]+|https://[\w./-]+|hf://[\w-]+/[\w.-]+", file.source)
        assert len(file.sha256) in ((64, 8) if not file.source.startswith("hf://") else (0,))


def test_a_name_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Segmenter("deeplabv3plus-edgetpu-camvid").labels[0] == "Sky"
    Path("deeplabv3plus-edgetpu-camvid").mkdir()  # the user's own comes first
    with pytest.raises(UserError):
        Segmenter("deeplabv3plus-edgetpu-camvid")


def test_a_name_that_is_none_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean deeplabv3plus-edgetpu-camvid. kerbside list has all"):
        Segmenter("deeplabv3plus-edgetpu-canvid")
    with pytest.raises(
        UserError, match="pidnet-s-cityscapes is a checkpoint without a .tflite: kerbside convert"
    ):
        Segmenter("pidnet-s-cityscapes")
    assert model_names.nearest("zzz") is None and model_names.misspelt("zzz") is None


def test_a_name_s_data_set_comes_before_its_spelling() -> None:
    """unet-mobilenetv2-camvid, which shipped once, is spelt most like lraspp-mobilenetv3-voc."""
    of_camvid = [name for name in ROWS if "camvid" in name]
    with pytest.raises(UserError) as caught:
        Segmenter("unet-mobilenetv2-camvid")
    told = str(caught.value)
    assert told.startswith("unet-mobilenetv2-camvid is no file") and "voc" not in told
    assert ", ".join(of_camvid) in told and told.endswith("kerbside list has all.")
    assert model_names.nearest("pidnet-cityscape") == "pidnet-s-cityscapes"
    for name in ROWS:
        assert set(name.split("-")) & set(model_names.DATA), f"{name}: its data set is no row of DATA"


def test_the_list_has_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main([]) == 0
    text = capsys.readouterr().out
    for name, row in ROWS.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        assert row.licence in line and row.score in line
    assert listing.main(["--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said.keys() == ROWS.keys()
    assert said["deeplabv3plus-edgetpu-camvid"]["tflite"]["here"] is True
    assert said["segformer-b0-cityscapes"]["weights"]["here"] is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0" * 64 + "  ../x\n", "is none: it holds"),
        ("a" * 200_000, "which is none"),
        ("hello", "holds 'hello'"),
    ],
)
def test_sums_that_lead_elsewhere_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "SHA256SUMS"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        fetch.sums_of(path, "hf://a/b")
