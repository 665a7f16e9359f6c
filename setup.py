"""The compiled parts of the package; all the rest is in pyproject.toml."""

import os
import runpy
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

try:
    runpy.run_path("trale_py/base/supported.py")
except ImportError as error:
    raise SystemExit(f"\n{error}") from None

missing = runpy.run_path("native/needs.py")["missing"]
NATIVE = "trale_py._native"


class BuildExt(build_ext):
    """build_ext that says what is missing, and leaves nothing of the builder in a wheel."""

    def build_extensions(self) -> None:
        # Python's own library is not linked to, so the path where the builder has it is of no use.
        link = self.compiler.linker_so
        self.compiler.linker_so = [arg for arg in link if not arg.startswith("-Wl,-rpath")]
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        if ext.name == NATIVE:
            ext.sources = [self._all_in_one(ext.sources)]
        if not (self.debug or self.inplace):
            ext.extra_compile_args.append("-g0")
        try:
            super().build_extension(ext)
        except (CCompilerError, ExecError, PlatformError) as error:
            raise SystemExit(f"\n{error}\n{missing()}".rstrip()) from None

    def _all_in_one(self, sources: list[str]) -> str:
        """A file that includes them all, so that the compiler sees through every call among them.

        A poll passes through five files: compiled apart, it costs a twentieth more.
        """
        whole = Path(self.build_temp, "native.c")
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text("".join(f'#include "{Path(source).name}"\n' for source in sources))
        return str(whole)


# As in trale_py/_linux/build.py: "make check" has warnings be errors, an installation has not.
STRICT = ["-Werror"] if os.environ.get("TRALE_WERROR") else []

setup(
    ext_modules=[
        Extension(
            NATIVE,
            sources=sorted(map(str, Path("native").glob("*/*.c"))),
            depends=sorted(map(str, Path("native").glob("*/*.[ch]"))),
            include_dirs=["native/engine", "native/python"],
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
