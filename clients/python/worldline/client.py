"""Worlds that run code, keep all of their state, and branch: a client of `worldline serve`.

    from worldline import MorphSandbox

    world = await MorphSandbox.create()
    await world.execute_code("x = 41")
    snapshot_id = await world.snapshot("pre-event")
    verse = await MorphSandbox.create(snapshot_id=snapshot_id)
    print((await verse.execute_code("x + 1"))["output"])

The server is the one at WORLDLINE_URL, or MORPH_BASE_URL, or this machine's own; its token, where it asks
for one, is in WORLDLINE_TOKEN or MORPH_API_KEY. Only the standard library is used.
"""

import asyncio
import json
import os
import urllib.error
import urllib.request

__all__ = ["MorphSandbox", "WorldlineError"]

ADDRESS = "http://127.0.0.1:7777"


class WorldlineError(Exception):
    """What the server refuses: `status`, `error_code` for programs, `detail` for people."""

    def __init__(self, status, error_code, detail):
        super().__init__(detail)
        self.status, self.error_code, self.detail = status, error_code, detail


def _variable(*names):
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _call(method, path, body=None):
    base = _variable("WORLDLINE_URL", "MORPH_BASE_URL") or ADDRESS
    headers = {"Content-Type": "application/json"}
    token = _variable("WORLDLINE_TOKEN", "MORPH_API_KEY")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base.rstrip("/") + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode(errors="replace")
        try:
            told = json.loads(text)
        except ValueError:
            told = {}
        raise WorldlineError(error.code, told.get("error_code", "unknown"), told.get("detail", text)) from None


async def _off_thread(*call):
    return await asyncio.to_thread(_call, *call)


class MorphSandbox:
    """A world. `id` is its name; `metadata`, `trit` and the rest are in `record`, as they were at its start."""

    def __init__(self, record):
        self.record, self.id = record, record["id"]

    @classmethod
    async def create(cls, snapshot_id=None, metadata=None, seed=None, ttl_seconds=None, ttl_action="stop"):
        """A new world, from a snapshot if one is given."""
        body = {"snapshot_id": snapshot_id, "metadata": metadata, "seed": seed, "ttl_seconds": ttl_seconds}
        if ttl_seconds is not None:
            body["ttl_action"] = ttl_action
        return cls(await _off_thread("POST", "/v1/sandboxes", body))

    async def execute_code(self, code, timeout=None):
        """Runs Python; names stay from call to call. `status`, `output`, `value`, `error`, `images`, …"""
        return await _off_thread("POST", f"/v1/sandboxes/{self.id}/execute", {"code": code, "timeout": timeout})

    async def execute_command(self, command):
        """Runs a line of the shell, or a list of words: `exit_code`, `stdout`, `stderr`."""
        words = [command] if isinstance(command, str) else list(command)
        return await _off_thread("POST", f"/instance/{self.id}/exec", {"command": words})

    async def snapshot(self, name=None):
        """Keeps this moment under a name; gives the snapshot's id. The world goes on."""
        return (await _off_thread("POST", f"/v1/sandboxes/{self.id}/snapshots", {"name": name}))["snapshot_id"]

    async def branch(self, count, trits=None):
        """Worlds that go on from this moment, all of them or none."""
        told = await _off_thread("POST", f"/instance/{self.id}/branch?count={count}", {"trits": trits})
        return [MorphSandbox(record) for record in told["instances"]]

    async def stop(self):
        """Ends it. Its snapshots stay."""
        await _off_thread("DELETE", f"/instance/{self.id}")
