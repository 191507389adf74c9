"""Small files that would take gigabytes, and what reading each of them takes: `python bombs.py FOLDER` prints a line of JSON a file.

Peak memory is what the kernel counts for this process since the import of the readers (VmHWM): not `ru_maxrss`, which starts at the
size of the process that started this one.
"""

import bz2
import gzip
import json
import resource
import struct
import sys
import time
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np

SIDE = 1024  # of a volume: 2 GiB as int16, 4 GiB as float32
BLOCK = 1 << 26  # bytes of zeros that are compressed once and repeated
BLOCKS = 2 * SIDE**3 // BLOCK
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = {zipped}\nElementSpacing = 1 1 1\nDimSize = {sizes}\n"
    "ElementType = MET_SHORT\nElementDataFile = {data}\n"
)
NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
    "endian: little\nencoding: {encoding}\n"
)
CUBE = f"{SIDE} {SIDE} {SIDE}"


def nifti_header(side=SIDE, dtype=np.int16, offset=352) -> bytes:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape((2, 2, 2))
    header["dim"][1:4] = side
    header.set_sform(np.diag([-1, -1, 1, 1]), 1)
    header.set_xyzt_units("mm")
    header["magic"], header["vox_offset"] = b"n+1", offset
    return header.binaryblock


def holes(path: Path, start: bytes, size: int) -> None:
    """A file of `size` bytes that takes a block on the disk."""
    with path.open("wb") as stream:
        stream.write(start)
        stream.truncate(size)


def deflated_zeros(blocks: int) -> bytes:
    """A zlib stream of many times the same block: each ends with a full flush, so that it stands for itself."""
    packer = zlib.compressobj(9)
    first = packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (blocks - 1) + b"\x03\x00" + struct.pack(">L", 1)


def workbook(path: Path, sheet: str, strings: str = "", **parts: str) -> None:
    """A workbook of one sheet; `parts` adds others, or replaces them."""
    main, office = "http://schemas.openxmlformats.org/spreadsheetml/2006/main", "http://schemas.openxmlformats.org/officeDocument/2006"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    written = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Override PartName="/xl/workbook.xml" '
        f'ContentType="{kind}.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/>'
        f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}.sharedStrings+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
        f'Type="{office}/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}/relationships"><sheets><sheet name="a" sheetId="1" r:id="rId1"/>'
        "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
        f'Type="{office}/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/sharedStrings.xml": f'<sst xmlns="{main}">{strings}</sst>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}">{sheet}</worksheet>',
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (written | parts).items():
            archive.writestr(name, text)


def row(number: int, *cells: tuple[str, str]) -> str:
    return f'<row r="{number}">' + "".join(f'<c r="{place}{number}" t="str"><v>{text}</v></c>' for place, text in cells) + "</row>"


TABLE = row(1, ("A", "sid"), ("B", "fev1")) + row(2, ("A", "1"), ("B", "2"))


