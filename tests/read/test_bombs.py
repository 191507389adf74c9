"""No small file takes much memory or time: sizes are known before memory is asked for."""

import gzip
import io
import json
import math
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import bombs
import numpy as np
import pytest

from copdvae.errors import ReadError
from copdvae.read import read_labels
from copdvae.read.unpack import unpack
from copdvae.read.volume import Volume
from copdvae.read.voxels import Stored, check_sizes

MOST_BYTES = 512 << 20


@pytest.fixture(scope="module")
def taken(tmp_path_factory) -> tuple[dict[str, str], dict[str, tuple[str, int, float]]]:
    """What each bomb should be refused for; and what was found: reason, bytes above the imports, seconds. With 4 GiB of address space."""
    folder = tmp_path_factory.mktemp("bombs")
    expected = bombs.make(folder)
    command = [sys.executable, str(Path(bombs.__file__)), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    found = {name: (reason, size, seconds) for name, reason, size, seconds in map(json.loads, done.stdout.splitlines())}
    assert (done.returncode, set(found)) == (0, set(expected)), done.stderr[-2000:]
    return expected, found


def test_every_bomb_is_refused_for_its_own_reason(taken):
    expected, found = taken
    assert {name: reason for name, (reason, _, _) in found.items()} == expected


def test_no_bomb_takes_more_than_512_mib_or_long(taken):
    _, found = taken
    for name, (_, size, seconds) in sorted(found.items(), key=lambda entry: -entry[1][1]):
        print(f"{name:<20} {size / 2**20:6.0f} MiB {seconds:6.2f} s")
    assert max(size for _, size, _ in found.values()) < MOST_BYTES
    assert max(seconds for _, _, seconds in found.values()) < 60  # 5 on an idle machine; the printed times tell


def test_a_ct_that_hardly_shrinks_may_be_as_large_as_it_likes(tmp_path):
    """Sizes alone: 2^27 voxels in a file that is a hundredth of them, and in one that is a three hundredth."""
    path = tmp_path / "scan.nii.gz"
    stored = Stored(path, 0, 352, "gzip", (512, 512, 512), np.dtype("<i2"))
    path.write_bytes(bytes(2 * 2**27 // 100))
    check_sizes(path, stored)
    path.write_bytes(bytes(2 * 2**27 // 300))
    with pytest.raises(ReadError, match="no CT does"):
        check_sizes(path, stored)


def label_bomb(folder: Path) -> Path:
    """A gigabyte of labels in a megabyte."""
    path = folder / "mask.nii.gz"
    member = gzip.compress(bytes(bombs.BLOCK), 9)
    path.write_bytes(gzip.compress(bombs.nifti_header(dtype=np.uint8) + bytes(4)) + member * (bombs.SIDE**3 // bombs.BLOCK))
    return path


def test_a_mask_is_compared_with_its_ct_before_a_voxel_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("copdvae.read.voxels.slices", None)
    ct = Volume(np.zeros((5, 5, 5), np.float32), (1, 1, 1), np.eye(4))
    with pytest.raises(ReadError, match=r"1024 x 1024 x 1024 voxels .* 5 x 5 x 5") as caught:
        read_labels(label_bomb(tmp_path), ct)
    assert caught.value.reason == "mask_grid"


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_an_archive_that_swells_is_unpacked_no_further_than_its_size_allows(tmp_path, suffix):
    zeros, count, path = bytes(1 << 22), 8, tmp_path / f"set.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for k in range(count):
                archive.writestr(f"set/{k}", zeros)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for k in range(count):
                item = tarfile.TarInfo(f"set/{k}")
                item.size = len(zeros)
                archive.addfile(item, io.BytesIO(zeros))
    with pytest.raises(ReadError, match="unpacked") as caught:
        unpack(path, "set", tmp_path / "out")
    assert caught.value.reason == "decompression_bomb"
    assert not list((tmp_path / "out").iterdir())
    assert math.prod([count, len(zeros)]) > 200 * path.stat().st_size
