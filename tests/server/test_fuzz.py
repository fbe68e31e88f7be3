"""Random requests, right and wrong, from the server's own description: nothing fails inside, nothing hangs.

BOTTEGA_FUZZ_SECONDS=300 for a long run by hand.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.server.conftest import Serve

SECONDS = int(os.environ.get("BOTTEGA_FUZZ_SECONDS", "20"))
CHECKS = ("not_a_server_error,negative_data_rejection,status_code_conformance,content_type_conformance,"
          "response_schema_conformance")


def test_random_requests(serve: Serve, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", "--mode", "all", "--checks", CHECKS,
               "--max-time", str(SECONDS), "--request-timeout", "30", "--phases", "examples,coverage,fuzzing",
               "--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off"]
    if not os.environ.get("CI"):
        command += ["--seed", str(int.from_bytes(os.urandom(4)))]
    with serve() as server:
        done = subprocess.run([*command, f"{server.url}/openapi.json"], text=True, capture_output=True, cwd=tmp_path,
                              timeout=SECONDS + 180, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert server.get("/healthz").status_code == 200
        assert server.figure("bottega_outputs_running") == 0
        assert server.figure("bottega_requests_total") > 5 * SECONDS
