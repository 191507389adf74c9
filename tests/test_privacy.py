"""Who the patient is, planted everywhere that archives have it: none of it is in anything that copdvae writes or says.

Names of files and folders may be said on stderr, to the person who has them, and nowhere else. The commands run in a process of their own
with every log and warning turned on; what comes out of it is all there is.
"""

import datetime
import os
import struct
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import openpyxl
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
import yaml
from openpyxl.packaging.custom import StringProperty
from pydicom.dataset import Dataset

sys.path.insert(0, str(Path(__file__).parent / "read"))  # helpers
sys.path.insert(0, str(Path(__file__).parent / "prepare"))
from chests import SPACING, chest, save_nifti
from ct_writers import AXIAL, ct_slice

SAID_OF_PATHS = ("QZFOLDER", "QZFILE", "QZBOOK", "QZSTUDY")
PLANTED = (
    "QZNAME", "QZPID", "QZOTHER", "19500513", "13/05/1950", "1950-05-13", "QZADDRESS", "QZPHONE", "QZACCESSION", "QZPHYSICIAN",
    "QZOPERATOR", "QZHOSPITAL", "QZSTATION", "QZDESCRIPTION", "QZPROTOCOL", "QZCOMMENT", "QZPRIVATE", "QZNESTED", "QZSERIAL",
    "QZDESCRIP", "QZAUX", "QZINTENT", "QZEXTENSION", "QZFIELD", "QZNOTE", "QZCREATOR", "QZTITLE", "QZKEYWORD", "QZCUSTOM", "QZCELL",
    "QZCOLUMN", "9.8.7.65432", *SAID_OF_PATHS,
)  # fmt: skip
STUDY = {
    "name": "planted",
    "data": {"manifest": "manifest.csv", "phenotypes": "QZBOOK 1950-05-13.xlsx"},
    "ingest": {"grid": 32},
    "split": {"train": 8, "validation": 2, "test": "rest"},
    "network": {"widths": [4, 8], "hidden": 8, "u": 1, "v": 3},
    "train": {"steps": 2, "batch": 4, "save_every": 2, "log_every": 1, "threads": 1, "device": "cpu"},
    "methods": [{"method": {"method": "vae"}}],
    "evaluate": {"draws": 100},
    "phenotypes": {"preset": "plain"},
}
SCRIPT = """
import logging, os, sys, threading, time, traceback, warnings
from pathlib import Path

root = sys.argv[1]
if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    warnings.simplefilter("always")
    titles, done = set(), threading.Event()

    def watch():
        own = os.getpid()
        while not done.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if f"PPid:\\t{own}\\n" in (process / "status").read_text():
                        titles.add((process / "cmdline").read_bytes() + (process / "comm").read_bytes())
                except OSError:
                    continue

    threading.Thread(target=watch, daemon=True).start()
    from copdvae.cli import app
    from copdvae.errors import CopdvaeError
    from copdvae.prepare import scans as module

    def command(*words):
        try:
            app(words, standalone_mode=False)
        except CopdvaeError as error:
            print(f"copdvae: {error}", file=sys.stderr)
        except SystemExit:
            pass
        except Exception:
            traceback.print_exc()

    command("validate", root)
    command("ingest", root, "--workers", "2")
    command("ingest", root + "/broken.yaml", "--workers", "1")  # nobody can be prepared
    command("run", root, "--workers", "1")
    command("report", root)
    command("report", root, "--small-cells", "5")
    module.to_grid = None  # a bug of our own: its traceback is the last that is said
    command("ingest", root + "/bug.yaml", "--workers", "1")
    done.set()
    Path(root, "titles").write_bytes(b"\\n".join(titles))
"""


