import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_study import HOSTILE
from page_parser import PageParser
from plotly.offline import get_plotlyjs

from copdvae.errors import CopdvaeError
from copdvae.report import report
from copdvae.report.files import read_study
from copdvae.report.page import MOST_LISTED

SECTIONS = [
    "summary", "methods", "results", "differences", "space", "along", "redrawn", "stages", "agreement",
    "cohort", "quality", "rejected", "training", "runs", "words",
]  # fmt: skip


class Page(PageParser):
    """The page's tags and scripts, too; Plotly is counted and taken out."""

    def __init__(self, path: Path):
        super().__init__(path)
        plotly = get_plotlyjs()
        self.plotly, self.source = self.source.count(plotly), self.source.replace(plotly, "")
        self.tags, self.scripts = [], ""
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        super().handle_starttag(tag, attrs)

    def handle_data(self, data):
        super().handle_data(data)
        if self.inside and self.inside[-1] == "script":
            self.scripts += data

    def words(self):
        return " ".join(self.text.split()).replace("\u202f", " ")


@pytest.fixture(scope="module")
def page(whole):
    return Page(report(whole))


def test_a_whole_study_gives_every_section(page):
    ids = {value for _, name, value in page.attributes if name == "id"}
    assert set(SECTIONS) <= ids
    assert "Not shown" not in page.text
    assert page.tags.count("img") > 30
    assert page.tags.count("table") > 10
    assert "Research use only" in page.text


def test_every_link_of_the_page_leads_somewhere_on_it(page):
    ids = {value for _, name, value in page.attributes if name == "id"}
    links = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    assert len(links) >= len(SECTIONS)
    assert {link.removeprefix("#") for link in links if link != "qc.html"} <= ids
    assert links.count("qc.html") == 1  # the page of the subjects, beside this one


def test_the_page_loads_nothing_and_forbids_itself_to(page):
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "data", "action", "poster"):
            assert value.startswith(("data:", "#")) or (tag, name, value) == ("a", "href", "qc.html"), (tag, name)
    assert not re.search(r"https?://|@import|url\(", page.source)
    policy = next(value for tag, name, value in page.attributes if tag == "meta" and name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_plotly_is_inside_once(page):
    assert page.plotly == 1


def test_no_path_of_this_machine_is_on_the_page(page, whole):
    assert str(whole) not in page.source
    assert not re.search(r"(?<![\w<.])/(home|root|tmp|work|usr|Users)/", page.source)


def test_a_hostile_id_is_text_and_nothing_else(study):
    scores = pd.read_csv(study / "scores.csv").replace({"method": {"density_probe": HOSTILE}})
    scores.to_csv(study / "scores.csv", index=False)
    rejected = pd.read_csv(study / "rejected.csv")
    rejected.loc[0, ["subject_id", "detail"]] = HOSTILE
    rejected.to_csv(study / "rejected.csv", index=False)
    page = Page(report(study))
    assert HOSTILE not in page.source
    assert HOSTILE in page.text  # once unescaped
    figures = [json.loads(block) for block in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page.source, re.S)]
    labels = [
        label
        for figure in figures
        if "data" in figure
        for trace in figure["data"]
        for label in trace.get("y") or []
        if "0042" in str(label)
    ]
    assert labels
    assert not any("<" in label for label in labels)  # Plotly reads labels as markup
    assert any(HOSTILE in (figure.get("ids") or []) for figure in figures)  # the page's script escapes these


def test_data_in_scripts_is_json_without_nan_or_markup(page):
    blocks = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page.source, re.S)
    assert len(blocks) > 8
    for block in blocks:
        assert "<" not in block
        json.loads(block, parse_constant=pytest.fail)


def test_the_headline_names_the_best_representation_and_its_share_of_the_ceiling(page, whole):
    scores = pd.read_csv(whole / "scores.csv")
    row = scores[
        (scores["method"] == "pairwise") & (scores["target"] == "fev1_pp") & (scores["metric"] == "r2") & (scores["seed"] == "mean")
    ].iloc[0]
    words = page.words()
    assert f"(Pairwise similarities) explains {row['value']:.0%}".replace("%", " %") in words
    assert f"That is {row['value'] / row['ceiling']:.0%}".replace("%", " %") in words
    cohort = pd.read_csv(whole / "cohort.csv")
    tested = cohort[cohort["split"] == "test"]
    assert tested["fev1_pp"].isna().sum() > 0  # who has no value is not scored
    assert f"in the {tested['fev1_pp'].notna().sum()} test subjects with a known value" in words


