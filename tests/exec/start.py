#!/usr/bin/env python3
"""start.py N COMMAND...: runs COMMAND in N processes that find each other by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun
does. Exit status: the first that is not 0; the others are ended then."""

import os
import socket
import subprocess
import sys
import time

count, command = int(sys.argv[1]), sys.argv[2:]
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
processes = [
    subprocess.Popen(command, env=os.environ | {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    for rank in range(count)
]
while True:
    statuses = [process.poll() for process in processes]
    failed = [status for status in statuses if status]
    if failed or None not in statuses:
        break
    time.sleep(0.02)
for process in processes:
    if process.poll() is None:
        process.terminate()
    process.wait()
sys.exit(0 if not failed else failed[0] if failed[0] > 0 else 128 - failed[0])
