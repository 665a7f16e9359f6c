"""The compiled parts of the package; all the rest is in pyproject.toml."""

import os
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError


class BuildExt(build_ext):
    """build_ext that says in plain words what is missing."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except (CCompilerError, ExecError, PlatformError) as error:
            raise SystemExit(
                f"\n{error}\n\n"
                "trale_py has parts in C, and they could not be compiled. It needs a C compiler\n"
                "and Python's header files; on Debian and Ubuntu: apt install gcc python3-dev\n"
            ) from None


# As in trale_py/_linux/build.py: "make" has warnings be errors, an installation has not.
STRICT = ["-Werror"] if os.environ.get("TRALE_WERROR") else []

setup(
    ext_modules=[
        Extension(
            "trale_py._native",
            sources=sorted(map(str, Path("native").glob("*.c"))),
            depends=sorted(map(str, Path("native").glob("*.h"))),
            define_macros=[("_GNU_SOURCE", None)],
            extra_compile_args=["-std=c11", "-Wall", "-Wextra", "-fvisibility=hidden", *STRICT],
            py_limited_api=True,
        )
    ],
    cffi_modules=["trale_py/_linux/build.py:ffi"],
    cmdclass={"build_ext": BuildExt},
    # One wheel serves every Python from 3.11 on: all that is compiled keeps to the stable ABI.
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
