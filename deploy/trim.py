"""Take out of a virtual environment what a running service never opens.

The image's build stage calls it: ``python3 trim.py /opt/gradtrace``. What goes are the parts for
people who build on PyTorch (headers, test programs, compilers, static libraries), what only
``torch.compile`` and the export to ONNX use, the package installer, other packages' tests, and the
symbols of PyTorch's libraries that only a debugger reads. Every op works without them, which the
image's tests show.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

UNUSED = (
    "torch/bin/[!t]*",
    "torch/bin/test_*",
    "torch/include",
    "torch/_inductor/codegen",
    "torch/_inductor/fx_passes",
    "torch/_inductor/kernel",
    "torch/onnx",
    "torch/share",
    "torch/test",
    "torch/testing/_internal/distributed",
    "torch/testing/_internal/generated",
    "torch/lib/libshm",
    "torch/lib/libshm_windows",
    "torch/lib/lib*_test.so",
    "torch/lib/libbackend_with_compiler.so",
    "torch/lib/libaoti_custom_ops.so",
    "torch/**/*.a",
    "torch/**/*.lib",
    "torch/**/*.pyi",
    "networkx",
    "*/tests",
    "*/test",
    "numpy/*/tests",
    "sympy/*/tests",
    "sympy/*/*/tests",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.c",
    "**/*.h",
    "pip",
    "pip-*.dist-info",
    "setuptools",
    "setuptools-*.dist-info",
    "pkg_resources",
    "_distutils_hack",
    "distutils-precedence.pth",
)


def unused(packages: Path) -> Iterator[Path]:
    """Yield what of ``packages``, a site-packages folder, is not needed to run."""
    for pattern in UNUSED:
        yield from packages.glob(pattern)


def trim(environment: Path) -> None:
    """Remove the unused files of the virtual environment at ``environment``."""
    (packages,) = environment.glob("lib/python*/site-packages")
    for path in list(unused(packages)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    libraries = map(str, packages.glob("torch/lib/*.so"))
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)


if __name__ == "__main__":
    trim(Path(sys.argv[1]))