def test_warnings_stand_before_everything_else(page):
    words = page.words()
    first = words[: words.index("Summary", words.index("Read these first"))]
    assert "not diagnostic" in first
    assert "1 rejected subject was not expected" in first


def test_a_collapsed_run_is_a_warning_once(study):
    folder = next((study / "runs").glob("pairwise-s1-*"))
    facts = json.loads((folder / "run.json").read_text()) | {"collapse": "u stays at the prior: 0.001 nats"}
    (folder / "run.json").write_text(json.dumps(facts))
    words = Page(report(study)).words()
    assert words.count("u stays at the prior: 0.001 nats") == 1
    assert words.index("u stays at the prior") < words.index("What was compared", 400)


def test_a_collapse_that_the_evaluation_knows_of_is_not_told_twice(study):
    folder = next((study / "runs").glob("pairwise-s1-*"))
    facts = json.loads((folder / "run.json").read_text()) | {"collapse": "u stays at the prior: 0.001 nats"}
    (folder / "run.json").write_text(json.dumps(facts))
    evaluation = json.loads((study / "evaluation.json").read_text())
    evaluation["warnings"] = ["pairwise, seed 1: u stays at the prior: 0.001 nats"]
    (study / "evaluation.json").write_text(json.dumps(evaluation))
    words = Page(report(study)).words()
    assert words.count("u stays at the prior: 0.001 nats") == 1
    assert "Pairwise similarities, seed 1: training seems to have failed: u stays" in words


def test_two_seeds_that_collapsed_alike_are_two_warnings(study):
    for folder in (study / "runs").glob("pairwise-s*"):
        facts = json.loads((folder / "run.json").read_text()) | {"collapse": "u is the same for all subjects"}
        (folder / "run.json").write_text(json.dumps(facts))
    words = Page(report(study)).words()
    assert [words.count(f"Pairwise similarities, seed {seed}: training seems to have failed") for seed in (0, 1)] == [1, 1]


REMOVABLE = ["scores.csv", "differences.csv", "predictions.csv", "cohort.csv", "rejected.csv", "qc.csv", "evaluation.json", "runs"]


@pytest.mark.parametrize("name", REMOVABLE)
def test_what_a_missing_file_would_show_is_left_out_with_a_reason(study, name):
    shutil.rmtree(study / name) if name == "runs" else (study / name).unlink()
    page = Page(report(study))
    assert set(SECTIONS) <= {value for _, attribute, value in page.attributes if attribute == "id"}
    if name != "evaluation.json":
        assert "Not shown: there is no" in page.words()
        assert name in page.words()


BROKEN = [b"", b"\xff\xfe\x00broken", b"[1, 2", b"a,b\n1,2\n"]


@pytest.mark.parametrize("name", [name for name in REMOVABLE if name != "runs"])
@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_file_is_as_good_as_none(whole, tmp_path, name, content):
    shutil.copy(whole / "cohort.csv", tmp_path / "cohort.csv")
    (tmp_path / name).write_bytes(content)
    missing = read_study(tmp_path).missing[name]
    assert re.search(rf"^{re.escape(name)} (cannot be read|lacks the columns)", missing)


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "log.csv", "latents.parquet", "pictures.safetensors"])
@pytest.mark.parametrize("content", BROKEN[:3])
def test_a_broken_file_of_a_run_costs_only_its_own_part(whole, tmp_path, name, content):
    folder = shutil.copytree(next((whole / "runs").glob("pairwise-s0-*")), tmp_path / "runs" / "one")
    (folder / name).write_bytes(content)
    study = read_study(tmp_path)
    (run,) = study.runs
    parts = {"run.json": run.facts, "config.yaml": run.config, "pictures.safetensors": run.pictures}
    parts |= {"log.csv": run.log is not None, "latents.parquet": run.latents is not None}
    assert [part for part, value in parts.items() if not value] == [name]
    assert re.search("cannot be read|lacks the columns", study.missing[f"runs/one/{name}"])


def test_a_study_of_broken_files_still_has_a_page(study):
    for name in ("scores.csv", "predictions.csv", "differences.csv", "rejected.csv", "evaluation.json"):
        (study / name).write_bytes(b"broken")
    for path in study.glob("runs/*/*"):
        path.write_bytes(b"broken: [")
    page = Page(report(study))
    assert page.words().count("Not shown: ") > 6
    assert "no run has pictures" in page.words()
    assert "Who they are" in page.words()


def test_a_study_of_one_unfinished_run_still_has_a_page(tmp_path):
    (tmp_path / "runs" / "vae-s0-aa").mkdir(parents=True)
    assert "there is no finished run" in Page(report(tmp_path)).words()


