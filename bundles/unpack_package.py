"""A packed bundle's zip to its folder, with nothing outside it and every file as it was packed."""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

import yaml

from bundles.package_zip import MANIFEST

NEEDED = (
    *(f"configs/{name}.json" for name in ("metadata", "train", "evaluate", "inference")),
    MANIFEST,
)
WEIGHTS = "models/model.pt"
# In place of weights that are too large for the model zoo's own files.
LARGE_FILES = "large_files.yml"
_MANIFEST_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def unpack_package(package: Path, folder: Path) -> Path:
    """Unzip ``package`` into ``folder``, check it, and return the bundle's folder in there.

    Nothing is written before all names in the zip are known to be safe. Weights that are too large
    for the zip are taken from beside it, where ``python -m bundles.pack`` puts them.

    Raises:
        FileNotFoundError: there is no such file, or none of the weights.
        ValueError: no zip, a damaged one, a member that is a link or would leave its folder, more
            than one top folder, a needed file missing, or a file other than the one packed.
    """
    if not package.is_file():
        raise FileNotFoundError(f"a package must be an existing zip, got {package}")
    try:
        with zipfile.ZipFile(package) as archive:
            root = folder / _top_folder(package, archive.infolist())
            archive.extractall(folder)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"a package must be a whole zip, got {package} ({error})") from error
    if not (root / WEIGHTS).is_file():
        _place_large_weights(root, package)
    check_manifest(root, package)
    return root


def check_manifest(root: Path, package: Path) -> None:
    """Every file of ``root`` is the one that its manifest names, and none is missing.

    Args:
        root: folder of the bundle.
        package: what a message names.

    Raises:
        ValueError: another file, none, or one too many.
    """
    sums = _read_manifest(root / MANIFEST, package)
    files = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and path != root / MANIFEST
    }
    for name in sorted(files ^ set(sums)):
        what = "missing from" if name in files else "named without a file in"
        raise ValueError(f"{package}: {MANIFEST} must name every file, got {name} {what} it")
    for name, expected in sums.items():
        found = _sha256(root / name)
        if found != expected:
            raise ValueError(
                f"{package}: {name} must have the SHA-256 of {MANIFEST}, {expected}, got {found}"
            )


def _top_folder(package: Path, members: list[zipfile.ZipInfo]) -> str:
    names: set[str] = set()
    for member in members:
        _check_member(package, member)
        if member.filename in names:
            raise ValueError(f"{package}: a member must be there once, got {member.filename} twice")
        names.add(member.filename)
    tops = sorted({PurePosixPath(name).parts[0] for name in names})
    if len(tops) != 1:
        raise ValueError(f"{package}: a package must have one top folder, got {tops}")
    for needed in NEEDED:
        if f"{tops[0]}/{needed}" not in names:
            raise ValueError(f"{package}: a package must hold {needed} in its top folder, got none")
    if names.isdisjoint({f"{tops[0]}/{WEIGHTS}", f"{tops[0]}/{LARGE_FILES}"}):
        raise ValueError(f"{package}: a package must hold {WEIGHTS} or {LARGE_FILES}, got neither")
    return tops[0]


def _check_member(package: Path, member: zipfile.ZipInfo) -> None:
    # As it stands in the file: zipfile itself cuts a name at its first zero byte.
    name = member.orig_filename
    steps = name.removesuffix("/").split("/")
    if not set(steps).isdisjoint({"", ".", ".."}) or re.search(r"[\\:\x00-\x1f]", name):
        raise ValueError(
            f"{package}: a member must be a plain path within the package, got {name!r}"
        )
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ValueError(f"{package}: a member must be a file or a folder, got {name}, a link")


def _read_manifest(path: Path, package: Path) -> dict[str, str]:
    sums: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        found = _MANIFEST_LINE.fullmatch(line)
        if found is None:
            raise ValueError(
                f"{package}: a line of {MANIFEST} must be a SHA-256, two blanks and a path, "
                f"got {line!r}"
            )
        sums[found[2]] = found[1]
    return sums


def _place_large_weights(root: Path, package: Path) -> None:
    listed = yaml.safe_load((root / LARGE_FILES).read_text(encoding="utf-8"))
    try:
        (expected,) = (
            entry["hash_val"] for entry in listed["large_files"] if entry["path"] == WEIGHTS
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{package}: {LARGE_FILES} must name {WEIGHTS} with its hash_val, got {listed}"
        ) from error
    beside = package.with_name(f"{package.stem}-model.pt")
    if not beside.is_file():
        raise FileNotFoundError(
            f"{package}: weights too large for the package must lie beside it, got no {beside}"
        )
    found = _sha256(beside)
    if found != expected:
        raise ValueError(
            f"{beside} must have the SHA-256 of {LARGE_FILES}, {expected}, got {found}"
        )
    (root / WEIGHTS).parent.mkdir(exist_ok=True)
    shutil.copyfile(beside, root / WEIGHTS)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
