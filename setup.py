"""The compiled part of the package; all the rest is in pyproject.toml."""

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


setup(
    cffi_modules=["trale_py/_linux/build.py:ffi"],
    cmdclass={"build_ext": BuildExt},
    # One wheel serves every Python from 3.11 on: all that is compiled keeps to the stable ABI.
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
