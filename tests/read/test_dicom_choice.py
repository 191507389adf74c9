"""Which of several series in one folder is read: the rule, step by step, and the error where it leaves more than one."""

import re

import numpy as np
import pytest
from ct_writers import assert_reads_the_world, setting, write_series
from test_dicom import CORONAL, SAGITTAL, refused

from copdvae.errors import ReadError
from copdvae.read import check_ct, read_ct
from copdvae.read.dicom_protocol import breath_of, sharpness
from copdvae.read.options import ReadConfig

LONG = list(range(0, 60, 5))


def names(folder) -> dict[str, str]:
    """What the error that lists them calls each series, by its kernel."""
    with pytest.raises(ReadError) as caught:
        check_ct(folder, config=ReadConfig(prefer_series=()))
    assert caught.value.reason in ("several_series", "duplicate_position")
    listed = re.findall(r"(s[0-9a-f]{8}(?:\.\d)?) \(CT, [^()]*? kernel ([^,]*),", str(caught.value))
    return {kernel: name for name, kernel in listed}


def chosen(folder, **options) -> str:
    """The kernel of the series that is read."""
    return str(check_ct(folder, **options)["header"]["kernel"])


@pytest.mark.parametrize(
    ("step", "better", "worse"),
    [
        ("original", {}, dict(ImageType=["DERIVED", "PRIMARY", "AXIAL"])),
        ("thin", dict(SliceThickness=1.25), dict(SliceThickness=2.5)),
        ("soft", {}, {}),
    ],
)
def test_each_step_prefers_what_it_says_and_only_where_it_is_asked_for(tmp_path, step, better, worse):
    kernels = ("B31f", "B70f") if step == "soft" else ("A?", "B?")  # unknown ones leave the other steps alone
    write_series(tmp_path / "a", series="1.2.3.5", change=setting(ConvolutionKernel=kernels[1], **worse))
    write_series(tmp_path / "b", change=setting(ConvolutionKernel=kernels[0], **better))
    assert chosen(tmp_path) == kernels[0]
    without = tuple(other for other in ReadConfig().prefer_series if other != step)
    refused(tmp_path, "several_series", "2 CT series and no rule prefers one", config=ReadConfig(prefer_series=without))
    why = {"original": "derived", "thin": "thicker", "soft": "sharper kernel"}[step]
    assert f"1 other CT series ({why}): left out [other_series]" in read_ct(tmp_path).warnings


def test_axial_slices_come_before_reformatted_ones_and_single_slices_never_count(tmp_path):
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", LONG, orientation=CORONAL, series="1.2.3.5")
    write_series(tmp_path / "c", [0], series="1.2.3.6")
    volume = read_ct(tmp_path)
    assert_reads_the_world(volume)
    assert sorted(volume.warnings) == [
        "1 other CT series (not axial): left out [other_series]",
        "1 other CT series (single slices): left out [other_series]",
    ]


@pytest.mark.parametrize(
    ("lengths", "kept"),
    [
        ((205, 900), None),  # both hold a chest: a whole body is no better
        ((150, 205), 1),  # one does not
        ((100, 120), 1),  # neither does: the longer
        ((110, 120), None),  # level to a tenth
    ],
)
def test_coverage_of_a_chest_is_enough_and_less_than_that_counts(tmp_path, lengths, kept):
    for n, length in enumerate(lengths):
        write_series(tmp_path / str(n), list(np.linspace(0, length, 21)), series=f"1.2.3.{n}", change=setting(ConvolutionKernel=f"K{n}"))
    if kept is None:
        refused(tmp_path, "several_series", "no rule prefers one")
    else:
        assert chosen(tmp_path) == f"K{kept}"


def test_steps_go_in_the_order_they_are_given(tmp_path):
    """A thin sharp series and a thick soft one: which is better depends on what is asked first."""
    write_series(tmp_path / "a", series="1.2.3.5", change=setting(ConvolutionKernel="B70f", SliceThickness=1))
    write_series(tmp_path / "b", change=setting(ConvolutionKernel="B31f", SliceThickness=5))
    assert chosen(tmp_path) == "B70f"
    assert chosen(tmp_path, config=ReadConfig(prefer_series=("soft", "thin"))) == "B31f"


def test_an_unknown_thickness_or_kernel_decides_nothing(tmp_path):
    write_series(tmp_path / "a", series="1.2.3.5", change=setting(ConvolutionKernel="B31f", SliceThickness=None))
    write_series(tmp_path / "b", change=setting(ConvolutionKernel="MYSTERY", SliceThickness=1))
    refused(tmp_path, "several_series", "kernel MYSTERY")


