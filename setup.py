"""Build of the C engine: one static library per instruction set, one extension module.  Metadata: pyproject.toml."""

import os
import platform
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext


def asked(name):
    return os.environ.get(f"NTKFAST_{name}", "0") != "0"


# Builds for tests/sanitize.sh, in a copy of the tree.
BOUNDSCHECK = asked("BOUNDSCHECK")  # every index of _core.pyx is checked
SANITIZERS = "-fsanitize=address,undefined,float-cast-overflow"
SANITIZE = [SANITIZERS, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-Wno-maybe-uninitialized", "-g", "-O1"]
SANITIZE = SANITIZE if asked("SANITIZE") else []

# One binary runs everywhere, and NaN propagates: nothing of the build machine's own, no fast-math.
FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-fno-wrapv"]  # Python's own -fwrapv slows the loops by 5 %
MATHS = ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fno-signed-zeros"]
X86_64 = {
    "avx512": (["-march=x86-64-v4", "-mprefer-vector-width=512"], "NF_HAVE_AVX512"),
    "avx2": (["-mavx2", "-mfma", "-mtune=haswell"], "NF_HAVE_AVX2"),
}
NO_COMPILER = """
ntkfast: no C compiler that works was found (tried: {tried}).
    Debian, Ubuntu: apt install gcc        Fedora: dnf install gcc        macOS: xcode-select --install
    Another one: CC=/path/to/clang pip install ...
"""
NO_OPENMP = """
ntkfast: the C compiler has no OpenMP, so that kernels will be computed by one thread.
    Debian, Ubuntu, clang: apt install libomp-dev        macOS: brew install libomp (elsewhere: LIBOMP_PREFIX=/path)
    NTKFAST_OPENMP=0 if this is what you want
"""
NO_WINDOWS = """
ntkfast: it cannot be built on Windows yet: the engine uses aligned_alloc and clock_gettime, which Microsoft's runtime
    lacks, and vectors of gcc and clang (docs/install.md has the whole list). Use the Windows Subsystem for Linux.
"""


def openmp():
    """(compile flags, link flags) to try: gcc, clang on Linux; Apple's clang with the libomp of Homebrew."""
    yield ["-fopenmp"], ["-fopenmp"]
    yield ["-Xpreprocessor", "-fopenmp"], ["-lomp"]
    named = [os.environ["LIBOMP_PREFIX"]] if "LIBOMP_PREFIX" in os.environ else []
    for prefix in [*named, "/opt/homebrew/opt/libomp", "/usr/local/opt/libomp"]:
        yield ["-Xpreprocessor", "-fopenmp", f"-I{prefix}/include"], [f"-L{prefix}/lib", "-lomp"]


STRIP = [] if platform.system() == "Darwin" else ["-s"]  # many Pythons compile with -g: 4.6 MB become 1 MB
CORE = ["dispatch", "tiles", "points", "pair", "kinked", "dual", "norms", "products"]
CORE += ["limit", "gradient", "tangent", "finite_width", "array", "vectors", "normal", "queue"]  # maps and sinks


def library(name, sources, flags, macros=()):
    headers = sorted(map(str, Path("src_c").glob("*.h")))
    files = [f"src_c/{source}.c" for source in sources]
    build_info = {"sources": files, "cflags": flags, "macros": list(macros), "include_dirs": ["src_c"]}
    build_info["obj_deps"] = dict.fromkeys(files, headers)
    return name, build_info


class BuildLibraries(build_clib):
    """build_clib that first asks the compiler what it can do."""

    def build_libraries(self, libraries):
        if not self.works("int main(void) { return 0; }", [], []):
            sys.exit(NO_COMPILER.format(tried=getattr(self.compiler, "compiler", ["cc"])[0]))
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        common = FLAGS + self.accepted(MATHS) + SANITIZE
        strip = STRIP if self.works("int main(void) { return 0; }", [], STRIP) else []
        self.link_args = [SANITIZERS] if SANITIZE else strip  # reports name the lines
        if os.environ.get("NTKFAST_OPENMP", "1") != "0":
            source = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }"
            found = next((flags for flags in openmp() if self.works(source, *flags)), None)
            if found:
                common, self.link_args = common + found[0], self.link_args + found[1]
            else:
                print(NO_OPENMP, file=sys.stderr)
        base = next((f for f in (["-march=x86-64-v2"], ["-msse4.2", "-mpopcnt"]) if x86 and self.accepted(f)), [])
        levels = {isa: spec for isa, spec in X86_64.items() if x86 and self.accepted(spec[0])}
        macros = [(macro, None) for _, macro in levels.values()]
        super().build_libraries([library("ntkfast_core", CORE, common, macros)])
        super().build_libraries([library("ntkfast_base", ["isa_base"], common + base)])
        for isa, (flags, _) in levels.items():
            super().build_libraries([library(f"ntkfast_{isa}", [f"isa_{isa}"], common + flags)])
        self.built = ["ntkfast_core", "ntkfast_base", *(f"ntkfast_{isa}" for isa in levels)]

    def accepted(self, flags):
        return flags if self.works("int main(void) { return 0; }", flags, []) else []

    def works(self, source, compiling, linking):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "probe.c")
            file.write_text(source)
            try:
                objects = self.compiler.compile([str(file)], output_dir=folder, extra_postargs=["-Werror", *compiling])
                self.compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=linking)
            except Exception:  # distutils' own exceptions have moved between modules
                return False
        return True


class BuildExtension(build_ext):
    def run(self):
        self.run_command("build_clib")
        libraries = self.get_finalized_command("build_clib")
        for extension in self.extensions:
            extension.extra_objects = [f"{libraries.build_clib}/lib{name}.a" for name in libraries.built]
            extension.libraries = ["m"]
            extension.extra_link_args = libraries.link_args
        self.distribution.libraries = []  # linked above, users before used
        super().run()


if platform.system() == "Windows":
    sys.exit(NO_WINDOWS)
setup(
    libraries=[library("ntkfast", CORE, FLAGS)],  # what is built is decided in BuildLibraries
    ext_modules=cythonize(
        [
            Extension(
                "ntkfast.engine._core",
                ["ntkfast/engine/_core.pyx"],
                include_dirs=["src_c"],
                extra_compile_args=SANITIZE,
                depends=sorted(map(str, Path("src_c").glob("*.[ch]"))),  # relinks after a change in C alone
            )
        ],
        compiler_directives={"boundscheck": BOUNDSCHECK},
        force=BOUNDSCHECK,
    ),
    cmdclass={"build_clib": BuildLibraries, "build_ext": BuildExtension},
)
