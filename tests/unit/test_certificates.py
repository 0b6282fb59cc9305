"""A company's own authority: believed where the system's store has it, else told with a remedy."""

from __future__ import annotations

import datetime
import hashlib
import http.server
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

CONTENT = b"a jar"
FETCH = """\
import sys
from lake.certificates import use_system_certificates
from lake.errors import StackError
from stack.downloads import fetch
from stack.jars import Jar
from stack.progress import Silent
from pathlib import Path
use_system_certificates()
try:
    fetch([Jar("a", "b", "1", None, sys.argv[1], 5)], Path(sys.argv[2]), Silent())
    print("fetched")
except StackError as error:
    print(error.what, error.remedy)
"""
ASK = """\
import sys, requests
from lake.certificates import use_system_certificates
if sys.argv[2] == "system":
    use_system_certificates()
try:
    print(requests.get(sys.argv[1], timeout=10).text)
except requests.exceptions.SSLError:
    print("refused")
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a server whose certificate an authority of its own signed, and that one."""
    folder = tmp_path_factory.mktemp("authority")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Company")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "company.crt"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = folder / "key.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}", pem
    server.shutdown()
    server.server_close()


def run(code: str, *words: str, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.endswith(("_CA_BUNDLE", "_CERT_FILE"))}
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=180,
        env={**clean, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_systems_store_is_believed_and_not_only_a_list_of_its_own(
    authority: tuple[str, Path],
) -> None:
    address, pem = authority
    store = {"SSL_CERT_FILE": str(pem)}
    assert run(ASK, f"https://{address}/", "own", **store) == "refused"
    assert run(ASK, f"https://{address}/", "system", **store) == CONTENT.decode()
    assert run(ASK, f"https://{address}/", "system") == "refused"


def test_a_download_behind_a_companys_proxy_names_the_remedy_which_works(
    authority: tuple[str, Path], tmp_path: Path
) -> None:
    address, pem = authority
    digest = hashlib.sha256(CONTENT).hexdigest()
    mirror = {"DUCKLAKE_MAVEN_URL": f"https://me:hunter2@{address}/maven"}
    said = run(FETCH, digest, str(tmp_path / "jars"), **mirror)
    assert "is not trusted" in said and "update-ca-certificates" in said
    assert "hunter2" not in said
    [(variable, example)] = re.findall(r"(SSL_CERT_FILE)=(\S+\.crt)", said)
    assert Path(example).name == pem.name
    assert run(FETCH, digest, str(tmp_path / "jars"), **mirror, **{variable: str(pem)}) == "fetched"