def test_a_tie_lists_every_candidate_with_what_matters_and_how_to_name_one(tmp_path):
    write_series(tmp_path / "a", change=setting(ConvolutionKernel="B31f", ContrastBolusAgent="SECRET agent"))
    write_series(tmp_path / "b", series="1.2.3.5", change=setting(ConvolutionKernel="B31f", SeriesDescription="SECRET^NAME EXP"))
    with pytest.raises(ReadError) as caught:
        read_ct(tmp_path)
    text = str(caught.value)
    assert caught.value.reason == "several_series"
    assert "--series" in text
    assert "column series" in text
    for breath, contrast in (("breath unknown", "contrast"), ("expiration", "no contrast")):
        facts = "CT, original, axial, 6 slices 5x4 over 25 mm, 2.0 mm thick, kernel B31f"
        assert re.search(rf"[0-9a-f]{{8}} \({facts}, {contrast}, {breath}\)", text)
    assert not re.search(r"SECRET|1\.2\.3", text)


@pytest.mark.parametrize("by_uid", [True, False])
def test_a_named_series_is_read_alone(tmp_path, by_uid):
    write_series(tmp_path / "a", change=setting(ConvolutionKernel="A"))
    write_series(tmp_path / "b", [0, 5, 10, 15], series="1.2.3.5", change=setting(ConvolutionKernel="B"))
    volume = read_ct(tmp_path, series="1.2.3.5" if by_uid else names(tmp_path)["B"])
    assert_reads_the_world(volume)
    assert (len(volume.hu), volume.warnings) == (4, ())


def test_a_series_that_is_not_there_is_an_error_that_says_what_is(tmp_path):
    for wanted in ("1.2", "deadbeef", "deadbeef.1", ""):
        refused(write_series(tmp_path), "no_such_series", r"no CT series of that name; there are: s[0-9a-f]{8} \(CT,", series=wanted)


class TestOneSeriesWithSeveralImagesOfEachPlace:
    """Row 4 of the bad inputs: two reconstructions, phases or time points under one SeriesInstanceUID."""

    def write(self, folder, one, other):
        """The second copy is 50 HU denser everywhere."""
        write_series(folder / "a", change=setting(**one))
        write_series(folder / "b", first=50, change=setting(**other), raw=lambda hu: hu + 1074)

    def test_kernels_tell_them_apart_and_the_softer_one_is_read(self, tmp_path):
        self.write(tmp_path, dict(ConvolutionKernel="B31f"), dict(ConvolutionKernel="B70f"))
        volume = read_ct(tmp_path)
        assert_reads_the_world(volume)
        assert volume.warnings == ("1 other CT series (sharper kernel): left out [other_series]",)
        harder = read_ct(tmp_path, series=names(tmp_path)["B70f"])
        np.testing.assert_allclose(harder.hu, volume.hu + 50)
        assert harder.header["kernel"] == "B70f"
        assert read_ct(tmp_path, series="1.2.3.4").header["kernel"] == "B31f"  # the series whole: the rule chooses in it, too

    @pytest.mark.parametrize(
        ("one", "other", "shown"),
        [
            (dict(AcquisitionNumber=1), dict(AcquisitionNumber=2), "acquisition 2"),
            (dict(KVP=80), dict(KVP=140), "kVp 80"),
            (dict(TemporalPositionIdentifier=1), dict(TemporalPositionIdentifier=2), "temporal position 2"),
            (dict(FilterType="SECRET 1"), dict(FilterType="SECRET 2"), "filter 2"),
        ],
    )
    def test_what_tells_them_apart_is_listed_and_each_part_has_a_name(self, tmp_path, one, other, shown):
        self.write(tmp_path, one | dict(ConvolutionKernel="?"), other | dict(ConvolutionKernel="?"))
        refused(tmp_path, "duplicate_position", f"2 images of each place in one series and no rule prefers one .*{shown}")
        series = next(iter(names(tmp_path).values())).partition(".")[0]
        assert_reads_the_world(read_ct(tmp_path, series=f"{series}.1"))
        np.testing.assert_allclose(read_ct(tmp_path, series=f"{series}.2").hu, read_ct(tmp_path, series=f"{series}.1").hu + 50)
        refused(tmp_path, "no_such_series", "no CT series", series=f"{series}.3")

    def test_a_breath_in_the_description_tells_them_apart(self, tmp_path):
        self.write(tmp_path, dict(SeriesDescription="CHEST INSP"), dict(SeriesDescription="CHEST EXP"))
        assert_reads_the_world(read_ct(tmp_path, breath="insp"))
        assert_reads_the_world_denser(read_ct(tmp_path, breath="exp"))

    def test_images_that_nothing_tells_apart_are_refused(self, tmp_path):
        self.write(tmp_path, {}, {})
        refused(tmp_path, "duplicate_position", "6 doubled slices")

    def test_two_acquisitions_one_above_the_other_are_one_series(self, tmp_path):
        write_series(tmp_path / "a", [0, 5, 10], change=setting(AcquisitionNumber=1))
        write_series(tmp_path / "b", [15, 20, 25], first=3, change=setting(AcquisitionNumber=2))
        assert_reads_the_world(read_ct(tmp_path))


