"""`rtc restore` from outside: files, numbers, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from rtc.cli import main
from rtc.inverse.catalogue import CATALOGUE
from rtc.inverse.methods.table import METHODS


def call(*words: str) -> Result:
    return CliRunner().invoke(main, ["restore", *words], prog_name="rtc")


def refusal(out: Path, *words: str) -> str:
    """The one line with which a command is refused; nothing has been written."""
    result = call("--out", str(out), "--steps", "2", *words)
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert not out.exists() or not any(path.name != "kept" for path in out.iterdir())
    return lines[-1]


def test_methods_are_compared_on_one_measurement(tmp_path: Path) -> None:
    result = call("--methods", "pigdm,ddrm,score-sde", "--steps", "6", "--seed", "3", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "results.json").read_text())
    assert list(document["methods"]) == ["pigdm", "ddrm", "score-sde"]
    assert document["methods"]["pigdm"]["network_calls"] == 6
    assert document["methods"]["pigdm"]["vjps"] == 6
    assert document["methods"]["ddrm"]["vjps"] == 0
    assert sorted(document["files"]) == sorted(path.name for path in tmp_path.iterdir())
    truth = np.array(Image.open(tmp_path / "truth.png")) / 255.0
    for name, made in document["methods"].items():
        picture = np.array(Image.open(tmp_path / f"{name}.png")) / 255.0
        assert picture.shape == (28, 28)
        from_file = -10 * np.log10(np.mean((picture - truth) ** 2))
        assert from_file == pytest.approx(made["psnr"], abs=0.1)
    assert Image.open(tmp_path / "sheet.png").size[0] > 600
    for name in ("pigdm", "ddrm", "score-sde"):
        assert name in result.stdout


def test_the_same_command_gives_the_same_image(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert call("--method", "pigdm", "--steps", "4", "--out", str(tmp_path / name)).exit_code == 0
    first, second = ((tmp_path / name / "pigdm.png").read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_file_is_restored_with_the_photograph_prior(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    out = tmp_path / "out"
    result = call(
        "--image", str(tmp_path / "picture.png"), "--prior", "ffdnet", "--operator", "superres",
        "--steps", "3", "--out", str(out),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert np.array(Image.open(out / "pigdm.png")).shape == (24, 20, 3)
    assert np.array_equal(np.array(Image.open(out / "truth.png")), pixels)


def test_a_class_and_its_weight_reach_the_prior(tmp_path: Path) -> None:
    common = ("--operator", "inpaint-half", "--steps", "4", "--seed", "1")
    call(*common, "--out", str(tmp_path / "any"))
    call(*common, "--label", "7", "--guidance", "3", "--out", str(tmp_path / "seven"))
    first, second = (json.loads((tmp_path / n / "results.json").read_text()) for n in ("any", "seven"))
    assert first["methods"]["pigdm"]["psnr"] != second["methods"]["pigdm"]["psnr"]


def test_a_knob_reaches_its_method(tmp_path: Path) -> None:
    call("--method", "dps", "--knob", "dps.zeta=0.25", "--steps", "3", "--out", str(tmp_path))
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["methods"]["dps"]["knobs"]["zeta"] == 0.25


def test_an_earlier_restoration_is_replaced_on_request_only_and_with_its_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("--methods", "ddrm,ddnm", "--steps", "2", "--out", str(out)).exit_code == 0
    (out / "mine.txt").write_text("kept")
    result = call("--method", "ddnm", "--steps", "2", "--out", str(out))
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert (out / "ddrm.png").exists()
    assert call("--method", "ddnm", "--steps", "2", "--out", str(out), "--force").exit_code == 0
    assert not (out / "ddrm.png").exists()
    assert (out / "mine.txt").read_text() == "kept"


def test_all_means_every_method_that_can_use_the_measurement(tmp_path: Path) -> None:
    result = call(
        "--methods", "all", "--noise", "0", "--operator", "superres", "--steps", "2",
        "--particles", "2", "--out", str(tmp_path),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    names = set(json.loads((tmp_path / "results.json").read_text())["methods"])
    assert "ddnm" in names
    assert "tds" not in names


def test_the_list_names_every_method_and_operator() -> None:
    output = call("--list").stdout
    for name in [*METHODS, *CATALOGUE, "digits", "ffdnet"]:
        assert name in output


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    out = tmp_path / "out"
    assert "is no image that can be read" in refusal(out, "--image", str(tmp_path / "text.png"))
    assert "there is no image" in refusal(out, "--image", str(tmp_path / "missing.png"))


def test_an_image_of_another_size_than_the_prior_knows_is_refused(tmp_path: Path) -> None:
    Image.new("L", (32, 30)).save(tmp_path / "large.png")
    message = refusal(tmp_path / "out", "--image", str(tmp_path / "large.png"))
    assert "30 x 32, but this prior knows images of 28 x 28" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "magic"], "no method 'magic'; choose from pigdm"),
        (["--operator", "magic"], "no operator 'magic'; choose from denoise"),
        (["--prior", "magic"], "no prior 'magic'; give digits, ffdnet"),
        (["--noise", "0", "--method", "tds"], "tds needs a noise level above 0"),
        (["--operator", "colourise"], "colour"),
        (["--knob", "dps.zeta=1"], "fits no method here; the knobs are: pigdm.eta"),
        (["--knob", "eta=much"], "'much' is no float"),
        (["--method", "ddrm", "--methods", "ddnm"], "give one of them"),
        (["--label", "12"], "the labels of this prior are 0 .. 9"),
        (["--prior", "ffdnet", "--label", "1"], "knows no classes"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    assert message in refusal(tmp_path / "out", *words)


def test_a_spectrum_that_ddrm_cannot_take_is_refused_with_the_remedy(tmp_path: Path) -> None:
    words = ("--prior", "ffdnet", "--operator", "deblur", "--noise", "0.1", "--method", "ddrm")
    message = refusal(tmp_path / "out", *words)
    assert "smallest singular value" in message
    assert "ddnm_plus" in message


def test_more_particles_than_memory_allows_is_one_line_that_names_the_remedy(tmp_path: Path) -> None:
    message = refusal(tmp_path / "out", "--method", "bootstrap", "--particles", str(10**12))
    assert "particle_batch" in message or "particles" in message


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    assert "left alone" in refusal(tmp_path)
    assert (tmp_path / "kept").read_text() == "mine"