def plant(dataset: Dataset, number: int) -> None:
    """Everything that a scanner or an archive may write about a person."""
    dataset.PatientName, dataset.PatientID = "QZNAME^QZNAME", "QZPID"
    dataset.PatientBirthDate, dataset.PatientAddress = "19500513", "QZADDRESS"
    dataset.OtherPatientIDs, dataset.PatientTelephoneNumbers = "QZOTHER", "QZPHONE"
    dataset.AccessionNumber, dataset.ReferringPhysicianName, dataset.OperatorsName = "QZACCESSION", "QZPHYSICIAN", "QZOPERATOR"
    dataset.InstitutionName, dataset.StationName, dataset.DeviceSerialNumber = "QZHOSPITAL", "QZSTATION", "QZSERIAL"
    dataset.StudyDescription = dataset.SeriesDescription = "QZDESCRIPTION"
    dataset.ProtocolName, dataset.ImageComments, dataset.PatientComments = "QZPROTOCOL", "QZCOMMENT", "QZCOMMENT"
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = "9.8.7.65432.1", "9.8.7.65432.2"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"9.8.7.65432.3.{number}"
    dataset.SeriesInstanceUID = "9.8.7.65432.4"
    dataset.StudyDate = dataset.ContentDate = "19500513"
    inner = Dataset()
    inner.PatientName = inner.CodeMeaning = "QZNESTED"
    dataset.RequestAttributesSequence = [inner]
    block = dataset.private_block(0x0011, "QZPRIVATE", create=True)
    block.add_new(0x01, "LO", "QZPRIVATE")


def write_series(folder: Path, hu: np.ndarray, change=lambda dataset, number: None) -> None:
    folder.mkdir(parents=True)
    for k, plane in enumerate(hu):
        dataset = ct_slice(plane.astype(int) + 1024, (0, 0, k * SPACING), AXIAL, (SPACING, SPACING), "9.8.7.65432.4", k)
        plant(dataset, k)
        dataset.Manufacturer, dataset.ConvolutionKernel = "ACME", "B31f"
        change(dataset, k)
        dataset.save_as(folder / f"QZFILE, QZNAME; 1950-05-13 {k:03d}.dcm", enforce_file_format=True)


def planted_nifti(path: Path, hu: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(hu.transpose(2, 1, 0).astype(np.int16), np.diag([-SPACING, -SPACING, SPACING, 1]))
    image.header["descrip"], image.header["aux_file"], image.header["intent_name"] = "QZDESCRIP QZNAME", "QZAUX", "QZINTENT"
    image.header["db_name"] = "QZNAME"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"QZEXTENSION QZNAME 19500513"))
    nibabel.save(image, path)
    return path