def make(folder: Path) -> dict[str, str]:
    """Every bomb, by name, with the reason that refuses it ("" for one that is read: what it claims is not looked at)."""
    member = gzip.compress(bytes(BLOCK), 9, mtime=0)
    head = gzip.compress(nifti_header() + bytes(4))
    (folder / "honest.nii.gz").write_bytes(head + member * BLOCKS)
    (folder / "claims.nii.gz").write_bytes(gzip.compress(nifti_header(32000) + bytes(4)))
    (folder / "claims.nii").write_bytes(nifti_header(32000) + bytes(4))
    holes(folder / "holes.nii", nifti_header(), 352 + 2 * SIDE**3)
    extension = b"\1\0\0\0" + struct.pack("<2l", 1 << 30, 6)
    (folder / "extension.nii.gz").write_bytes(
        gzip.compress(nifti_header(8, offset=float(1 << 30) + 1024) + extension) + member * (BLOCKS // 2 + 1)
    )
    (folder / "honest.nrrd").write_bytes(NRRD.format(sizes=CUBE, encoding="gzip").encode() + b"\n" + member * BLOCKS)
    (folder / "bzip2.nrrd").write_bytes(NRRD.format(sizes=CUBE, encoding="bzip2").encode() + b"\n" + bz2.compress(bytes(BLOCK)) * BLOCKS)
    holes(folder / "apart.raw", b"", 2 * SIDE**3)
    (folder / "apart.nhdr").write_text(NRRD.format(sizes=CUBE, encoding="raw") + "data file: apart.raw\n")
    holes(folder / "endless.nrrd", b"NRRD0004\n# ", 1 << 33)
    (folder / "honest.mha").write_bytes(META.format(zipped="True", sizes=CUBE, data="LOCAL").encode() + deflated_zeros(BLOCKS))
    (folder / "claims.mha").write_bytes(META.format(zipped="False", sizes="99999 99999 99999", data="LOCAL").encode())
    (folder / "apart.mhd").write_text(META.format(zipped="False", sizes=CUBE, data="apart.raw"))

    (folder / "zeros.csv.gz").write_bytes(member * BLOCKS)
    (folder / "commas.csv.gz").write_bytes(gzip.compress(b"sid,fev1\n" + b"," * 40_000_000, 1))
    (folder / "lines.csv").write_bytes(b"sid,fev1\n" + b"\n" * 20_000_000)
    holes(folder / "holes.csv", b"sid,fev1\n", 1 << 33)
    workbook(folder / "claims.xlsx", f'<dimension ref="A1:XFD1048576"/><sheetData>{TABLE}</sheetData>')
    workbook(folder / "corner.xlsx", f"<sheetData>{TABLE}{row(1048576, ('XFD', '3'))}</sheetData>")
    workbook(folder / "merged.xlsx", f'<sheetData>{TABLE}</sheetData><mergeCells count="1"><mergeCell ref="A1:XFD1048576"/></mergeCells>')
    workbook(folder / "beyond.xlsx", f"<sheetData>{TABLE}{row(10**15, ('A', '3'))}</sheetData>")
    workbook(folder / "wide.xlsx", f"<sheetData>{TABLE}<row>{'<c/>' * 1_000_000}</row></sheetData>")
    workbook(folder / "zeros.xlsx", f"<sheetData>{TABLE}</sheetData>", strings="<si><t>a</t></si>" * 2_000_000)
    many = "".join(f'<mergeCell ref="A{k}:B{k}"/>' for k in range(3, 250_000))
    workbook(folder / "many.xlsx", f"<sheetData>{TABLE}</sheetData><mergeCells>{many}</mergeCells>")
    entities = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10 if k else "a" * 100}">' for k in range(9))
    document = f"<?xml version='1.0'?><!DOCTYPE sst [{entities}]><sst><si><t>&e8;</t></si></sst>"
    workbook(folder / "entities.xlsx", f"<sheetData>{TABLE}</sheetData>", **{"xl/sharedStrings.xml": document})
    (folder / "aliases.yaml").write_text(
        "name: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"k{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12))
    )
    (folder / "deep.yaml").write_text("name: " + "[" * 20_000)
    holes(folder / "holes.yaml", b"name: x\n", 1 << 33)
    return {
        "honest.nii.gz": "decompression_bomb", "claims.nii.gz": "too_large", "claims.nii": "too_large", "holes.nii": "decompression_bomb",
        "extension.nii.gz": "damaged_file", "honest.nrrd": "decompression_bomb", "bzip2.nrrd": "decompression_bomb",
        "apart.nhdr": "decompression_bomb", "endless.nrrd": "damaged_file", "honest.mha": "decompression_bomb", "claims.mha": "truncated",
        "apart.mhd": "decompression_bomb", "zeros.csv.gz": "too_large", "commas.csv.gz": "too_large", "lines.csv": "too_large",
        "holes.csv": "too_large", "claims.xlsx": "", "corner.xlsx": "too_large", "merged.xlsx": "", "beyond.xlsx": "unreadable_table",
        "wide.xlsx": "unreadable_table", "zeros.xlsx": "too_large", "many.xlsx": "too_large", "entities.xlsx": "unreadable_table",
        "aliases.yaml": "ConfigError", "deep.yaml": "ConfigError", "holes.yaml": "ConfigError",
    }  # fmt: skip


def peak_bytes() -> int:
    """The largest this process has been since the last `forget_peak`."""
    return 1024 * next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))


def forget_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def read(path: Path) -> str:
    """The reason for which a file is refused, "" where it is read."""
    from copdvae.config import read_yaml
    from copdvae.errors import CopdvaeError, ReadError
    from copdvae.read import read_ct
    from copdvae.read.phenotypes import PhenotypesConfig
    from copdvae.read.tables import read_table

    try:
        if path.suffix == ".yaml":
            PhenotypesConfig.parse(read_yaml(path))
        elif path.suffix in (".xlsx", ".csv") or path.name.endswith(".csv.gz"):
            read_table(path)
        else:
            read_ct(path)
    except ReadError as error:
        return error.reason
    except CopdvaeError as error:
        return type(error).__name__
    return ""


def measure(folder: Path) -> None:
    import openpyxl  # noqa: F401  before the first measurement, as all else that is imported

    import copdvae.read.metaimage
    import copdvae.read.nifti
    import copdvae.read.phenotypes  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    for path in sorted(path for path in folder.iterdir() if path.suffix != ".raw"):
        before, started = forget_peak(), time.perf_counter()
        reason = read(path)
        print(json.dumps([path.name, reason, peak_bytes() - before, time.perf_counter() - started]), flush=True)


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
