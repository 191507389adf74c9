"""The page to check subjects by: made from a cache that was written here, looked at as text and in a browser."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from browser import browser, missing
from page_parser import PageParser
from safetensors.numpy import save
from typer.testing import CliRunner

from copdvae.cli import app
from copdvae.errors import ConfigError, CopdvaeError
from copdvae.files import read_csv, write_csv
from copdvae.prepare.seal import sealed
from copdvae.report import qc
from copdvae.report import quality as module
from copdvae.run import qc as qc_of
from copdvae.study import load_study

HOSTILE = "<b>P9</b><script>alert(1)</script>\"'=1+1"
LUNGS, SEVERAL = "insp: no trachea was found: the large airways count as lung [no_trachea]", "; exp: lossy; not to be trusted [lossy]"
LEFT_OUT = [
    ("P7", "1", "ingest", "missing_slice", "insp: slices 3 and 4 are 10.0 mm apart", "no"),
    ("P8", "", "phenotypes", "age_out_of_range", "row 9: age: possible is 0 to 110 years", "yes"),
    ("P3", "", "phenotypes", "fev1_above_fvc", "row 4: FEV1 is more than FVC", "no"),
    (HOSTILE, "1", "ingest", "no_lungs", f"insp: {HOSTILE}", "yes"),
]
ROWS = [  # subject, warnings, volume, ratio, LAA-950
    ("P10", "", 5.0, 0.5, 1.0),
    ("P2", LUNGS + SEVERAL, 4.0, 0.6, 30.0),
    ("P3", LUNGS, 6.5, None, 12.0),
    ("P1", "", 7.25, 0.4, -0.0),
]


class Page(PageParser):
    """Subjects, too: their attributes, text and number of pictures."""

    def __init__(self, path):
        super().__init__(path)
        self.subjects = []
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        super().handle_starttag(tag, attrs)
        if tag == "li" and "data-subject" in dict(attrs):
            self.subjects.append(dict(attrs) | {"text": "", "pictures": 0})
        if tag == "img":
            self.subjects[-1]["pictures"] += 1

    def handle_data(self, data):
        super().handle_data(data)
        if self.subjects and not self.inside:
            self.subjects[-1]["text"] += data

    def by_name(self):
        return {subject["data-subject"]: subject for subject in self.subjects}


def write_study(root, rows=ROWS, left_out=LEFT_OUT, breaths=2):
    """A cache as ingest leaves it, and who was left out."""
    cache = root / "cache"
    cache.mkdir(parents=True)
    lines = []
    for number, (subject, warnings, volume, ratio, emphysema) in enumerate(rows):
        lung = np.zeros((breaths, 8, 8, 8), np.uint8)
        lung[:, 2:6, 2:6, 1:4], lung[:, 2:6, 2:6, 5:7] = 1, 2
        image = np.where(lung > 0, -850 - 5 * number, 30).astype(np.int16)
        content = save({"image": image, "lung": lung}, {"insp_header": '{"model": "SECRETSCANNER"}'})
        (cache / f"{number}.safetensors").write_bytes(sealed(content))
        lines.append(
            {
                "subject_id": subject, "visit": "1", "file": f"{number}.safetensors", "channels": "+".join(("insp", "exp")[:breaths]),
                "site": "SECRETSITE", "scanner": "SECRETSCANNER", "kernel": "SECRETKERNEL", "emphysema_pct": emphysema,
                "gas_trapping_pct": 20.0, "exp_over_insp_volume": ratio, "insp_lung_volume_l": volume, "insp_perc15_hu": -900.0,
                "insp_mask": "threshold", "exp_mask": "threshold" if breaths > 1 else "", "warnings": warnings,
            }
        )  # fmt: skip
    write_csv(cache / "index.csv", pd.DataFrame(lines))
    write_csv(root / "split.csv", pd.DataFrame({"subject_id": ["P1", "P2", "P10"], "split": ["train", "test", "validation"]}))
    return cache, pd.DataFrame(left_out, columns=["subject_id", "visit", "stage", "reason", "detail", "expected"])


def made(root, **options):
    cache, left_out = write_study(root, **options)
    return Page(qc("a study", cache, root, left_out))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return made(tmp_path_factory.mktemp("study"))


def test_everyone_is_there_with_state_flags_and_figures(page):
    found = page.by_name()
    assert set(found) == {"P1", "P2", "P3", "P7", "P8", "P10", HOSTILE}
    assert found["P2"]["data-codes"] == "no_trachea lossy"
    assert found["P2"]["data-flags"] == "2"
    assert found["P2"]["data-split"] == "test"
    assert found["P2"]["data-mask"] == "threshold"
    assert [float(found["P2"][f"data-f{k}"]) for k in range(5)] == [4.0, 0.6, 30.0, -900.0, 20.0]
    assert "data-f1" not in found["P3"]
    assert "−900" in found["P2"]["text"]
    assert "lossy; not to be trusted" in found["P2"]["text"]
    assert "[lossy]" not in found["P2"]["text"]
    assert "Test" in found["P2"]["text"]


def test_those_who_were_refused_are_there_with_the_reason_and_no_picture(page):
    found = page.by_name()
    for subject in ("P7", "P8", HOSTILE):
        assert found[subject]["data-state"] == ("left_out" if subject == "P8" else "rejected")  # nothing is said against a scan of P8
        assert found[subject]["pictures"] == 0
        assert "not ingested" in found[subject]["text"]
    assert "10.0 mm apart" in found["P7"]["text"]
    assert "expected" in found["P8"]["text"]
    assert "expected" not in found["P7"]["text"]
    assert found["P3"]["data-state"] == "left_out"  # its scans are sound, its phenotypes are not
    assert found["P3"]["data-codes"] == "fev1_above_fvc no_trachea"
    assert found["P3"]["pictures"] == 2


def test_what_needs_a_look_comes_first_and_what_was_expected_last(page):
    order = [subject["data-subject"] for subject in page.subjects]
    assert order == ["P7", "P3", "P2", "P1", "P10", HOSTILE, "P8"]
    assert [subject["data-order"] for subject in page.subjects] == [str(k) for k in range(7)]
    assert [subject["tabindex"] for subject in page.subjects] == ["0"] + ["-1"] * 6


def test_subjects_come_in_groups(tmp_path, monkeypatch, page):
    monkeypatch.setattr(module, "PER_GROUP", 3)
    small = made(tmp_path)
    assert re.findall(r"<ol style=\"--count: (\d)\">", small.source) == ["3", "3", "1"]
    assert [subject["data-order"] for subject in small.subjects] == [subject["data-order"] for subject in page.subjects]
    assert [subject["tabindex"] for subject in small.subjects] == [subject["tabindex"] for subject in page.subjects]


def test_flags_are_counted(page):
    counts = re.findall(r'data-flag="([^"]+)"[^>]*>[^<]*<b>(\d+)</b>', page.source)
    assert counts == [("no_trachea", "2"), ("age_out_of_range", "1"), ("fev1_above_fvc", "1"), ("lossy", "1"), ("missing_slice", "1"),
                      ("no_lungs", "1"), ("-", "2")]  # fmt: skip
    assert "7 subjects: 2 rejected, 2 left out, 3 kept" in " ".join(page.text.split())


def test_a_hostile_id_is_text_and_nothing_else(page):
    assert HOSTILE in page.by_name()
    assert HOSTILE in page.by_name()[HOSTILE]["text"]
    assert "<script>alert" not in page.source
    assert page.source.count("<script>") == 1


def test_the_page_loads_nothing_and_holds_no_path_and_nothing_of_a_header(page, tmp_path):
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "data", "action", "poster"):
            assert value.startswith("data:"), (tag, name)
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy
    assert not re.search(r"https?://|@import|url\(", page.source)
    assert "SECRET" not in page.source
    assert str(tmp_path.parent) not in page.source
    assert "safetensors" not in page.source
    assert "Research use only" in page.text


def test_the_table_beside_it_says_the_same(tmp_path):
    page = made(tmp_path)
    table = read_csv(tmp_path / "qc.csv")
    assert list(table["subject_id"]) == [subject["data-subject"] for subject in page.subjects]
    assert list(table["flags"]) == [subject["data-codes"] for subject in page.subjects]
    assert list(table["state"]) == [subject["data-state"] for subject in page.subjects]
    assert list(table["expected"]) == ["no", "no", "", "", "", "yes", "yes"]


def test_a_scan_of_one_breath_has_its_own_two_slices(tmp_path):
    page = made(tmp_path, breaths=1, left_out=[])
    assert all(subject["pictures"] == 2 for subject in page.subjects)
    assert page.source.count("--tiles: 2") == len(ROWS)
    assert ">out</i>" not in page.source


def test_pictures_go_to_those_that_need_a_look_first(tmp_path):
    cache, left_out = write_study(tmp_path)
    page = Page(qc("a study", cache, tmp_path, left_out, pictures=2))
    assert {name for name, subject in page.by_name().items() if subject["pictures"]} == {"P3", "P2"}
    assert "Pictures of the first 2 of 4 subjects" in " ".join(page.text.split())
    assert "no picture" in page.by_name()["P1"]["text"]


def test_a_cached_file_that_cannot_be_read_costs_only_its_own_picture(tmp_path):
    cache, left_out = write_study(tmp_path)
    (cache / "0.safetensors").write_bytes(b"broken")
    (cache / "1.safetensors").unlink()
    page = Page(qc("a study", cache, tmp_path, left_out))
    found = page.by_name()
    assert [found[name]["pictures"] for name in ("P10", "P2", "P1")] == [0, 0, 2]
    assert "cannot be read" in found["P10"]["text"]
    assert str(cache) not in page.source


def test_a_page_that_still_holds_stays_and_another_is_made_anew(tmp_path):
    cache, left_out = write_study(tmp_path)
    page = qc("a study", cache, tmp_path, left_out)
    first = page.stat().st_mtime_ns
    assert qc("a study", cache, tmp_path, left_out, renew=False).stat().st_mtime_ns == first
    content = page.read_bytes()
    qc("a study", cache, tmp_path, left_out)
    assert page.read_bytes() == content  # the same tables, the same bytes
    qc("a study", cache, tmp_path, left_out.iloc[:1], renew=False)
    assert page.read_bytes() != content
    (tmp_path / "qc.csv").unlink()
    qc("a study", cache, tmp_path, left_out.iloc[:1], renew=False)
    assert (tmp_path / "qc.csv").is_file()


def test_a_byte_that_changed_on_the_disk_is_no_picture_until_it_is_ingested_again(tmp_path):
    cache, left_out = write_study(tmp_path)
    file = cache / "0.safetensors"
    sound = file.read_bytes()
    file.write_bytes(sound[:-100] + bytes([sound[-100] ^ 1]) + sound[-99:])
    module.load_subject(file)  # nothing else sees it
    found = Page(qc("a study", cache, tmp_path, left_out)).by_name()
    assert [found[name]["pictures"] for name in ("P10", "P1")] == [0, 2]
    assert "damaged" in found["P10"]["text"]
    file.write_bytes(sound)
    assert Page(qc("a study", cache, tmp_path, left_out, renew=False)).by_name()["P10"]["pictures"] == 2


def test_a_page_with_few_pictures_stays_and_a_damaged_one_does_not(tmp_path):
    cache, left_out = write_study(tmp_path)
    page = qc("a study", cache, tmp_path, left_out, pictures=1)
    before = page.read_bytes()
    assert qc("a study", cache, tmp_path, left_out, renew=False).read_bytes() == before
    page.write_bytes(b"\xff\xfe" * 2000)
    assert Page(qc("a study", cache, tmp_path, left_out, renew=False)).by_name()["P1"]["pictures"] == 2


def test_a_visit_that_is_not_used_is_left_out_and_in_no_part(tmp_path):
    cache, left_out = write_study(tmp_path)
    index = read_csv(cache / "index.csv", text=module.INDEX_TEXT)
    second = index[index["subject_id"].isin(["P1", "P3"])].assign(visit="2")
    write_csv(cache / "index.csv", pd.concat([index, second]))
    used = [("P1", "2"), ("P10", "1")]
    qc("a study", cache, tmp_path, left_out, used)
    table = read_csv(tmp_path / "qc.csv").set_index(["subject_id", "visit"])
    rows = {key: tuple(table.loc[key, ["split", "state", "expected", "flags"]]) for key in [*used, ("P1", "1"), ("P2", "1"), ("P3", "2")]}
    assert rows == {
        ("P1", "2"): ("train", "kept", "", ""),
        ("P10", "1"): ("validation", "kept", "", ""),
        ("P1", "1"): ("", "left_out", "yes", "other_visit"),
        ("P2", "1"): ("", "left_out", "no", "other_visit no_trachea lossy"),  # no visit of its takes part
        ("P3", "2"): ("", "left_out", "no", "fev1_above_fvc no_trachea"),
    }


PEOPLE = "sid,gender,age_visit,Height_CM,FEV1_utah,FVC_utah,FEV1_FVC_utah,FEV1pp_utah\n"
SOUND = ",1,60,175,3.0,4.0,0.75,90\n"


def whole_study(root):
    """P10, P2, P3 and P1 are ingested, P1 twice; P2 has no phenotypes."""
    cache, _ = write_study(root)
    index = read_csv(cache / "index.csv", text=module.INDEX_TEXT)
    write_csv(cache / "index.csv", pd.concat([index, index[index["subject_id"] == "P1"].assign(visit="2")]))
    write_csv(cache / "rejected.csv", pd.DataFrame(columns=["subject_id", "visit", "reason", "detail"]))
    (root / "phenotypes.csv").write_text(PEOPLE + "".join(name + SOUND for name in ("P1", "P3", "P10")))
    (root / "study.yaml").write_text("name: s\ndata: {planted: planted.csv}\nmethods: [{method: {method: vae}}]\n")
    (root / "planted.csv").write_text("subject_id,reason\nP9,no_lungs\n")
    return load_study(root)


def test_who_has_no_phenotypes_or_another_visit_takes_no_part(tmp_path):
    qc_of(whole_study(tmp_path))
    table = read_csv(tmp_path / "qc.csv").set_index(["subject_id", "visit"])
    assert table["state"].to_dict() == {
        ("P2", "1"): "left_out", ("P3", "1"): "kept", ("P1", "1"): "kept", ("P10", "1"): "kept", ("P1", "2"): "left_out",
    }  # fmt: skip
    assert table.loc[("P2", "1"), "flags"].startswith("no_phenotypes ")
    assert table.loc[("P2", "1"), "expected"] == "no"
    assert table.loc[("P1", "2"), "flags"] == "other_visit"


@pytest.mark.parametrize("name", ["cache/index.csv", "cache/rejected.csv", "planted.csv"])
def test_a_table_that_is_not_there_or_empty_is_said_plainly(tmp_path, name):
    study = whole_study(tmp_path)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(CopdvaeError, match=rf"{name.rpartition('/')[2]}: nothing in it"):
        qc_of(study)
    (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match=r"run `copdvae ingest`" if "cache" in name else "planted.csv: no such file") as caught:
        qc_of(study)
    assert str(tmp_path) not in str(caught.value)


def test_a_report_is_written_also_where_the_subjects_page_cannot_be(tmp_path):
    whole_study(tmp_path)
    write_csv(tmp_path / "rejected.csv", pd.DataFrame({"subject_id": ["P7"], "reason": ["no_lungs"], "expected": ["no"]}))
    (tmp_path / "planted.csv").unlink()
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "page is not renewed: planted.csv: no such file" in done.stderr
    assert (tmp_path / "report.html").is_file()
    assert not (tmp_path / "qc.html").exists()


def test_nothing_ingested_is_an_error(tmp_path):
    with pytest.raises(CopdvaeError, match=r"index\.csv.*copdvae ingest"):
        qc("a study", tmp_path / "cache", tmp_path, pd.DataFrame())
    assert not list(tmp_path.iterdir())


def test_an_empty_study_has_a_page(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    write_csv(cache / "index.csv", pd.DataFrame(columns=["subject_id", "visit", "file", "channels", "site", "scanner", "kernel"]))
    left_out = pd.DataFrame(columns=["subject_id", "visit", "stage", "reason", "detail", "expected"])
    assert "Nobody is listed" in Page(qc("a study", cache, tmp_path, left_out)).text


def test_warnings_are_told_apart_by_their_codes():
    assert module.split_warnings("") == []
    assert module.split_warnings("insp: a; b [one_code]; exp: c [x2]") == ["insp: a; b [one_code]", "exp: c [x2]"]
    assert module.split_warnings("of an older version") == ["of an older version"]
    assert module.without_code("insp: a; b [one_code]") == "insp: a; b"


KEYS = {"down": "\ue015", "up": "\ue013", "enter": "\ue007", "escape": "\ue00c"}
NAMES = "return [...document.querySelectorAll('#subjects > ol > li')].map(i => i.dataset.subject)"


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing() or "chromium is there")
def test_a_browser_sorts_filters_and_walks_by_keyboard(tmp_path, monkeypatch):
    cache, left_out = write_study(tmp_path)
    monkeypatch.setattr(module, "PER_GROUP", 3)
    path = qc("a study", cache, tmp_path, left_out)
    change = "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event(arguments[2]));"
    with browser() as page:
        page.open(path)
        first = page.run(NAMES)
        page.run(change, "sort", "subject", "change")
        assert page.run(NAMES) == [HOSTILE, "P1", "P2", "P3", "P7", "P8", "P10"]
        page.run(change, "sort", "f2", "change")
        assert page.run(NAMES)[:4] == ["P1", "P10", "P3", "P2"]
        page.run("document.getElementById('way').click()")
        assert page.run(NAMES)[:4] == ["P2", "P3", "P10", "P1"]  # those without a value stay last
        page.run(change, "sort", "flags", "change")
        assert page.run(NAMES)[0] in ("P2", "P3")
        page.run(change, "sort", "order", "change")
        assert page.run(NAMES) == first

        page.run(change, "words", "TRACHEA", "input")
        assert page.run(NAMES) == ["P3", "P2"]
        assert page.run("return document.getElementById('shown').textContent") == "2 of 7 shown"
        page.run("document.activeElement.blur()")
        page.keys(KEYS["escape"])
        page.run("document.querySelector('[data-flag=lossy]').click()")
        assert page.run(NAMES) == ["P2"]
        page.run("document.querySelector('[data-flag=\"-\"]').click()")
        assert page.run(NAMES) == ["P2", "P1", "P10"]
        page.keys(KEYS["escape"])
        page.run(change, "state", "rejected", "change")
        assert page.run(NAMES) == ["P7", HOSTILE]
        page.keys(KEYS["escape"])
        assert page.run(NAMES) == first

        focus = "return document.activeElement.dataset.subject"
        page.run("document.querySelector('#subjects > ol > li').focus()")
        page.keys("j" + KEYS["down"] + "j" + "k")
        assert page.run(focus) == first[2]
        page.keys(KEYS["enter"])
        assert page.run("return document.querySelectorAll('.large').length") == 1
        page.keys("o")
        assert page.run("return getComputedStyle(document.querySelector('img.lines')).display") == "none"
        page.keys("/")
        assert page.run("return document.activeElement.id") == "words"
        assert page.run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert not page.messages(), json.dumps(page.messages())


def test_what_is_said_of_both_breaths_in_the_same_words_is_said_once():
    said = ["insp: thick", "insp: no trachea", "exp: thick", "exp: contrast", "contrast"]
    expected = ["insp and exp: thick", "insp: no trachea", "exp: contrast", "contrast"]
    assert module.of_both(said) == expected
    assert module.of_both([]) == []
