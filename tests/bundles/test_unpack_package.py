from __future__ import annotations

import hashlib
import re
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from bundles.unpack_package import unpack_package

FILES = {
    "configs/metadata.json": b"{}",
    "configs/train.json": b"{}",
    "configs/evaluate.json": b"{}",
    "configs/inference.json": b"{}",
    "models/model.pt": b"weights",
    "docs/README.md": b"text",
}
LARGE = b"large_files:\n- path: models/model.pt\n  url: ''\n  hash_type: sha256\n  hash_val: "


def _manifest(files: dict[str, bytes]) -> bytes:
    return b"".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()
        for name, content in files.items()
    )


def _package(
    folder: Path, files: dict[str, bytes], manifest: bytes | None = None, top: str = "bundle/"
) -> Path:
    path = folder / "bundle-1.0.0.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
        archive.writestr(
            f"{top}manifest.sha256", _manifest(files) if manifest is None else manifest
        )
    return path


def _refused(package: Path, folder: Path, sentence: str) -> None:
    """Nothing at all is written."""
    target = folder / "target"
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        unpack_package(package, target)
    assert str(caught.value).startswith((str(package), "a package")) and "\n" not in str(
        caught.value
    )
    assert sorted(folder.rglob("*")) == before


def test_a_package_is_unpacked_as_it_was_packed(tmp_path: Path) -> None:
    root = unpack_package(_package(tmp_path, FILES), tmp_path / "target")
    assert root == tmp_path / "target" / "bundle"
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
    assert found == {**FILES, "manifest.sha256": _manifest(FILES)}
    check = ["sha256sum", "--check", "--strict", "--quiet", "manifest.sha256"]
    assert subprocess.run(check, cwd=root).returncode == 0


@pytest.mark.parametrize(
    "name",
    [
        "../outside.txt",
        "bundle/../../outside.txt",
        "/outside.txt",
        "bundle//outside.txt",
        "bundle/./outside.txt",
        "C:/outside.txt",
        "bundle\\..\\..\\outside.txt",
        "bundle/outside.txt\0.py",
        "",
    ],
)
def test_a_member_that_would_leave_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    package = _package(tmp_path, FILES)
    member = zipfile.ZipInfo("placeholder")
    member.filename = member.orig_filename = name
    with zipfile.ZipFile(package, "a") as archive:
        archive.writestr(member, b"out")
    _refused(package, tmp_path, f"a member must be a plain path within the package, got {name!r}")


def test_a_link_is_refused(tmp_path: Path) -> None:
    package = _package(tmp_path, FILES)
    member = zipfile.ZipInfo("bundle/link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(package, "a") as archive:
        archive.writestr(member, "/etc")
    _refused(package, tmp_path, "a member must be a file or a folder, got bundle/link, a link")


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    package = _package(tmp_path, FILES)
    with zipfile.ZipFile(package, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("bundle/models/model.pt", b"others")
    _refused(package, tmp_path, "a member must be there once, got bundle/models/model.pt twice")


@pytest.mark.parametrize("name", ["configs/metadata.json", "configs/train.json"])
def test_a_package_without_a_needed_file_is_refused(tmp_path: Path, name: str) -> None:
    files = {key: value for key, value in FILES.items() if key != name}
    _refused(_package(tmp_path, files), tmp_path, f"a package must hold {name}")


def test_a_package_without_weights_is_refused(tmp_path: Path) -> None:
    files = {key: value for key, value in FILES.items() if key != "models/model.pt"}
    sentence = "a package must hold models/model.pt or large_files.yml, got neither"
    _refused(_package(tmp_path, files), tmp_path, sentence)


def test_several_top_folders_are_refused(tmp_path: Path) -> None:
    package = _package(tmp_path, FILES)
    with zipfile.ZipFile(package, "a") as archive:
        archive.writestr("other/README.md", b"text")
    _refused(package, tmp_path, "a package must have one top folder, got ['bundle', 'other']")


def test_an_empty_zip_and_files_without_a_folder_are_refused(tmp_path: Path) -> None:
    package = tmp_path / "empty.zip"
    zipfile.ZipFile(package, "w").close()
    _refused(package, tmp_path, "a package must have one top folder, got []")
    _refused(_package(tmp_path, FILES, top=""), tmp_path, "a package must have one top folder")


@pytest.mark.parametrize("damage", ["no zip", "cut off", "a byte changed"])
def test_a_damaged_zip_is_refused(tmp_path: Path, damage: str) -> None:
    package = _package(tmp_path, FILES)
    whole = package.read_bytes()
    broken = {
        "no zip": b"<html>not found</html>",
        "cut off": whole[: len(whole) // 2],
        "a byte changed": whole.replace(b"weights", b"weightz"),
    }
    package.write_bytes(broken[damage])
    with pytest.raises(ValueError, match="a package must be a whole zip, got") as caught:
        unpack_package(package, tmp_path / "target")
    assert str(package) in str(caught.value)


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"must be an existing zip, got .*none\.zip"):
        unpack_package(tmp_path / "none.zip", tmp_path)


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        (_manifest({**FILES, "docs/README.md": b"else"}), "docs/README.md must have the SHA-256"),
        (_manifest({**FILES, "more.txt": b""}), "got more.txt named without a file in it"),
        (_manifest(FILES).replace(b"  docs/README.md", b"  docs/other.md"), "got docs/README.md"),
        (b"", "got configs/evaluate.json missing from it"),
        (b"1234  docs/README.md\n", "must be a SHA-256, two blanks and a path, got '1234  docs"),
    ],
)
def test_files_that_are_not_those_of_the_manifest_are_refused(
    tmp_path: Path, manifest: bytes, sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        unpack_package(_package(tmp_path, FILES, manifest), tmp_path / "target")


def test_large_weights_are_taken_from_beside_the_package(tmp_path: Path) -> None:
    files = {name: content for name, content in FILES.items() if name != "models/model.pt"}
    digest = hashlib.sha256(b"weights").hexdigest().encode()
    files["large_files.yml"] = LARGE + digest
    # The manifest is that of the whole bundle, as `python -m bundles.pack` writes it.
    manifest = _manifest({**files, "models/model.pt": b"weights"})
    package = _package(tmp_path, files, manifest)
    with pytest.raises(FileNotFoundError, match=r"must lie beside it, got no .*1\.0\.0-model\.pt"):
        unpack_package(package, tmp_path / "without")
    beside = tmp_path / "bundle-1.0.0-model.pt"
    beside.write_bytes(b"others")
    with pytest.raises(ValueError, match=r"model\.pt must have the SHA-256 of large_files\.yml"):
        unpack_package(package, tmp_path / "others")
    beside.write_bytes(b"weights")
    root = unpack_package(package, tmp_path / "target")
    assert (root / "models" / "model.pt").read_bytes() == b"weights"


def test_large_files_that_do_not_name_the_weights_are_refused(tmp_path: Path) -> None:
    files = {name: content for name, content in FILES.items() if name != "models/model.pt"}
    package = _package(tmp_path, {**files, "large_files.yml": b"large_files: []\n"})
    with pytest.raises(ValueError, match=r"large_files\.yml must name models/model\.pt"):
        unpack_package(package, tmp_path / "target")
