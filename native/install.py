"""Build the Rust core and install it beside the Python that runs this: `make demo` calls it.

Without Rust, or with one that is too old, nothing is built and a line says so: every path that
the core makes faster has a twin in Python.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent


def lacking() -> str | None:
    """Return what keeps the core from being built here, or None."""
    needed = tomllib.loads((HERE / "Cargo.toml").read_text())["workspace"]["package"][
        "rust-version"
    ]
    cargo = shutil.which("cargo")
    if cargo is None:
        return f"Rust is not installed (it takes {needed} or newer, from https://rustup.rs)"
    said = subprocess.run([cargo, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603 - the user's own cargo
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None:
        return f"{cargo} does not say its version"
    if tuple(map(int, found.groups())) < tuple(map(int, needed.split("."))):
        return f"Rust {found[0]} is older than {needed}; rustup update brings a newer one"
    return None


def main() -> int:
    """Build and install, or say why not; the stamp named on the command line marks a build.

    What cannot be built is no error: nothing depends on the core.
    """
    why = lacking()
    if why is not None:
        print(f"The Rust core is not built: {why}. The paths in Python serve.")
        return 0
    print("Building the Rust core: about a minute, once.", flush=True)
    maturin = Path(sys.executable).with_name("maturin")
    done = subprocess.run(  # noqa: S603 - the maturin of this environment
        [maturin, "develop", "--release", "--locked", "--quiet", "--uv"],
        cwd=HERE / "python",
        check=False,
        stdout=subprocess.PIPE,  # what it says matters when it fails
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(done.stdout)
        print(
            f"The Rust core could not be built: maturin, above, ended with {done.returncode}. The"
            " paths in Python serve; NOOB_CLOUD_NATIVE=1 makes its absence an error."
        )
        return 0
    for stamp in sys.argv[1:]:
        Path(stamp).touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
