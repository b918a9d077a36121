"""Removal of debugging symbols from shared libraries, a step of the image's build.

Some wheels have them: of uvloop they are nine tenths. `strip` would do the same, but the base image does not have it.
The format of the files:
https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html
"""

import struct
import sys
from pathlib import Path

MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian: x86-64 and arm64
SEGMENTS = struct.Struct("<Q")  # offset of the segments' table; its entry size and number are at 54
SEGMENT = struct.Struct("<II4Q")  # type, flags, offset, two addresses, size in the file


def strip(library: bytes) -> bytes:
    """A library without what lies behind its last segment: symbols for debuggers, and the table of sections.

    The loader reads segments only.

    Args:
        library: Content of a file; anything but a 64-bit, little-endian ELF file is returned as it is.
    """
    if not library.startswith(MAGIC):
        return library
    (table,) = SEGMENTS.unpack_from(library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    end = table + size * count
    for number in range(count):
        _, _, offset, _, _, length = SEGMENT.unpack_from(library, table + number * size)
        end = max(end, offset + length)
    # No table of sections: its offset is at 40, its entry size, number and names at 58.
    return library[:40] + bytes(8) + library[48:58] + bytes(6) + library[64:end]


def main(folder: Path) -> None:
    """Strips the shared libraries of a folder and its sub-folders."""
    for path in folder.rglob("*.so*"):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(strip(path.read_bytes()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
