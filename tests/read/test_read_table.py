"""Tables as people save them. The oracle is what was written into the file."""

import gzip
import time

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copdvae.errors import ReadError
from copdvae.read.tables import read_table

HEADER, ROWS = ["sid", "FEV1, L", "note"], [["007", "2.5", "a b"], ["12 ", "3.1", ""]]
EXPECTED = {"sid": ["007", "12"], "FEV1, L": ["2.5", "3.1"], "note": ["a b", ""]}


def written(path, text: str, encoding: str = "utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def joined(delimiter: str) -> str:
    quoted = [[f'"{cell}"' if delimiter in cell else cell for cell in row] for row in [HEADER, *ROWS]]
    return "\r\n".join(delimiter.join(row) for row in quoted) + "\r\n"


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "T.CSV"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_is_read_whatever_its_delimiter_and_encoding(tmp_path, name, delimiter, encoding):
    table = read_table(written(tmp_path / name, joined(delimiter), encoding))
    assert table.to_dict("list") == EXPECTED
    assert table.index.tolist() == [2, 3]


def test_gzipped_text_is_read_and_a_cut_off_one_refused(tmp_path):
    raw = gzip.compress(joined(",").encode())
    (tmp_path / "t.csv.gz").write_bytes(raw)
    assert read_table(tmp_path / "t.csv.gz").to_dict("list") == EXPECTED
    (tmp_path / "cut.csv.gz").write_bytes(raw[:-12])
    (tmp_path / "not.csv.gz").write_bytes(b"sid,fev1\n1,2\n")
    for name in ("cut.csv.gz", "not.csv.gz"):
        with pytest.raises(ReadError, match=f"{name}: not a whole gzip file") as caught:
            read_table(tmp_path / name)
        assert caught.value.reason == "bad_gzip"


def test_decimal_commas_do_not_pass_for_a_delimiter(tmp_path):
    table = read_table(written(tmp_path / "t.csv", "sid;fev1;fvc\n1;2,5;3,1\n2;3;4,0\n"))
    assert table.to_dict("list") == {"sid": ["1", "2"], "fev1": ["2,5", "3"], "fvc": ["3,1", "4,0"]}
    assert "fields split at ';'" in table.attrs["notes"][0]


def test_latin_1_is_read_and_announced(tmp_path):
    table = read_table(written(tmp_path / "t.csv", "sid,site\n1,Köln\n", "latin-1"))
    assert table["site"].tolist() == ["Köln"]
    assert "read as Latin-1" in table.attrs["notes"][0]
    assert read_table(written(tmp_path / "u.csv", "sid,site\n1,Köln\n")).attrs["notes"] == []


def test_missing_codes_are_empty_blank_rows_are_left_out_and_rows_keep_their_spreadsheet_number(tmp_path):
    text = "sid,a,b,c\n01,NA,.,#N/A\n\n,,,\n02, -9 ,999,NaN \n"
    table = read_table(written(tmp_path / "t.csv", text))
    assert table.index.tolist() == [2, 5]
    assert table.loc[2].tolist() == ["01", "", "", ""]
    assert table.loc[5].tolist() == ["02", "-9", "999", ""]  # whether these are missing depends on the column


def test_a_quoted_line_break_is_one_row_of_the_spreadsheet(tmp_path):
    table = read_table(written(tmp_path / "t.csv", 'sid,note\n1,"two\nlines"\n2,x\n'))
    assert table.loc[3, "sid"] == "2"


@pytest.mark.parametrize("mark", ["\n", "\r\n", "\r"])
def test_every_line_break_in_a_cell_is_the_same(tmp_path, mark):
    """Or the id of one table would not be found in another."""
    table = read_table(written(tmp_path / "t.csv", f'sid,note\n"a{mark}b",x\n'))
    assert table["sid"].tolist() == ["a\nb"]


@pytest.mark.parametrize(
    ("name", "text", "reason", "words"),
    [
        ("t.csv", "", "empty_table", "is empty"),
        ("t.csv", "sid,fev1\n", "empty_table", "no row below"),
        ("t.csv", "sid,fev1,fev1\n1,2,3\n", "duplicate_column", "'fev1'"),
        ("t.csv", "sid,fev1\n1,2\n2,3,4\n3,4\n", "ragged_table", "row 3 has 3 fields, the header 2"),
        ("t.csv", "sid,fev1\n1,2\n2\n", "ragged_table", "row 3 has 1 fields"),
        ("t.xls", "x", "unknown_table", "save it as"),
        ("t.xlsx", "not a workbook", "unreadable_table", "not an Excel workbook"),
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path, name, text, reason, words):
    with pytest.raises(ReadError, match=words) as caught:
        read_table(written(tmp_path / name, text))
    assert caught.value.reason == reason
    assert name in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ReadError, match="no such file"):
        read_table(tmp_path / "absent.csv")


def test_trailing_delimiters_and_a_column_of_row_names_are_no_harm(tmp_path):
    assert list(read_table(written(tmp_path / "t.csv", "sid,a,,\n1,2,,\n"))) == ["sid", "a"]
    assert list(read_table(written(tmp_path / "u.csv", ",sid\n0,7\n"))) == ["unnamed_1", "sid"]


def workbook(path, **sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        tab = book.create_sheet(title)
        for row in rows:
            tab.append(row)
    book.save(path)
    return path


def test_a_workbook_shows_ids_and_numbers_as_excel_does(tmp_path):
    path = workbook(tmp_path / "t.xlsx", data=[["sid", "n", "x"], [7, 3.0, 2.45], ["008", None, " NA "], [None, None, None], [9, 1, 0.1]])
    book = openpyxl.load_workbook(path)
    book["data"]["A2"].number_format = "0000"
    book.save(path)
    table = read_table(path)
    assert table.to_dict("list") == {"sid": ["0007", "008", "9"], "n": ["3", "", "1"], "x": ["2.45", "", "0.1"]}
    assert table.index.tolist() == [2, 3, 5]


def test_several_filled_sheets_need_a_choice_and_empty_ones_do_not_count(tmp_path):
    rows = [["sid"], [1]]
    assert len(read_table(workbook(tmp_path / "one.xlsx", data=rows, Sheet2=[]))) == 1
    two = workbook(tmp_path / "two.xlsx", visit1=rows, visit2=[["sid"], [1], [2]])
    with pytest.raises(ReadError, match=r"2 sheets with something on them \(visit1, visit2\)") as caught:
        read_table(two)
    assert caught.value.reason == "several_sheets"
    assert len(read_table(two, "visit2")) == 2
    with pytest.raises(ReadError, match="no sheet 'visit3'; it has visit1, visit2"):
        read_table(two, "visit3")
    with pytest.raises(ReadError, match="has no sheets"):
        read_table(written(tmp_path / "t.csv", "sid,a\n1,2\n"), "visit1")


def test_a_formula_whose_value_was_never_saved_is_refused_not_read_as_missing(tmp_path):
    with pytest.raises(ReadError, match="row 2 has a formula"):
        read_table(workbook(tmp_path / "t.xlsx", data=[["sid", "fev1"], [1, "=1+1"]]))


cells = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=6).filter(lambda text: not set(text) & set("\"'"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(cells, min_size=3, max_size=3), min_size=2, max_size=5), st.sampled_from("\t;,|"))
def test_any_text_comes_back_from_a_file_quoted_throughout(tmp_path_factory, rows, delimiter):
    header = ["a", "b", "c"]
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text("\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in [header, *rows]), encoding="utf-8")
    missing = {".", "NA", "N/A", "n/a", "NaN", "nan", "#N/A", "NULL", "null"}
    assert read_table(path).to_numpy().tolist() == [["" if cell in missing else cell for cell in row] for row in rows]


@pytest.mark.data
def test_the_gzipped_nhanes_table_is_read_whole(real_data):
    started = time.perf_counter()
    table = read_table(real_data / "spirometry" / "nhanes_2007_2012_spirometry.csv.gz")
    print(f"{len(table)} rows in {time.perf_counter() - started:.2f} s")
    assert table.shape == (16596, 13)
    assert table.loc[2, ["fvc", "gender", "ethnicity"]].tolist() == ["2.473", "female", "other"]
