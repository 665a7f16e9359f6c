"""Make a folder, by the pool of threads that serves files. After trale's example of that name.

Run:  python examples/mkdir.py folder
See:  whether it was made; a second run says that it is there
"""

import sys

from trale_py import block_on, fs


async def main(path: str) -> None:
    try:
        await fs.mkdir(path)
    except FileExistsError:
        print(f"{path} is there already")
    else:
        print(f"made {path}")


block_on(main(sys.argv[1] if len(sys.argv) > 1 else "folder"))