def test_nothing_to_report_on_is_an_error(tmp_path):
    with pytest.raises(CopdvaeError, match=r"nothing to report on.*scores\.csv"):
        report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_same_files_make_the_same_bytes(study):
    first = report(study).read_bytes()
    assert report(study).read_bytes() == first
    assert sorted(path.name for path in study.iterdir() if "report" in path.name) == ["report.html"]  # no temporary file


def test_hiding_small_cells_names_no_subject(study):
    cohort = pd.read_csv(study / "cohort.csv", dtype={"subject_id": str})
    cohort["subject_id"] = ["SUBJ" + name for name in cohort["subject_id"]]
    cohort.to_csv(study / "cohort.csv", index=False)
    for path in (study / "runs").glob("*/latents.parquet"):
        table = pd.read_parquet(path)
        table.assign(subject_id=["SUBJ" + name for name in table["subject_id"]]).to_parquet(path, index=False)
    assert "SUBJ0003" in Page(report(study)).source
    hidden = Page(report(study, small_cells=5))
    assert "SUBJ" not in hidden.source
    assert "P0207" not in hidden.source
    assert "qc.html" not in hidden.source  # it names everyone
    assert "Counts below 5 are hidden" in hidden.words()
    assert "<5" in hidden.text


def test_flags_are_counted_for_those_kept_and_those_not(page):
    cells = re.findall(r"<td>(?:<code>)?(\w+)", page.source[page.source.index('id="quality"') : page.source.index('id="rejected"')])
    assert cells == ["lung_at_edge", "3", "1", "missing_slice", "0", "1"]


def test_lists_that_are_cut_say_how_long_they_were(study):
    rows = [(f"R{k}", "missing_slice", "slices lack", "no") for k in range(MOST_LISTED + 7)]
    pd.DataFrame(rows, columns=["subject_id", "reason", "detail", "expected"]).to_csv(study / "rejected.csv", index=False)
    cohort = pd.read_csv(study / "cohort.csv", dtype={"subject_id": str})
    cohort = pd.concat([cohort.assign(subject_id=cohort["subject_id"] + suffix) for suffix in ("", "b")])
    cohort["warnings"] = [f"insp: remark {k}" for k in range(len(cohort))]  # what is remarked about many is one line
    cohort.to_csv(study / "cohort.csv", index=False)
    words = Page(report(study)).words()
    assert "The first 200 of 207; all are in rejected.csv." in words
    assert "The first 200 of 240; all are in cohort.csv." in words


def test_ids_keep_their_leading_zeros_and_words_that_look_like_nothing(study):
    cohort = pd.read_csv(study / "cohort.csv", dtype={"subject_id": str})
    cohort.loc[1, "subject_id"] = "NA"
    cohort.to_csv(study / "cohort.csv", index=False)
    for path in (study / "runs").glob("*/latents.parquet"):
        table = pd.read_parquet(path)
        table.loc[1, "subject_id"] = "NA"
        table.to_parquet(path, index=False)
    source = Page(report(study)).source
    ids = json.loads(re.search(r'id="scatter-data">(.*?)</script>', source, re.S)[1])["ids"]
    assert ids[:3] == ["0000", "NA", "0002"]


def test_a_study_without_ceilings_speaks_of_none(study):
    scores = pd.read_csv(study / "scores.csv").assign(ceiling=np.nan)
    scores.to_csv(study / "scores.csv", index=False)
    page = Page(report(study))
    results = page.words().split("Results Higher is better")[1].split("Differences between methods")[0]
    assert "eiling" not in results


def test_every_settings_line_of_a_run_is_on_the_page(page):
    assert "network.v" in page.text
    assert "9f3e21ab77c0" in page.text


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_browser_draws_every_figure_without_complaint(study, tmp_path):
    path = report(study)
    flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-sync --disable-component-update --no-first-run"
    command = ["chromium", *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--window-size=1400,20000"]
    for budget in (20_000, 60_000, 180_000):  # of virtual time: a busy machine gets to the figures later
        arguments = [*command, f"--virtual-time-budget={budget}", "--dump-dom", path.as_uri()]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode == 0 and done.stdout.count("js-plotly-plot") >= 5 and "subjects shown" in done.stdout:
            break
    assert "CONSOLE" not in done.stderr, done.stderr
    assert done.stdout.count("js-plotly-plot") >= 5
    assert 'id="scatter-note">' in done.stdout
    assert "subjects shown" in done.stdout
