# SPDX-License-Identifier: GPL-3.0-or-later
"""The libcs of scripts/matrix: victims built for each, run by its own ld.so or statically."""

import fcntl
import os
import pathlib
import shutil
import subprocess

import pytest

from helpers import M32, VICTIMS

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = VICTIMS.parents[1]
FOLDER = pathlib.Path(os.environ.get("ARENASCOPE_MATRIX", BUILD / "matrix"))
TRIPLET = {"amd64": "x86_64-linux-gnu", "i386": "i386-linux-gnu", "arm64": "aarch64-linux-gnu"}
# what scripts/old-glibc built: releases that no suite has any more
OLD = pathlib.Path(os.environ.get("ARENASCOPE_OLD", "/nonexistent"))
SUITES = ("bullseye", "bookworm", "trixie", "sid", "experimental", *sorted(p.name.removesuffix("-amd64") for p in OLD.glob("*-amd64")))


class Libc:
    def __init__(self, suite, arch, version, folder):
        self.suite, self.arch, self.package_version = suite, arch, version
        self.folder = pathlib.Path(folder)
        self.version = version.split("-")[0]
        self.minor = int(self.version.split(".")[1])
        self.path = next(self.folder.glob(f"**/{TRIPLET[arch]}/libc.so.6"))
        self.lib = self.path.parent
        self.ld = next(p for p in self.lib.glob("ld-linux*.so.*"))
        self.dev = self.folder / "usr/lib" / TRIPLET[arch]
        self.gcc = {"amd64": ["gcc", "-m64"], "i386": ["gcc", *M32], "arm64": ["aarch64-linux-gnu-gcc"]}[arch]

    def __repr__(self):
        return f"{self.version}-{self.arch}"

    def build(self, source, static=False):
        """The victim, linked against this libc: with its start files, not the compiler's own."""
        out = BUILD / "matrix-victims" / f"{source}-{self.suite}-{self.arch}{'-static' if static else ''}"
        file = TOP / "tests/victims" / f"{source}.c"
        if out.exists() and out.stat().st_mtime > max(f.stat().st_mtime for f in (file, pathlib.Path(__file__))):
            return out
        out.parent.mkdir(exist_ok=True)
        gcc = pathlib.Path(subprocess.check_output([*self.gcc, "-print-libgcc-file-name"], text=True).strip()).parent
        argv = [*self.gcc, "-O1", "-g", "-fno-builtin-malloc", "-D_GNU_SOURCE", "-nostartfiles", "-nodefaultlibs", "-o", out,
                self.dev / "crt1.o", self.dev / "crti.o"]
        if static:
            argv += ["-static", gcc / "crtbeginT.o", file, "-Wl,--whole-archive", self.dev / "libpthread.a",
                     "-Wl,--no-whole-archive", "-Wl,--start-group", self.dev / "libc.a", "-lgcc", "-lgcc_eh", "-Wl,--end-group"]
            # GNU ld of 2023 makes static i386 programs of 2.43 jump into their data (TLS descriptors); others do not
            other = next((ld for ld in ("gold", "lld") if shutil.which(f"ld.{ld}")), None)
            if self.arch == "i386" and other:
                argv += [f"-fuse-ld={other}"]
            if self.minor < 35:  # the compiler's unwinder asks for a function of 2.35; nobody throws
                argv += ["-Wl,--defsym,_dl_find_object=0"]
        else:
            pthread = [p for p in [self.lib / "libpthread.so.0"] if p.exists()]
            # outline atomics would ask for symbols of a newer libc
            cpu = ["-mno-outline-atomics"] if self.arch == "arm64" else []
            argv += ["-no-pie", *cpu, gcc / "crtbegin.o", file, self.path, *pthread, self.ld, self.dev / "libc_nonshared.a", "-lgcc",
                     "-Wl,--allow-shlib-undefined"]
        argv += [gcc / "crtend.o", self.dev / "crtn.o"]
        done = subprocess.run([str(a) for a in argv], stderr=subprocess.PIPE, text=True)
        assert not done.returncode, done.stderr
        return out

    def wrapper(self, static=False):
        return [] if static else [self.ld, "--library-path", self.lib]

    def can_build(self):
        return (self.dev / "crt1.o").exists() and shutil.which(self.gcc[0])

    def runs_here(self):
        """Can this kernel execute it?"""
        try:
            return subprocess.run([str(self.ld), "--version"], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL).returncode in (0, 127)
        except OSError:
            return False


def libcs(*arches):
    """Every libc that is there; downloads them once, skips when that cannot be."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / ".lock", "w") as lock:  # several test files run at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _libcs(arches)


def _libcs(arches):
    listed = _list()
    if not all((libc.dev / "crt1.o").exists() for libc in listed if libc.arch in arches) or not listed:
        if os.environ.get("ARENASCOPE_OFFLINE") and not listed:
            pytest.skip("no matrix of libcs, and ARENASCOPE_OFFLINE is set")
        done = subprocess.run([TOP / "scripts/matrix", FOLDER], stderr=subprocess.PIPE, text=True, timeout=1000)
        listed = _list()
        if not listed:
            pytest.skip((done.stderr.strip().splitlines() or ["skipped: registry unreachable"])[0])
    return [libc for libc in listed if libc.arch in arches]


def _list():
    out = subprocess.run([TOP / "scripts/matrix", "--list", FOLDER], stdout=subprocess.PIPE, text=True, check=True).stdout
    old = [f"{p.parent.name.removesuffix('-amd64')} amd64 {p.read_text().strip()} {p.parent}" for p in OLD.glob("*-amd64/.done")]
    return [Libc(*line.split()) for line in [*out.splitlines(), *old]]
