"""Which files a reader may open: regular ones, inside the folder that was named."""

import os
from pathlib import Path


def regular_files(folder: Path) -> list[Path]:
    """Every regular file under `folder`, sorted by path; no device or pipe, and no link that leads out of the folder."""
    inside = folder.resolve()
    files = []
    for root, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in names:
            path = Path(root) / name
            if path.is_file() and (not path.is_symlink() or path.resolve().is_relative_to(inside)):
                files.append(path)
    return sorted(files)