def assert_reads_the_world_denser(volume):
    volume.hu[...] -= 50
    assert_reads_the_world(volume)


def test_two_stacks_under_one_series_are_two_and_a_stray_slice_is_an_error(tmp_path):
    write_series(tmp_path / "a" / "axial")
    write_series(tmp_path / "a" / "sagittal", orientation=SAGITTAL, first=50)
    volume = read_ct(tmp_path / "a")
    assert_reads_the_world(volume)
    assert volume.warnings == ("1 other CT series (not axial): left out [other_series]",)
    write_series(tmp_path / "b" / "axial")
    write_series(tmp_path / "b" / "sagittal", [0, 5], orientation=SAGITTAL, first=50)
    refused(tmp_path / "b", "mixed_orientation", "slices point 2 ways")


def test_several_patients_in_one_folder_are_refused_unless_a_series_is_named(tmp_path):
    write_series(tmp_path / "a", LONG, change=setting(ConvolutionKernel="A"))
    write_series(tmp_path / "b", series="1.2.3.5", change=setting(PatientID="SECRET-OTHER", ConvolutionKernel="B"))
    refused(tmp_path, "mixed_patients", "CT of 2 patients")
    assert_reads_the_world(read_ct(tmp_path, series="1.2.3.4"))


def test_several_patients_in_a_series_that_is_named_are_refused(tmp_path):
    write_series(tmp_path, change=setting(only=2, PatientID="SECRET-OTHER"))
    refused(tmp_path, "mixed_patients", "slices of 2 patients in one series", series="1.2.3.4")


class TestBreath:
    @pytest.mark.parametrize(
        ("description", "breath"),
        [
            ("CHEST INSP 1.25", "insp"), ("Thorax_Inspiration_B31f", "insp"), ("INSPIRATORY", "insp"), ("inhale phase", "insp"),
            ("TLC", "insp"), ("Inspi", "insp"), ("Einatmung", "insp"), ("INSPACE", ""), ("TLCO", ""),
            ("Thx  EXP  0.75  B31f", "exp"), ("Expi", "exp"), ("Exspiration", "exp"), ("Ausatmung", "exp"), ("EXHALE", "exp"),
            ("FRC 1mm", "exp"), ("EXPLORER", ""), ("EXPERT", ""), ("EXPOSED", ""), ("insp/exp", ""), ("CHEST", ""), ("", ""),
        ],
    )  # fmt: skip
    def test_words_that_say_which_breath(self, description, breath):
        assert breath_of(description) == breath

    def test_of_a_folder_with_both_each_is_found_by_its_description(self, tmp_path):
        write_series(tmp_path / "i", change=setting(SeriesDescription="CHEST INSP", ConvolutionKernel="I"))
        write_series(tmp_path / "e", series="1.2.3.5", change=setting(SeriesDescription="CHEST EXP", ConvolutionKernel="E"))
        assert (chosen(tmp_path, breath="insp"), chosen(tmp_path, breath="exp")) == ("I", "E")
        assert check_ct(tmp_path, breath="insp")["warnings"] == [
            "1 other CT series (not said to be of inspiration): left out [other_series]"
        ]
        refused(tmp_path, "several_series", "inspiration.*expiration|expiration.*inspiration")

    def test_a_series_that_says_nothing_comes_before_one_that_says_the_other(self, tmp_path):
        write_series(tmp_path / "i", change=setting(SeriesDescription="CHEST", ConvolutionKernel="I"))
        write_series(tmp_path / "e", series="1.2.3.5", change=setting(SeriesDescription="CHEST EXP", ConvolutionKernel="E"))
        assert chosen(tmp_path, breath="insp") == "I"

    def test_one_that_says_the_other_is_read_with_a_doubt(self, tmp_path):
        folder = write_series(tmp_path, change=setting(SeriesDescription="SECRET EXP"))
        (warning,) = read_ct(folder, breath="insp").warnings
        assert warning == "its description says expiration, but it is used as the scan of inspiration [breath_words]"
        assert read_ct(folder, breath="exp").warnings == ()


@pytest.mark.parametrize(
    ("softer", "sharper"),
    [
        ("B20f", "B31f"), ("B31f", "B70f"), ("Br40d", "Bl57"), ("I30f 3", "I70f 3"), ("STANDARD", "LUNG"), ("SOFT", "STANDARD"),
        ("LUNG", "BONE"), ("B", "L"), ("B", "YC"), ("FC07", "FC51"), ("FC12", "FC30"),
    ],
)  # fmt: skip
def test_kernels_have_an_order_within_their_maker(softer, sharper):
    (maker, soft), (same, sharp) = sharpness(softer), sharpness(sharper)
    assert maker == same
    assert soft < sharp


def test_kernels_that_are_not_known_have_no_order():
    assert [sharpness(name) for name in ("", "X", "B", "LUNG+", "FC99")] == [None, None, ("philips", 40), None, None]
