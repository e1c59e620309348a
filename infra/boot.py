"""Start a container from a bare Python image: fetch archives from S3, check them, run a module.

This text is the container's command (`python -c TEXT MODULE ARGS`), so it is short and needs
nothing but the standard library. NOOB_CLOUD_ARCHIVES names what to fetch, separated by spaces:
`s3://BUCKET/KEY#SHA256`. An archive with other bytes than those is not run.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen
from zipfile import ZipFile

CHUNK = 1 << 20
TRIES = 6
REFUSED = (400, 403, 404)


def credentials() -> dict[str, str]:
    """Return the task's credentials: of its role, or the environment's."""
    env = os.environ
    if "AWS_ACCESS_KEY_ID" in env:
        return {
            "AccessKeyId": env["AWS_ACCESS_KEY_ID"],
            "SecretAccessKey": env["AWS_SECRET_ACCESS_KEY"],
            "Token": env.get("AWS_SESSION_TOKEN", ""),
        }
    url = env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") or (
        "http://169.254.170.2" + env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]
    )
    with urlopen(url, timeout=10) as answer:  # noqa: S310 - the address that ECS gives
        found: dict[str, str] = json.load(answer)
    return found


def request(bucket: str, key: str) -> Request:
    """Return a signed GET (https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html)."""
    env, keys = os.environ, credentials()
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    given = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    base = (given or f"https://s3.{region}.{suffix}").rstrip("/")
    path = f"/{bucket}/{quote(key)}"
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    headers = {
        "host": urlsplit(base).netloc,
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
        "x-amz-date": now,
    }
    if keys.get("Token"):
        headers["x-amz-security-token"] = keys["Token"]
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    asked = f"GET\n{path}\n\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
    sign = ("AWS4" + keys["SecretAccessKey"]).encode()
    for part in (*scope.split("/"), text):
        sign = hmac.new(sign, part.encode(), hashlib.sha256).digest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys['AccessKeyId']}/{scope},"
        f" SignedHeaders={names}, Signature={sign.hex()}"
    )
    return Request(base + path, headers=headers)  # noqa: S310 - https, or the emulated cloud


def fetch(url: str, into: Path) -> None:
    """Unpack the archive at `s3://BUCKET/KEY#SHA256` into a folder, if it has that hash."""
    parts = urlsplit(url)
    with tempfile.TemporaryFile() as file:
        found = hashlib.sha256()
        with urlopen(request(parts.netloc, parts.path[1:]), timeout=60) as answer:  # noqa: S310 - as above
            while piece := answer.read(CHUNK):
                found.update(piece)
                file.write(piece)
        if found.hexdigest() != parts.fragment:
            sys.exit(f"{url} has the SHA-256 {found.hexdigest()}: it is not what was deployed.")
        with ZipFile(file) as archive:
            for entry in archive.infolist():
                path = archive.extract(entry, into)
                if entry.external_attr >> 16 & 0o111 and not entry.is_dir():
                    os.chmod(path, 0o755)  # noqa: PTH101, S103 - programs in the layers


def fetch_patiently(url: str, into: Path) -> None:
    """Fetch, and again after a while where S3 or the network did not answer."""
    for attempt in range(1, TRIES + 1):
        try:
            return fetch(url, into)
        except OSError as error:
            refused = isinstance(error, HTTPError) and error.code in REFUSED
            if refused or attempt == TRIES:
                sys.exit(f"{url} cannot be fetched: {error}")
            time.sleep(2.0**attempt / 4)
    return None


def main() -> None:
    """Fetch what NOOB_CLOUD_ARCHIVES names and become `python -m MODULE ARGS`."""
    env = os.environ
    home = Path(env.get("NOOB_CLOUD_HOME") or tempfile.mkdtemp(prefix="noob-cloud-"))
    for url in env["NOOB_CLOUD_ARCHIVES"].split():
        fetch_patiently(url, home)
    layers = home / "python"
    places = [str(home), str(layers), env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    env["PATH"] = os.pathsep.join((str(layers / "bin"), env.get("PATH", os.defpath)))
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])  # noqa: S606 - what was deployed


if __name__ == "__main__":
    main()
