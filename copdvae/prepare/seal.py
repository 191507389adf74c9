"""A cached file says of itself what it holds: a digest of its arrays and of all else that its header says, kept in that header.

What safetensors checks is the file's length; a byte that changed on the disk shows here alone. Reading takes as long as the disk does, so
`copdvae doctor` asks, and training does not.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

KEY = "content"
HEADER_LIMIT = 1 << 24  # bytes; ours have some thousand
CHUNK = 1 << 20


def sealed(content: bytes) -> bytes:
    """The bytes of a safetensors file with their digest in its metadata."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    digest = start(header)
    digest.update(data)
    header["__metadata__"] = header.get("__metadata__", {}) | {KEY: digest.hexdigest()[:32]}
    text = json.dumps(header, ensure_ascii=False).encode()
    return len(text).to_bytes(8, "little") + text + data


def broken(file: Path) -> str:
    """What is wrong with a sealed file, "" for nothing."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(min(length, HEADER_LIMIT)))
            digest, expected = start(header), header["__metadata__"][KEY]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return "its header is damaged, or of a version that kept no digest"
        while part := stream.read(CHUNK):
            digest.update(part)
    return "" if digest.hexdigest()[:32] == expected else "its bytes are not those that ingest wrote"


def start(header: dict[str, Any]) -> Any:
    """The digest of a header, its own entry left out, in one order whatever the file's."""
    metadata = {key: value for key, value in header.get("__metadata__", {}).items() if key != KEY}
    return hashlib.sha256(json.dumps(header | {"__metadata__": metadata}, sort_keys=True, ensure_ascii=False).encode())