def itk_image(hu: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(hu.astype(np.int16))
    image.SetSpacing((SPACING,) * 3)
    image.SetMetaData("PatientName", "QZFIELD QZNAME")
    return image


def make(root: Path) -> None:
    """Twelve sound subjects, and every kind of bad file with a name in it."""
    scans, rows = root / "scans", []
    for number in range(10):
        planted_nifti(scans / f"QZFOLDER QZNAME {number}/QZFILE.nii.gz", chest(0.9 + 0.02 * number, -880 + 8 * number, seed=number))
        rows.append((f"P{number:02d}", f"scans/QZFOLDER QZNAME {number}/QZFILE.nii.gz"))
    write_series(scans / "QZFOLDER, QZNAME/QZFOLDER: insp", chest(1.0, seed=20))
    rows.append(("P10", "scans/QZFOLDER, QZNAME/QZFOLDER: insp"))
    (scans / "QZFOLDER nrrd").mkdir()
    sitk.WriteImage(itk_image(chest(1.02, seed=21)), str(scans / "QZFOLDER nrrd/QZFILE.nrrd"))
    rows.append(("P11", "scans/QZFOLDER nrrd/QZFILE.nrrd"))

    hu = chest(1.0, seed=30)
    write_series(scans / "QZFOLDER gap", hu)
    next(iter(sorted((scans / "QZFOLDER gap").iterdir())[20:])).unlink()
    write_series(scans / "QZFOLDER cut", hu)
    cut = sorted((scans / "QZFOLDER cut").iterdir())[9]
    cut.write_bytes(cut.read_bytes()[:-500])

    def bad_values(dataset, number):
        dataset.PatientBirthDate = "13/05/1950 QZNAME"  # pydicom's warning quotes it
        dataset.AcquisitionNumber = "777777"
        if number == 3:
            dataset.RescaleSlope = "0"

    with pydicom.config.disable_value_validation():
        write_series(scans / "QZFOLDER values", hu, bad_values)
    for path in (scans / "QZFOLDER values").iterdir():
        path.write_bytes(path.read_bytes().replace(b"777777", b"QZNAME"))  # where a number belongs
    (scans / "QZFOLDER torn").mkdir()
    (scans / "QZFOLDER torn/QZFILE QZNAME.dcm").write_bytes(bytes(128) + b"DICM" + b"QZNAME" * 50)
    planted_nifti(scans / "QZFOLDER/QZFILE cut.nii", hu)
    torn = scans / "QZFOLDER/QZFILE cut.nii"
    torn.write_bytes(torn.read_bytes()[:20_000])
    header = bytearray(planted_nifti(scans / "QZFOLDER/QZFILE odd.nii", hu).read_bytes())
    header[40:42], header[48:50] = struct.pack("<h", 4), struct.pack("<h", 2)  # two points in time
    (scans / "QZFOLDER/QZFILE odd.nii").write_bytes(header)
    sitk.WriteImage(itk_image(hu * 0 + 7), str(scans / "QZFOLDER/QZFILE flat.mha"))
    text = (scans / "QZFOLDER nrrd/QZFILE.nrrd").read_bytes()
    (scans / "QZFOLDER/QZFILE.nrrd").write_bytes(text.replace(b"encoding:", b"QZFIELD: QZNAME\nencoding:", 1))
    (scans / "QZFOLDER/QZFILE.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nPatientName = QZNAME\nElementSpacing = 1 1 1\nDimSize = 9 9 9\n"
        "ElementType = MET_SHORT\nElementDataFile = /QZFOLDER/QZFILE\n"
    )
    save_nifti(scans / "QZFOLDER/QZFILE mask.nii", np.zeros((3, 4, 5)))
    planted_nifti(scans / "QZFOLDER/QZFILE masked.nii", chest(1.0, seed=31))
    bad = ("gap", "cut", "values", "torn", "/QZFILE cut.nii", "/QZFILE odd.nii", "/QZFILE flat.mha", "/QZFILE.nrrd", "/QZFILE.mhd",
           "/QZFILE gone.nii", "/../../QZFOLDER/QZFILE.nii")  # fmt: skip
    rows += [(f"B{k:02d}", f"scans/QZFOLDER{'' if name.startswith('/') else ' '}{name}") for k, name in enumerate(bad)]
    table = pd.DataFrame(rows, columns=["subject_id", "insp_path"])
    table["exp_path"] = [f"scans/QZFOLDER out/QZFILE QZNAME {subject}.nii" if subject[0] == "P" else "" for subject in table["subject_id"]]
    for number, path in enumerate(filter(None, table["exp_path"])):
        planted_nifti(root / path, chest(0.75, -780 + 10 * number, seed=50 + number))
    table.loc[len(table)] = ["B99", "scans/QZFOLDER/QZFILE masked.nii", ""]
    table["mask_path"] = [""] * len(rows) + ["scans/QZFOLDER/QZFILE mask.nii"]
    table["Patient QZCOLUMN"] = "QZNAME"
    table.to_csv(root / "manifest.csv", index=False)

    book = openpyxl.Workbook()
    book.properties.creator, book.properties.lastModifiedBy, book.properties.title = "QZCREATOR", "QZCREATOR", "QZTITLE"
    book.properties.keywords, book.properties.description = "QZKEYWORD", "QZNOTE"
    book.custom_doc_props.append(StringProperty(name="Patient", value="QZCUSTOM"))
    sheet = book.active
    sheet.append(["subject_id", "age", "sex", "height", "race", "fev1", "fvc", "fev1_pp", "emphysema_pct", "gas_trapping_pct", "QZCOLUMN"])
    rng = np.random.default_rng(0)
    for k in range(12):
        fvc, ratio, race = float(rng.uniform(2.5, 4.5)), float(rng.uniform(0.4, 0.85)), "QZCELL" if k == 4 else ""
        measures = [round(fvc * ratio, 2), round(fvc, 2), 40 + 5 * k, k, 30]
        sheet.append([f"P{k:02d}", 60 + k, "MF"[k % 2], 160 + k, race, *measures, "QZCELL"])
    sheet.append(["B20", "13/05/1950 QZCELL", "M", 170, "", 2, 3, 80, 1, 30, "QZCELL"])
    sheet.append(["B21", 19500513, "M", 170, "", 2, 3, 80, 1, 30, "QZCELL"])
    sheet.append(["B22", datetime.date(1950, 5, 13), "QZCELL", 170, "", 2, 3, 80, 1, 30, "QZCELL"])
    sheet["A2"].comment = openpyxl.comments.Comment("QZCELL", "QZCREATOR")
    book.save(root / STUDY["data"]["phenotypes"])
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY))
    for name, only in (("broken", table[table["subject_id"].str.startswith("B")]), ("bug", table[table["subject_id"] == "P00"])):
        places = {"out": name, "cache": f"{name}/cache", "data": STUDY["data"] | {"manifest": f"{name}.csv"}}
        (root / f"{name}.yaml").write_text(yaml.safe_dump(STUDY | places))
        only.to_csv(root / f"{name}.csv", index=False)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The study after all commands, and what they said."""
    root = tmp_path_factory.mktemp("study")
    make(root)
    mine = {path for path in root.rglob("*") if path.is_file()}
    script = tmp_path_factory.mktemp("script") / "commands.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COPDVAE_DEBUG": "1"}
    done = subprocess.run([sys.executable, str(script), str(root)], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return root, [path for path in root.rglob("*") if path.is_file() and path not in mine], done


def found_in(content: bytes, words=PLANTED) -> list[str]:
    lower = content.lower()
    return [word for word in words for form in (word.lower().encode(), word.lower().encode("utf-16-le")) if form in lower]


@pytest.mark.slow
def test_the_commands_did_what_they_are_for(told):
    """Or nothing would be shown by what they did not say."""
    root, written, done = told
    assert {"index.csv", "rejected.csv", "split.csv", "report.html", "scores.csv", "evaluation.json", "run.json", "latents.parquet"} <= {
        path.name for path in written
    }
    index = pd.read_csv(root / "cache/index.csv")
    assert list(index["subject_id"]) == [f"P{k:02d}" for k in range(12)]
    rejected = pd.read_csv(root / "cache/rejected.csv").set_index("subject_id")["reason"].to_dict()
    assert len(rejected) == 12
    assert {"missing_slice", "truncated", "not_hu", "outside_file", "missing_file", "outside_study", "mask_grid"} <= set(rejected.values())
    everyone = pd.read_csv(root / "rejected.csv").set_index("subject_id")["reason"].to_dict()
    assert {"B20", "B21", "B22"} <= set(everyone)
    assert b"nothing is ingested yet" not in done.stderr
    assert b"TypeError" in done.stderr, "the bug of our own was shown"
    assert b"QZFILE" in done.stderr, "the person at the screen is told which file it is"


@pytest.mark.slow
def test_no_written_file_holds_a_planted_word(told):
    _, written, _ = told
    assert len(written) > 20
    leaks = {path.name: found_in(path.read_bytes()) for path in written}
    leaks |= {f"{path.name}, as text": found_in(pd.read_parquet(path).to_csv().encode()) for path in written if path.suffix == ".parquet"}
    assert not {name: words for name, words in leaks.items() if words}
    assert not found_in("\n".join(str(path.name) for path in written).encode())


@pytest.mark.slow
def test_nothing_that_is_said_names_a_person_and_only_stderr_names_a_file(told):
    _, _, done = told
    people = [word for word in PLANTED if word not in SAID_OF_PATHS]
    assert not found_in(done.stdout)
    lines = [line for line in done.stderr.splitlines() if found_in(line, people) and not found_in(line, SAID_OF_PATHS)]
    assert not lines
    headers = PLANTED[PLANTED.index("QZADDRESS") : PLANTED.index("QZCELL")]
    assert not found_in(done.stderr, ("QZPID", "QZOTHER", "9.8.7.65432", *headers))


@pytest.mark.slow
def test_the_titles_of_processes_name_nobody(told):
    root, _, _ = told
    titles = (root / "titles").read_bytes()
    assert b"multiprocessing" in titles
    assert not found_in(titles)
