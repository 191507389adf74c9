"""Where the official files of the image sets are, and how to tell that they arrived whole. Addresses and checksums are
as documented in the places named; none was tried, as there was no network where this was written.

MNIST: digests of the unzipped files, as gzip files of the same contents differ (train images as published, all four computed from a
copy whose contents are the originals). Fashion-MNIST: computed from the official files, whose MD5 are those in its README. dSprites, 3D
Shapes, CelebA: size and SHA-256 in TensorFlow Datasets' lists. 3D cars: MD5 in the project disent. Yale, 3D chairs, Isaac3D: none known.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One file of a set."""

    url: str
    file: str  # its name here
    size: int | None = None  # bytes, where known
    checksum: str = ""  # "sha256:..." or "md5:...", "" where none is known
    of_contents: bool = False  # the checksum is of what the gzip file holds
    by_hand: bool = False  # the address asks questions that only a person can answer
    unpack: str = ""  # the folder of the archive to unpack, under its last name


MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist"
FASHION = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
DRIVE = "https://drive.google.com/uc?export=download&id="

SOURCES: dict[str, tuple[Source, ...]] = {
    "mnist": tuple(
        Source(f"{MNIST}/{name}-ubyte.gz", f"{name}-ubyte.gz", checksum=f"sha256:{digest}", of_contents=True)
        for name, digest in (
            ("train-images-idx3", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            ("train-labels-idx1", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
            ("t10k-images-idx3", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            ("t10k-labels-idx1", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        )
    ),
    "fashion_mnist": tuple(
        Source(f"{FASHION}/{name}-ubyte.gz", f"{name}-ubyte.gz", size, f"sha256:{digest}")
        for name, size, digest in (
            ("train-images-idx3", 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            ("train-labels-idx1", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            ("t10k-images-idx3", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            ("t10k-labels-idx1", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        )
    ),
    "yale": (Source("http://vision.ucsd.edu/extyaleb/CroppedYaleBZip/CroppedYale.zip", "CroppedYale.zip", unpack="CroppedYale"),),
    "chairs": (
        Source(
            "https://www.di.ens.fr/willow/research/seeing3Dchairs/data/rendered_chairs.tar", "rendered_chairs.tar", unpack="rendered_chairs"
        ),
    ),
    "cars": (
        Source(
            "http://www.scottreed.info/files/nips2015-analogy-data.tar.gz", "nips2015-analogy-data.tar.gz",
            checksum="md5:4e866a7919c1beedf53964e6f7a23686", unpack="data/cars",
        ),
    ),
    "dsprites": (
        Source(
            "https://github.com/google-deepmind/dsprites-dataset/raw/master/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5",
            "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5", 28024106,
            "sha256:729fa22e884c9c500e1f17415d580746b4c5894fbbb780a1319bbcfa39a745bb",
        ),
    ),
    "shapes3d": (
        Source(
            "https://storage.googleapis.com/3d-shapes/3dshapes.h5", "3dshapes.h5", 267573662,
            "sha256:0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785",
        ),
    ),
    "isaac3d": (Source(f"{DRIVE}1OmQ1G2wnm6eTsSFGTKFZZAh5D3nQTW1B", "Isaac3D_128x128.zip", by_hand=True),),
    "celeba": (
        Source(
            f"{DRIVE}0B7EVK8r0v71pblRyaVFSWGxPY0U", "list_attr_celeba.txt", 26721026,
            "sha256:f0e5da289d5ccf75ffe8811132694922b60f2af59256ed362afa03fefba324d0", by_hand=True,
        ),
        Source(
            f"{DRIVE}0B7EVK8r0v71pZjFTYXZWM3FlRnM", "img_align_celeba.zip", 1443490838,
            "sha256:46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74", by_hand=True, unpack="img_align_celeba",
        ),
    ),
}  # fmt: skip
