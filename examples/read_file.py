"""Print a file, its lines numbered. After trale's example of that name.

Run:  python examples/read_file.py README.md
See:  the lines of the file, or of this one if none is named
"""

import sys

from trale_py import block_on, fs


async def main(path: str) -> None:
    number = 0
    async with fs.File.open(path) as file:
        async for line in file:
            number += 1
            print(f"{number:4} {line.decode()}")


block_on(main(sys.argv[1] if len(sys.argv) > 1 else __file__))
