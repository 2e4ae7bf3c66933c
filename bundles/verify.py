"""``python -m bundles.verify``: is a packed bundle whole, and does it work without Locus?"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for

from bundles.bare_interpreter import bare_environment, bare_interpreter
from bundles.unpack_package import unpack_package

CHECKS = Path(__file__).with_name("package_checks.py")


class CheckResult(NamedTuple):
    """One check of a package: its name, whether it was passed, and one sentence on it."""

    check: str
    passed: bool
    said: str


def verify_package(package: Path, *, schema: Path | None = None) -> Iterator[CheckResult]:
    """Unzip a packed bundle into a folder of its own and check it there, one result at a time.

    What is imported of Locus is the package's: the checks run in an interpreter that knows the
    installed libraries alone, with the working folder elsewhere. They run the package's code.

    Args:
        package: the zip that ``python -m bundles.pack`` wrote, of someone who can be trusted.
        schema: the model zoo's rules for metadata.json; None fetches those that it names.

    Raises:
        OSError, ValueError: a package that cannot be unzipped, or a schema that is none.
    """
    if schema is not None:
        _check_schema(schema)
    with TemporaryDirectory(prefix="verify-") as made:
        folder = Path(made).resolve()
        root = unpack_package(package, folder / "package")
        yield CheckResult("files", True, "every file is the one that manifest.sha256 names")
        rules = folder / "schema.json"
        if schema is not None:
            shutil.copyfile(schema, rules)
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        python = bare_interpreter(folder / "python")
        yield from _run_checks(python, [root, elsewhere, rules], elsewhere)


def _run_checks(
    python: Path, arguments: Sequence[Path], working_folder: Path
) -> Iterator[CheckResult]:
    log = working_folder / "checks.log"
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{working_folder}/mlflow.db"}
    # -P: the folder of the script, which has Locus around it, is not searched for modules.
    command = [str(python), "-P", str(CHECKS), *map(str, arguments)]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=working_folder,
            env={**bare_environment(), **store},
            text=True,
            encoding="utf-8",
        )
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                yield CheckResult(**json.loads(line))
    if process.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        said = f"the checks must run to their end, got code {process.returncode} ({' '.join(last)})"
        yield CheckResult("end", False, said)


def _check_schema(path: Path) -> None:
    """An empty or a foreign schema would find anything right."""
    try:
        schema: Any = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(schema, dict) and "network_data_format" in schema.get("required", ())):
            raise ValueError("it does not ask for network_data_format")
        validator_for(schema).check_schema(schema)
    except (ValueError, SchemaError) as error:
        reason = error.message if isinstance(error, SchemaError) else error
        raise ValueError(
            f"--schema must be the model zoo's, a JSON schema, got {path} ({reason})"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 where every check is passed; else 1, with a sentence on each that is not."""
    parser = argparse.ArgumentParser(prog="python -m bundles.verify", description=__doc__)
    parser.add_argument("package", type=Path, help="zip that python -m bundles.pack wrote")
    schema = "rules for metadata.json, such as meta_schema_20240725.json; else they are fetched"
    parser.add_argument("--schema", type=Path, help=schema)
    options = parser.parse_args(arguments)
    failed = 0
    try:
        for result in verify_package(options.package, schema=options.schema):
            failed += not result.passed
            word = "ok" if result.passed else "FAILED"
            print(f"{word:<7}{result.check:<21}{result.said}", flush=True)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if failed:
        print(
            f"error: {options.package} must pass every check, got {failed} failed", file=sys.stderr
        )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
