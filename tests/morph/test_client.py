"""The unmodified `morphcloud` client, its command line, and stock DuckDB, against `worldline serve`.

WORLDLINE names the command to test. Run with the Python that has `requirements.txt`:
    python test_client.py -v
"""

import ast
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

WORLDLINE = os.environ["WORLDLINE"]
ROOT = Path(__file__).resolve().parents[2]
NBB = ROOT / "clients" / "babashka" / "node_modules" / ".bin" / "nbb"


class Server:
    """`worldline serve` over a folder of its own."""

    def __init__(self, folder):
        self.folder = Path(folder)
        command = [WORLDLINE, "serve", "--native", "--port", "0", "--site", "none"]
        command += ["--worlds", str(ROOT / "worlds"), "--data", str(self.folder / "data")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.said = []
        for line in self.process.stdout:
            self.said.append(line)
            if "SSH into worlds is at " in line:
                self.ssh_port = int(line.split("MORPH_SSH_PORT=")[1].strip(" )\n"))
            if "Worldline is at " in line:
                self.url = line.split("Worldline is at ")[1].strip().rstrip("/")
                return
        raise RuntimeError("the server did not start:\n" + "".join(self.said))

    def stop(self, kill=False):
        self.process.kill() if kill else self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()

    def call(self, method, path, body=None, headers=None):
        """Status and JSON of one request, without the client."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    def cell(self, world, code):
        return self.call("POST", f"/v1/sandboxes/{world}/execute", {"code": code})[1]

    def command(self, *arguments):
        """The command line, which speaks to the server."""
        environment = {**os.environ, "WORLDLINE_URL": self.url}
        return subprocess.run([WORLDLINE, *arguments], capture_output=True, text=True, env=environment, timeout=120)

    def sound(self, test):
        for checked in self.call("GET", "/v1/worlds/check")[1]:
            test.assertEqual(checked["broken"], [], checked)


class WithServer:
    @classmethod
    def setUpClass(cls):
        from morphcloud.api import MorphCloudClient

        cls.folder = tempfile.TemporaryDirectory()
        cls.server = Server(cls.folder.name)
        ssh = {"ssh_hostname": "127.0.0.1", "ssh_port": cls.server.ssh_port}
        cls.client = MorphCloudClient(api_key="any", base_url=cls.server.url, **ssh)
        cls.base = cls.client.snapshots.create(image_id="default", vcpus=1, memory=512, disk_size=512)

    @classmethod
    def tearDownClass(cls):
        cls.server.sound(unittest.TestCase())
        cls.server.stop()
        cls.folder.cleanup()

    def start(self, **options):
        instance = self.client.instances.start(self.base.id, **options)
        self.addCleanup(lambda: self.server.call("DELETE", f"/instance/{instance.id}"))
        return instance


class Client(WithServer, unittest.TestCase):
    def test_images(self):
        self.assertIn("default", [image.id for image in self.client.images.list()])

    def test_snapshots(self):
        first = self.client.snapshots.create(image_id="default", digest="once", metadata={"a": "1"}, ttl_seconds=1000)
        self.assertEqual(self.client.snapshots.create(image_id="default", digest="once").id, first.id)
        self.assertEqual([one.id for one in self.client.snapshots.list(digest="once")], [first.id])
        self.assertEqual([one.id for one in self.client.snapshots.list(metadata={"a": "1"})], [first.id])
        page = self.client.snapshots.list_paginated(page=1, limit=1)
        self.assertEqual((len(page.snapshots), page.has_prev), (1, False))
        first.set_metadata({"b": "2"})
        self.assertEqual(self.client.snapshots.get(first.id).metadata, {"b": "2"})
        before = first.ttl.ttl_expire_at
        first.set_ttl(2000)
        self.assertGreater(self.client.snapshots.get(first.id).ttl.ttl_expire_at, before)
        first.delete()
        self.assertEqual(self.client.snapshots.list(digest="once"), [])

    def test_a_start_is_ready_at_once(self):
        started = time.monotonic()
        instance = self.start(metadata={"who": "me"}, ttl_seconds=600, ttl_action="pause")
        self.assertLess(time.monotonic() - started, 0.9, "the client waits a second for what is not ready")
        self.assertEqual((instance.status.value, instance.metadata), ("ready", {"who": "me"}))
        found = self.client.instances.list(metadata={"who": "me"})
        self.assertEqual([one.id for one in found], [instance.id])
        self.assertEqual(self.client.instances.get(instance.id).ttl.ttl_action, "pause")

    def test_exec_takes_lines_and_words_and_keeps_the_streams_apart(self):
        instance = self.start()
        told = instance.exec("echo out; echo err >&2; exit 3")
        self.assertEqual((told.exit_code, told.stdout, told.stderr), (3, "out\n", "err\n"))
        told = instance.exec(["echo", "two words; not a line"])
        self.assertEqual((told.exit_code, told.stdout), (0, "two words; not a line\n"))

    def test_streamed_exec_comes_as_it_is_written_and_ends_with_its_code(self):
        instance, seen = self.start(), []
        note = lambda text: seen.append((text, time.monotonic()))
        told = instance.exec("echo a; sleep 0.5; echo ü; echo e >&2; exit 7", on_stdout=note, on_stderr=lambda text: None)
        self.assertEqual((told.exit_code, told.stdout, told.stderr), (7, "a\nü\n", "e\n"))
        self.assertGreater(seen[-1][1] - seen[0][1], 0.3, "it came all at once")

    def test_a_command_ends_when_its_client_hangs_up(self):
        instance = self.start()
        with self.assertRaises(Exception):
            instance.exec("sleep 300", timeout=1.0, on_stdout=print)
        for _ in range(100):
            if instance.exec("pgrep -x sleep").exit_code != 0:
                return
            time.sleep(0.1)
        self.fail("the command runs on, and nobody listens")

    def test_pause_resume_reboot_and_stop(self):
        instance = self.start()
        instance.pause()
        self.assertEqual(instance.status.value, "paused")
        with self.assertRaises(Exception) as refused:
            instance.exec("true")
        self.assertIn("paused", str(refused.exception))
        instance.resume()
        self.assertEqual(instance.exec("echo on | tee /srv/file").stdout, "on\n")
        self.server.cell(instance.id, "x = 1")
        instance.reboot(memory=600)
        self.assertEqual(instance.exec("cat /srv/file").stdout, "on\n")
        self.assertEqual(self.server.cell(instance.id, "'x' in globals()")["value"], "False")
        self.assertEqual(self.client.instances.get(instance.id).spec.memory, 600)
        instance.stop()
        self.assertNotIn(instance.id, [one.id for one in self.client.instances.list()])

    def test_metadata_ttl_and_wake_on(self):
        instance = self.start()
        instance.set_metadata({"k": "v"})
        instance.set_ttl(100, "stop")
        instance.set_wake_on(wake_on_http=True)
        now = self.client.instances.get(instance.id)
        self.assertEqual((now.metadata, now.ttl.ttl_seconds, now.ttl.ttl_action), ({"k": "v"}, 100, "stop"))
        self.assertEqual((now.wake_on.wake_on_http, now.wake_on.wake_on_ssh), (True, False))

    def test_snapshot_and_start_again(self):
        instance = self.start()
        instance.exec("echo kept > /tmp/file; export WORD=here")
        kept = instance.snapshot(digest="point", metadata={"name": "p"})
        instance.exec("echo changed > /tmp/file")
        again = self.client.instances.start(kept.id)
        self.addCleanup(again.stop)
        self.assertEqual(again.exec("cat /tmp/file; echo $WORD").stdout, "kept\nhere\n")
        self.assertEqual(instance.exec("cat /tmp/file").stdout, "changed\n")
        self.assertEqual(instance.snapshot(digest="point").id, kept.id)

    def test_branch(self):
        instance = self.start()
        self.server.cell(instance.id, "x = 41")
        snapshot, branches = instance.branch(3)
        for at, branch in enumerate(branches):
            self.addCleanup(branch.stop)
            self.assertEqual(branch.refs.snapshot_id, snapshot.id)
            self.assertEqual(self.server.cell(branch.id, f"x += {at}; x")["value"], str(41 + at))
        self.assertEqual(self.server.cell(instance.id, "x")["value"], "41")

    def test_a_service_of_a_world_is_reached_and_wakes_it(self):
        instance = self.start()
        instance.exec("cd /tmp && echo served > page && nohup python3 -m http.server 8000 >/dev/null 2>&1 &")
        instance.expose_http_service("web", 8000)
        url = next(one.url for one in instance.networking.http_services if one.name == "web")

        def fetch():
            for _ in range(100):
                try:
                    with urllib.request.urlopen(url + "/page", timeout=10) as answer:
                        return answer.read()
                except OSError:
                    time.sleep(0.1)

        self.assertEqual(fetch(), b"served\n")
        instance.set_wake_on(wake_on_http=True)
        instance.pause()
        self.assertEqual(fetch(), b"served\n")
        self.assertEqual(self.client.instances.get(instance.id).status.value, "ready")
        instance.hide_http_service("web")
        self.assertEqual(self.client.instances.get(instance.id).networking.http_services, [])

    def test_threads_and_children_are_refused_by_name(self):
        from morphcloud.api import ApiError

        instance = self.start()
        held = [
            ("import threading; go = threading.Event(); t = threading.Thread(target=go.wait); t.start()", "has_threads", "2 threads", "go.set(); t.join()"),
            ("import subprocess; p = subprocess.Popen(['sleep', '60'])", "has_processes", "sleep", "p.kill(); p.wait()"),
        ]
        for hold, code, word, release in held:
            self.server.cell(instance.id, hold)
            for keep in [instance.snapshot, lambda: instance.branch(2)]:
                with self.assertRaises(ApiError) as refused:
                    keep()
                self.assertEqual((refused.exception.status_code, refused.exception.error_code), (409, code))
                self.assertIn(word, refused.exception.detail)
            done = self.server.command("world", "snapshot", instance.id)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(word, done.stderr)
            self.server.cell(instance.id, release)
            instance.snapshot().delete()

    def test_a_service_asks_for_a_key_if_it_is_to(self):
        instance = self.start()
        instance.exec("cd /tmp && echo served > page && nohup python3 -m http.server 8000 >/dev/null 2>&1 &")
        instance.exec("until (exec 3<>/dev/tcp/127.0.0.1/8000) 2>/dev/null; do sleep 0.1; done")
        page = instance.expose_http_service("web", 8000, auth_mode="api_key") + "/page"
        with self.assertRaises(urllib.error.HTTPError) as refused, urllib.request.urlopen(page, timeout=10):
            pass
        with refused.exception as error:
            self.assertEqual((error.code, json.load(error)["error_code"]), (401, "no_access"))
        with urllib.request.urlopen(urllib.request.Request(page, headers={"Authorization": "Bearer any"}), timeout=10) as answer:
            self.assertEqual(answer.read(), b"served\n")

    def test_a_disk_is_resized(self):
        from morphcloud.api import DiskResizeRequestError

        instance = self.start()
        write = "head -c 600M /dev/zero > /srv/file"
        self.assertNotEqual(instance.exec(write).exit_code, 0)
        instance.exec("rm /srv/file")
        done = instance.resize_disk(disk_size=1024)
        self.assertEqual((done.status, done.previous_disk_size, done.requested_disk_size), ("succeeded", 512, 1024))
        self.assertEqual(self.client.instances.get_disk_resize(instance.id, done.id).status, "succeeded")
        self.assertEqual(self.client.instances.get(instance.id).spec.disk_size, 1024)
        self.assertEqual(instance.exec(write).exit_code, 0)
        with self.assertRaises(DiskResizeRequestError) as refused:
            instance.resize_disk(disk_size=256)
        self.assertEqual((refused.exception.status_code, refused.exception.error_code), (409, "disk_full"))

    def test_what_belongs_to_the_user(self):
        from morphcloud.api import ApiError

        user = self.client.user
        made = user.create_api_key()
        self.assertTrue(made.key.startswith(made.key_prefix))
        self.assertEqual([one.id for one in user.list_api_keys()], [made.id])
        user.delete_api_key(made.id)
        self.assertEqual(user.list_api_keys(), [])
        secret = user.create_secret("TOKEN", "hidden", description="d", metadata={"a": "b"})
        self.assertEqual([(one.id, one.name, one.metadata) for one in user.list_secrets()], [(secret.id, "TOKEN", {"a": "b"})])
        self.assertNotIn("hidden", str(self.server.call("GET", "/user/secret")))
        user.delete_secret("TOKEN")
        with self.assertRaises(ApiError) as refused:
            user.delete_secret("TOKEN")
        self.assertEqual(refused.exception.status_code, 404)
        import paramiko

        pair = paramiko.ECDSAKey.generate()
        public = f"{pair.get_name()} {pair.get_base64()}"
        key = user.add_ssh_key("laptop", public)
        self.assertEqual((user.get_managed_ssh_key(key.id).fingerprint, key.status.value), (key.fingerprint, "active"))
        instance = self.start()

        def come_in():
            client = paramiko.SSHClient()
            client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
            self.addCleanup(client.close)
            client.connect("127.0.0.1", self.server.ssh_port, username=instance.id, pkey=pair, look_for_keys=False, allow_agent=False)
            return client.exec_command("echo in")[1].read()

        self.assertEqual(come_in(), b"in\n")
        self.assertEqual(user.edit_ssh_key(key.id, name="old", expires=1).status.value, "expired")
        with self.assertRaises(paramiko.AuthenticationException):
            come_in()
        self.assertEqual(user.edit_ssh_key(key.id, clear_expiry=True).expires, None)
        self.assertEqual(come_in(), b"in\n")
        user.revoke_ssh_key(key.id)
        self.assertEqual(user.list_ssh_keys(), [])
        self.assertEqual(user.set_ssh_key(public).public_key, user.get_ssh_key().public_key)
        usage = user.usage("1h")
        self.assertGreaterEqual(usage.instance[0].instance_memory_time, 0)

    def test_errors_are_in_the_clients_format(self):
        from morphcloud.api import ApiError

        for wrong in [lambda: self.client.instances.get("morphvm_none"), lambda: self.client.instances.start("snapshot_none")]:
            with self.assertRaises(ApiError) as raised:
                wrong()
            self.assertEqual(raised.exception.status_code, 404)
            self.assertIn(raised.exception.error_code, ["instance_not_found", "snapshot_not_found"])
            self.assertIn("there is no", raised.exception.detail)

    def test_the_clients_own_command_line(self):
        environment = {**os.environ, "MORPH_BASE_URL": self.server.url, "MORPH_API_KEY": "any"}
        environment |= {"MORPH_SSH_HOSTNAME": "127.0.0.1", "MORPH_SSH_PORT": str(self.server.ssh_port)}
        program = Path(sys.executable).parent / "morphcloud"

        def say(*arguments):
            done = subprocess.run([program, *arguments], capture_output=True, text=True, env=environment, timeout=120)
            self.assertEqual(done.returncode, 0, (arguments, done.stdout, done.stderr))
            return done.stdout

        self.assertIn(self.base.id, say("snapshot", "list", "--json"))
        world = self.start().id
        self.assertIn("over ssh", say("instance", "ssh", world, "--", "echo", "over", "ssh"))
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            (tree / "deep").mkdir(parents=True)
            (tree / "deep" / "file").write_text("copied\n")
            say("instance", "copy", "--recursive", str(tree), f"{world}:/tmp/tree")
            say("instance", "copy", f"{world}:/tmp/tree/deep/file", str(Path(folder) / "back"))
            self.assertEqual((Path(folder) / "back").read_text(), "copied\n")


class Machines:
    """The client on virtual machines of one `image`; `keep` and `tell` are lines by which their guest keeps a number
    and tells it."""

    @classmethod
    def setUpClass(cls):
        from morphcloud.api import MorphCloudClient

        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.server = Server(cls.folder.name)
        cls.addClassCleanup(cls.server.stop)
        cls.client = MorphCloudClient(api_key="any", base_url=cls.server.url)
        if cls.image not in [image.id for image in cls.client.images.list()]:
            raise unittest.SkipTest(f"this host makes no {cls.image}: `worldline doctor` says why")

    def number(self, instance):
        told = instance.exec(self.tell)
        self.assertEqual(told.exit_code, 0, told)
        return int(told.stdout)

    def set(self, instance, number):
        self.assertEqual(instance.exec(self.keep.format(number)).exit_code, 0)

    def test_a_machine_is_made_kept_branched_paused_and_stopped(self):
        base = self.client.snapshots.create(image_id=self.image, vcpus=1, memory=512, disk_size=512, metadata={"a": "b"})
        self.assertEqual([one.id for one in self.client.snapshots.list(metadata={"a": "b"})], [base.id])
        instance = self.client.instances.start(base.id, metadata={"who": "me"})
        self.assertEqual((instance.status.value, instance.refs.image_id), ("ready", self.image))
        self.set(instance, 41)
        snapshot, branches = instance.branch(3)
        for at, branch in enumerate(branches):
            self.assertEqual(branch.refs.snapshot_id, snapshot.id)
            self.assertEqual(self.number(branch), 41)
            self.set(branch, at)
        self.assertEqual([self.number(branch) for branch in branches], [0, 1, 2])
        instance.pause()
        self.assertEqual(instance.status.value, "paused")
        with self.assertRaises(Exception) as refused:
            instance.exec(self.tell)
        self.assertIn("paused", str(refused.exception))
        instance.resume()
        self.assertEqual(self.number(instance), 41)
        instance.set_metadata({"k": "v"})
        self.assertEqual(self.client.instances.get(instance.id).metadata, {"k": "v"})
        kept = branches[2].snapshot(digest="point")
        self.set(branches[2], 7)
        again = self.client.instances.start(kept.id)
        self.assertEqual((self.number(again), self.number(branches[2])), (2, 7))
        listed = self.server.call("GET", "/instance")[1]["data"]
        self.assertEqual({one["backend"] for one in listed}, {self.image.split(":")[0]})
        told = self.server.command("world", "list").stdout
        self.assertIn(self.image.split(":")[0], told)
        for one in [instance, again, *branches]:
            one.stop()
        self.assertEqual(self.client.instances.list(), [])
        self.server.sound(self)

    def test_the_host_is_told_backend_by_backend(self):
        reports = self.server.call("GET", "/v1/worlds/doctor")[1]
        self.assertEqual({one["backend"] for one in reports}, {"process", "firecracker", "qemu"})
        self.assertIn(self.image.split(":")[0], [one["backend"] for one in reports if one["usable"]])

    def test_the_command_asks_for_sizes(self):
        sizes = ["--memory", "512", "--vcpus", "1", "--disk", "200"]
        where, image = self.image.split(":")
        made = self.server.command("world", "create", "--backend", where, "--image", image, *sizes)
        self.assertEqual(made.returncode, 0, made.stderr)
        instance = self.client.instances.get(made.stdout.strip())
        spec = instance.spec
        self.assertEqual((spec.memory, spec.vcpus, spec.disk_size), (512, 1, 200))
        instance.stop()

    def begun(self):
        made = self.client.snapshots.create(image_id=self.image, vcpus=1, memory=512, disk_size=512)
        return self.client.instances.start(made.id)


class MetalUnderFirecracker(Machines, unittest.TestCase):
    image, keep, tell = "firecracker:metal", "poke 7 {}", "peek 7"

    def test_a_reboot_gives_other_sizes(self):
        instance = self.begun()
        self.set(instance, 41)
        instance.reboot(vcpus=2, memory=256)
        spec = self.client.instances.get(instance.id).spec
        self.assertEqual((spec.vcpus, spec.memory), (2, 256))
        self.assertEqual(self.number(instance), 0)
        instance.stop()


class LinuxUnderQemu(Machines, unittest.TestCase):
    image, keep, tell = "qemu:default", "echo {} > /srv/number", "cat /srv/number"

    def test_a_reboot_is_refused_in_words_and_the_machine_goes_on(self):
        instance = self.begun()
        self.set(instance, 41)
        for sizes in [{}, {"memory": 1024}]:
            with self.assertRaises(Exception) as refused:
                instance.reboot(**sizes)
            self.assertIn("no disk beside its memory", str(refused.exception))
        self.assertEqual(self.number(instance), 41)
        self.assertEqual(self.client.instances.get(instance.id).spec.memory, 512)
        instance.stop()


class Ssh(WithServer, unittest.TestCase):
    """The gateway, through the client's own paramiko and what stands on it."""

    def test_commands_have_output_code_and_environment(self):
        with self.start().ssh() as ssh:
            told = ssh.run("echo out; echo err >&2; exit 3", get_pty=False)
            self.assertEqual((told.returncode, told.stdout, told.stderr), (3, "out\n", "err\n"))
            told = ssh.run("tty; stty size; echo $TERM $HOME")
            self.assertIn("/dev/pts/", told.stdout)
            self.assertEqual(told.stdout.split()[1:], ["24", "80", "dumb", "/root"])
            # A reader that goes away ends its writer, as everywhere.
            self.assertEqual(ssh.run("yes | head -1; echo ${PIPESTATUS[0]}", get_pty=False).stdout, "y\n141\n")
            much = ssh.run("seq 1 200000", get_pty=False).stdout
            self.assertEqual((len(much.splitlines()), much[-8:]), (200000, "\n200000\n"))

    def test_input_is_read_to_its_end(self):
        client = self.start().ssh_connect()
        self.addCleanup(client.close)
        typed, said, _ = client.exec_command("sha256sum | cut -c1-8; cat /nowhere; exit 5")
        typed.write(b"x" * 3_000_000)
        typed.channel.shutdown_write()
        import hashlib

        self.assertEqual(said.read().decode().strip(), hashlib.sha256(b"x" * 3_000_000).hexdigest()[:8])
        self.assertEqual(said.channel.recv_exit_status(), 5)

    def test_a_shell_at_a_terminal(self):
        client = self.start().ssh_connect()
        self.addCleanup(client.close)
        shell = client.invoke_shell(width=100, height=30)
        shell.settimeout(20)
        heard = ""

        def until(word):
            nonlocal heard
            while word not in heard:
                heard += shell.recv(4096).decode()

        shell.send("stty size; echo $((6*7))\n")
        until("30 100")
        until("42")
        shell.resize_pty(width=120, height=40)
        shell.send("stty size\n")
        until("40 120")
        shell.send("exit 6\n")
        self.assertEqual(shell.recv_exit_status(), 6)

    def test_files_by_sftp(self):
        instance = self.start()
        with instance.ssh() as ssh, tempfile.TemporaryDirectory() as folder:
            file, back = Path(folder) / "f", Path(folder) / "g"
            file.write_bytes(os.urandom(5_000_000))
            ssh.copy_to(file, "/tmp/ein ü")
            ssh.copy_from("/tmp/ein ü", back)
            self.assertEqual(back.read_bytes(), file.read_bytes())
            ssh.write_file("/srv/script", "#!/bin/sh\necho ran\n", mode=0o755)
            self.assertEqual(ssh.run("/srv/script", get_pty=False).stdout, "ran\n")
            self.assertEqual(ssh.read_file("/srv/script"), "#!/bin/sh\necho ran\n")
            sftp = ssh._client.open_sftp()
            sftp.mkdir("/tmp/d")
            sftp.posix_rename("/tmp/ein ü", "/tmp/d/ü")
            sftp.symlink("ü", "/tmp/d/link")
            self.assertEqual(sorted(sftp.listdir("/tmp/d")), ["link", "ü"])
            self.assertEqual((sftp.stat("/tmp/d/link").st_size, sftp.readlink("/tmp/d/link")), (5_000_000, "ü"))
            sftp.utime("/tmp/d/ü", (1, 2))
            sftp.truncate("/tmp/d/ü", 3)
            self.assertEqual((sftp.stat("/tmp/d/ü").st_size, sftp.normalize("/tmp/d/../d")), (3, "/tmp/d"))
            with self.assertRaises(FileNotFoundError):
                sftp.stat("/nowhere")
            with self.assertRaises(PermissionError):
                sftp.open("/proc/sys/kernel/hostname", "w")
        # All of it has ended, so that the world can be kept at once.
        instance.snapshot()

    def test_a_server_inside_is_reached_through_a_tunnel(self):
        import socket

        instance = self.start()
        instance.exec("cd /tmp && echo served > page && nohup python3 -m http.server 8000 >/dev/null 2>&1 &")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        instance.exec("until (exec 3<>/dev/tcp/127.0.0.1/8000) 2>/dev/null; do sleep 0.1; done")
        with instance.ssh() as ssh, ssh.tunnel(port, 8000):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/page", timeout=10) as answer:
                self.assertEqual(answer.read(), b"served\n")

    def test_a_step_of_a_build_is_cached(self):
        step = "echo built > /srv/mark"
        first = self.base.setup(step)
        started = time.monotonic()
        self.assertEqual(self.base.setup(step).id, first.id)
        self.assertLess(time.monotonic() - started, 0.5, "the step ran again")
        second = first.exec("echo more >> /srv/mark")
        self.assertEqual(first.exec("echo more >> /srv/mark").id, second.id)
        world = self.client.instances.start(second.id)
        self.addCleanup(world.stop)
        self.assertEqual(world.exec("cat /srv/mark").stdout, "built\nmore\n")
        with self.assertRaises(Exception):
            self.base.setup("exit 9")

    def test_a_paused_world_wakes_for_ssh(self):
        instance = self.start()
        instance.set_wake_on(wake_on_ssh=True)
        client = instance.ssh_connect()
        self.addCleanup(client.close)
        instance.pause()
        self.assertEqual(client.exec_command("echo awake")[1].read(), b"awake\n")
        self.assertEqual(self.client.instances.get(instance.id).status.value, "ready")

    def test_a_worlds_own_key_opens_it_until_it_is_rotated(self):
        import io

        import paramiko

        instance, other = self.start(), self.start()

        def come_in(world, **shown):
            client = paramiko.SSHClient()
            client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
            self.addCleanup(client.close)
            options = {"username": world, "look_for_keys": False, "allow_agent": False}
            client.connect("127.0.0.1", self.server.ssh_port, **options, **shown)
            return client.exec_command("echo in")[1].read()

        own = instance.ssh_key()
        pair = paramiko.Ed25519Key.from_private_key(io.StringIO(own.private_key))
        self.assertEqual(come_in(instance.id, pkey=pair), b"in\n")
        self.assertEqual(come_in(instance.id, password=own.password), b"in\n")
        self.assertEqual(instance.ssh_key().public_key, own.public_key)
        self.assertNotEqual(instance.ssh_key_rotate().public_key, own.public_key)
        for world, shown in [(instance.id, {"pkey": pair}), (instance.id, {"password": own.password}), (other.id, {"pkey": pair})]:
            with self.assertRaises(paramiko.AuthenticationException):
                come_in(world, **shown)
        with self.assertRaises(paramiko.AuthenticationException):
            come_in("morphvm_none:any", password="")


class Verses(WithServer, unittest.TestCase):
    """The world runtime's first example: one base, one moment, three verses."""

    def test_three_verses_from_one_moment_in_parallel(self):
        call = self.server.call
        base = call("POST", "/v1/sandboxes", {})[1]["id"]
        self.server.cell(base, "import pandas as pd; data = pd.DataFrame({'x': range(10)})")
        moment = call("POST", f"/v1/sandboxes/{base}/snapshots", {"name": "pre-event"})[1]["snapshot_id"]
        verses = {}
        for verse, trit in [("nash", -1), ("optimal", 0), ("chaos", 1)]:
            body = {"snapshot_id": moment, "metadata": {"verse": verse, "trit": trit}}
            verses[verse] = call("POST", "/v1/sandboxes", body)[1]

        async def run(verse):
            code = f"data['x'] *= {len(verse)}; strategy = '{verse}'; int(data['x'].sum())"
            return await asyncio.to_thread(self.server.cell, verses[verse]["id"], code)

        async def together():
            return await asyncio.gather(*map(run, verses))

        told = asyncio.run(together())
        self.assertEqual([one["value"] for one in told], [str(45 * len(verse)) for verse in verses])
        self.assertEqual(self.server.cell(base, "int(data['x'].sum())")["value"], "45")
        sql = f"SELECT gf3_sum, is_open, len(child_entity_ids) FROM world_branches WHERE snapshot_id = '{moment}' AND branch_type = 'fork'"
        self.assertEqual(call("POST", "/v1/worlds/sql", {"sql": sql})[1]["rows"], [[0, False, 3]])

    def test_the_same_through_our_own_client(self):
        sys.path.insert(0, str(ROOT / "clients" / "python"))
        self.addCleanup(sys.path.pop, 0)
        from worldline import MorphSandbox, WorldlineError

        async def example():
            world = await MorphSandbox.create()
            await world.execute_code("import pandas as pd; data = pd.DataFrame({'x': range(10)})")
            snapshot_id = await world.snapshot("pre-event")
            verses = [await MorphSandbox.create(snapshot_id=snapshot_id, metadata={"trit": trit}) for trit in (-1, 0, 1)]
            results = await asyncio.gather(*(verse.execute_code(f"int(data['x'].sum()) + {at}") for at, verse in enumerate(verses)))
            await verses[0].stop()
            with self.assertRaises(WorldlineError) as refused:
                await verses[0].execute_code("1")
            return [result["value"] for result in results], refused.exception.error_code

        os.environ["WORLDLINE_URL"] = self.server.url
        self.addCleanup(os.environ.pop, "WORLDLINE_URL")
        self.assertEqual(asyncio.run(example()), (["45", "46", "47"], "instance_not_found"))

    @unittest.skipUnless(NBB.exists(), "no Clojure: `npm ci` in clients/babashka")
    def test_the_same_from_clojure(self):
        environment = {**os.environ, "WORLDLINE_URL": self.server.url}
        done = subprocess.run([NBB, "test.cljs"], cwd=NBB.parents[2], capture_output=True, text=True, env=environment, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_learned_world_is_branched_with_the_same_calls(self):
        base = self.client.instances.start(self.client.snapshots.create(image_id="micro").id)
        self.addCleanup(base.stop)
        step = lambda world, frames: json.loads(world.exec(f"step {frames}").stdout)
        step(base, 30)
        before = json.loads(base.exec("state").stdout)
        self.assertEqual(before["frame"], 30)
        _, branches = base.branch(3)
        ends = {step(branch, at)["chain"] for at, branch in enumerate(branches)}
        self.assertEqual((len(ends), json.loads(base.exec("state").stdout)), (3, before))
        self.assertEqual(self.server.call("POST", f"/v1/sandboxes/{base.id}/execute", {"code": "1"})[0], 409)

    def test_figures_for_prometheus_and_a_document_for_programs(self):
        self.start()
        with urllib.request.urlopen(self.server.url + "/metrics", timeout=10) as answer:
            text = answer.read().decode()
        self.assertRegex(text, r'worldline_worlds\{status="ready"\} [1-9]')
        self.assertRegex(text, r'worldline_operation_ms\{operation="create",quantile="0.5"\} [0-9.]+')
        self.assertEqual(self.server.call("GET", "/openapi.json")[1]["openapi"], "3.1.0")

    def test_a_key_makes_a_thing_once(self):
        key = {"Idempotency-Key": "a-key"}
        first = self.server.call("POST", "/v1/sandboxes", {"metadata": {"a": 1}}, key)
        self.assertEqual(self.server.call("POST", "/v1/sandboxes", {"metadata": {"a": 1}}, key), first)
        self.assertEqual(self.server.call("POST", "/v1/sandboxes", {"metadata": {"a": 2}}, key)[0], 409)

    def test_nonsense_is_refused_in_words(self):
        world = self.start().id
        wrong = [
            ("POST", "/snapshot", b"{", 400),
            ("POST", "/snapshot", {"vcpus": -1}, 400),
            ("POST", "/snapshot", {"image_id": "no such image"}, 404),
            ("POST", "/instance", None, 400),
            ("POST", f"/instance/{world}/branch?count=0", None, 400),
            ("POST", f"/instance/{world}/branch?count=100000", None, 400),
            ("POST", f"/instance/{world}/branch?count=3", {"trits": [1, 0, 0]}, 400),
            ("POST", f"/instance/{world}/exec", {"command": []}, 400),
            ("POST", f"/instance/{world}/exec", {"command": ["a\0b"]}, 400),
            ("POST", f"/instance/{world}/exec", b"\xff\xfe", 400),
            ("POST", f"/instance/{world}/metadata", {"a": {"b": 1}}, 400),
            ("POST", f"/instance/{world}/ttl", {"ttl_seconds": 10**15}, 400),
            ("POST", f"/instance/{world}/http", {"name": "../x", "port": 1}, 400),
            ("POST", "/instance/x%00y/pause", None, 404),
            ("POST", "/v1/worlds/sql", {"sql": "DROP TABLE world_branches"}, 400),
            ("GET", f"/v1/worlds/{world}/files?path=/no/such", None, 400),
            ("GET", f"/v1/worlds/{world}/files", None, 400),
        ]
        for method, path, body, status in wrong:
            with self.subTest(path=path, body=body):
                told = self.server.call(method, path, body)
                self.assertEqual(told[0], status, told)
                self.assertTrue(told[1]["error_code"] and told[1]["detail"], told)

    def test_the_command_line(self):
        say = self.server.command
        world = say("world", "create", "--metadata", "verse=base").stdout.strip()
        self.assertTrue(world.startswith("morphvm_"), world)
        done = say("world", "exec", world, "--", "sh", "-c", "echo out; echo err >&2; exit 5")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (5, "out\n", "err\n"))
        self.assertEqual(say("world", "exec", world, "-c", "x = 6\nx * 7").stdout, "42\n")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "f"
            file.write_bytes(b"\x00\xffbytes")
            self.assertEqual(say("world", "cp", str(file), f"{world}:/tmp/ü f").returncode, 0)
            back = Path(folder) / "g"
            self.assertEqual(say("world", "cp", f"{world}:/tmp/ü f", str(back)).returncode, 0)
            self.assertEqual(back.read_bytes(), b"\x00\xffbytes")
        moment = say("world", "snapshot", world, "--name", "pre").stdout.strip()
        verses = json.loads(say("world", "branch", world, "-n", "3", "--json").stdout)["instances"]
        self.assertEqual([one["trit"] for one in verses], [-1, 0, 1])
        other = say("world", "restore", moment).stdout.strip()
        self.assertEqual(say("world", "exec", other, "-c", "x").stdout, "6\n")
        tree = say("world", "tree").stdout
        for name in [world, moment, other]:
            self.assertIn(name, tree)
        self.assertEqual(len(say("world", "path", verses[0]["id"], verses[2]["id"]).stdout.split()), 3)
        for arguments in [("check",), ("check", "gf3"), ("check", "schema"), ("receipt", "verify"), ("metrics",), ("list",)]:
            done = say("world", *arguments)
            self.assertEqual(done.returncode, 0, (arguments, done.stdout, done.stderr))
        self.assertIn("3", say("world", "sql", "SELECT 1 + 2 AS three").stdout)
        self.assertEqual(say("world", "rm", world, moment).returncode, 0)
        self.assertNotEqual(say("world", "exec", world, "true").returncode, 0)


class Examples(WithServer, unittest.TestCase):
    """`examples/`: the world runtime's own, each told as `VERSE PAYOFFS`, and where the base stands."""

    def told(self, *command):
        environment = {**os.environ, "WORLDLINE_URL": self.server.url}
        environment["PYTHONPATH"] = str(ROOT / "clients" / "python")
        environment["PATH"] = f"{Path(WORLDLINE).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, cwd=ROOT / "examples")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return dict(line.split(" ", 1) for line in done.stdout.splitlines())

    def check(self, told):
        """Three strategies of one moment, each in a world of its own, and a base that stands where it stood."""
        verses = {verse: ast.literal_eval(told[verse]) for verse in ("nash", "optimal", "chaos")}
        strategies = [verses[verse]["strategy"] for verse in ("nash", "optimal", "chaos")]
        self.assertEqual(strategies, ["selfish", "cooperative", "random"])
        self.assertEqual({one["frame"] for one in verses.values()}, {300})
        self.assertEqual(len({one["chain"] for one in verses.values()}), 3)
        self.assertLess(verses["nash"]["welfare"], verses["optimal"]["welfare"])
        self.assertIn("frame 0", told["base"])

    def test_three_verses_in_python(self):
        self.check(self.told(sys.executable, "three_verses.py"))

    def test_three_verses_on_the_command_line(self):
        self.check(self.told("sh", "three_verses.sh"))

    @unittest.skipUnless(NBB.exists(), "no Clojure: `npm ci` in clients/babashka")
    def test_three_verses_and_the_other_examples_in_clojure(self):
        told = self.told(str(NBB), "--classpath", str(ROOT / "clients" / "babashka"), "three_verses.cljs")
        self.check(told)
        self.assertEqual((told["winner"], told["validated"]), ("optimal", "ok"))

    def test_a_player_is_branched_in_the_middle_of_a_match(self):
        world = self.start().id
        first = self.server.cell(world, "data = load_universe('micro'); evolve('selfish', frames=60)")
        self.assertEqual(first["status"], "ok", first)
        moment = self.server.call("POST", f"/v1/sandboxes/{world}/snapshots", {})[1]["snapshot_id"]
        branches = [self.server.call("POST", "/v1/sandboxes", {"snapshot_id": moment})[1]["id"] for _ in range(2)]
        ends = [self.server.cell(id, "evolve('selfish', frames=60)")["value"] for id in [world, *branches]]
        self.assertEqual(len(set(ends)), 1, "the same strategy leads to the same bytes in every branch")
        self.assertNotEqual(ends[0], first["value"])


class Triads(WithServer, unittest.TestCase):
    """The five triads of skills, -1 ⊗ 0 ⊗ +1 each, by their tags: what can be computed, as commands. The
    extractable value of [Core] and the walk of [Tracing] as commands follow with the verses."""

    def say(self, *words, code=0):
        done = self.server.command("world", *words)
        self.assertEqual(done.returncode, code, (words, done.stdout, done.stderr))
        return done.stdout.strip()

    def told(self, *words, code=0):
        return json.loads(self.say(*words, "--json", code=code))

    def made(self, code):
        world = self.say("create")
        self.addCleanup(self.server.command, "world", "rm", world)
        self.say("exec", world, "-c", code)
        return world

    def verses(self, world, count=3):
        children = [one["id"] for one in self.told("branch", world, "-n", str(count))["instances"]]
        self.addCleanup(self.server.command, "world", "rm", *children)
        return children

    def test_core(self):
        # ramanujan-expander: the worlds as peers, and graphs whose eigenvalues are known.
        world = self.made("x = 1")
        peers = {world, *self.verses(world)}
        everybody = [one["id"] for one in self.told("list")]
        degree = 2 if len(everybody) % 2 else 3
        edges = [line.split() for line in self.say("graph", "--degree", str(degree)).splitlines()]
        self.assertLessEqual(peers, {name for edge in edges for name in edge})
        self.assertEqual(len(edges), len(everybody) * degree // 2)
        spectrum = self.told("graph", "--spectral", "--peers", "4")
        self.assertEqual((spectrum["connected"], spectrum["ramanujan"]), (True, True))
        self.assertAlmostEqual(spectrum["lambda"], 1)
        with tempfile.TemporaryDirectory() as folder:
            ring = Path(folder) / "prism"
            prism = [f"{at} {(at + 1) % 20}\na{at} a{(at + 1) % 20}\n{at} a{at}" for at in range(20)]
            ring.write_text("\n".join(prism))
            spectrum = self.told("graph", "--spectral", "--edges", str(ring), code=1)
            self.assertGreater(spectrum["lambda"], spectrum["bound"])
        self.assertIn("their product is even", self.server.command("world", "graph", "--peers", "5").stderr)
        # world-extractable value needs costs that differ: the same moment under two strategies.
        worths = []
        for verse, strategy in zip(self.verses(world, 2), ["selfish", "cooperative"]):
            told = self.say("exec", verse, "-c", f"load_universe(); strategy = '{strategy}'; evolve(frames=200)['welfare']")
            worths.append(float(told))
        self.assertLess(worths[0], worths[1])

    def test_branching(self):
        world = self.made("x = 1")
        one, other, _ = self.verses(world)
        self.assertEqual(len(self.say("path", one, other).split()), 3)
        there, back, same = (self.told("distance", *pair)["distance"] for pair in [(one, other), (other, one), (one, one)])
        self.assertEqual((there, same), (back, 0))
        child = self.verses(one)[0]
        far, near, on = (self.told("distance", *pair)["distance"] for pair in [(world, child), (world, one), (one, child)])
        self.assertLessEqual(far, near + on)
        self.say("check", "gf3")
        self.assertIn("balance", self.server.command("world", "branch", world, "-n", "2", "--trits=1,1").stderr)

    def test_cobordism(self):
        world = self.made("import os, random, numpy; data = load_universe('micro')")
        steps = ["-c", "[random.random(), float(numpy.random.random())]", "-c", "evolve('random', frames=60)"]
        told = self.told("verify", "spi", world, "-n", "4", "--seed", "1069", *steps)
        self.assertEqual(told["serial"], told["parallel"])
        self.assertEqual((told["holds"], told["serial"]["count"]), (True, 4))
        self.assertEqual(told, self.told("verify", "spi", world, "-n", "4", "--seed", "1069", *steps))
        self.assertNotEqual(told["serial"], self.told("verify", "spi", world, "-n", "4", "--seed", "1070", *steps)["serial"])
        # What no seed decides is found out.
        self.assertIn("NOT", self.say("verify", "spi", world, "-c", "os.urandom(8)", code=1))
        self.say("receipt", "verify")

    def test_a_verification_ends_when_its_client_hangs_up(self):
        world = self.made("x = 1")
        body = json.dumps({"steps": ["while True: pass"]}).encode()
        with self.assertRaises(TimeoutError):
            urllib.request.urlopen(f"{self.server.url}/v1/worlds/{world}/verify", data=body, timeout=2)
        for _ in range(100):
            branches = [one for one in self.told("tree") if one["state"] == "running" and one["origin"]]
            if [one["id"] for one in branches] == [world]:
                return
            time.sleep(0.1)
        self.fail("its branches run on, and nobody listens")

    def test_tracing(self):
        world = self.made("data = load_universe('micro')")
        before = self.say("exec", world, "-c", "data.world.chain")
        nash, optimal, chaos = self.verses(world)
        made = self.say("exec", chaos, "-c", "generate_proposals()")
        merged = self.say("exec", optimal, "-c", f"coordinate_proposals({made}, generate_proposals())")
        self.assertEqual(len(ast.literal_eval(merged)), 6)
        self.assertEqual(self.say("exec", nash, "-c", f"validate_proposals({merged})"), merged)
        forged = merged.replace("'payoffs': [400.0", "'payoffs': [401.0", 1)
        self.assertEqual(len(ast.literal_eval(self.say("exec", nash, "-c", f"validate_proposals({forged})"))), 5)
        # The observer has seen it all, and nothing changed by that.
        seen = self.told("trace", chaos)["rows"]
        self.assertEqual([row[2] for row in seen], ["generate_proposals()"])
        self.assertEqual(self.told("trace", chaos)["rows"], seen)
        self.assertEqual(self.say("exec", world, "-c", "data.world.chain"), before)

    def test_state(self):
        world = self.made("x = 1")
        one, other, _ = self.verses(world)
        for verse in (one, other):
            self.say("exec", verse, "-c", "x += 1; x")
        self.assertTrue(self.told("diff", one, other)["equal"])
        self.say("exec", one, "-c", "x * 2")
        self.say("exec", other, "-c", "x * 3")
        told = self.told("diff", one, other, "--depth", "5")
        self.assertEqual((told["equal"], told["first"][0]), (False, 2))
        self.assertTrue(self.told("diff", one, other, "--depth", "1")["equal"])
        self.say("check", "schema")


class MadeUp(WithServer, unittest.TestCase):
    """Alone with its server, which ends with more worlds than anyone asked for on purpose."""

    def test_no_request_made_up_from_the_document_is_the_servers_fault(self):
        program = Path(sys.executable).parent / "schemathesis"
        command = [program, "run", self.server.url + "/openapi.json", "--checks", "not_a_server_error", "--seed", "1"]
        command += ["--max-examples", "4", "--request-timeout", "30", "--phases", "coverage,fuzzing"]
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=folder)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr)


class Restart(unittest.TestCase):
    def serve(self, folder):
        server = Server(folder)
        # Whatever fails, nothing goes on; what has ended already is not killed again.
        self.addCleanup(server.process.kill)
        return server

    def test_the_daemon_is_killed_and_goes_on_from_the_snapshot(self):
        import duckdb

        with tempfile.TemporaryDirectory() as folder:
            server = self.serve(folder)
            base = server.call("POST", "/v1/sandboxes", {})[1]["id"]
            server.cell(base, "x = list(range(1000)); data = load_universe('micro'); evolve('random', frames=30)")
            chain = server.cell(base, "data.world.chain")["value"]
            moment = server.call("POST", f"/v1/sandboxes/{base}/snapshots", {"name": "pre-event"})[1]["snapshot_id"]
            while not server.call("GET", f"/snapshot/{moment}")[1]["durable"]:
                time.sleep(0.05)
            server.stop(kill=True)
            server = self.serve(folder)
            self.assertEqual(server.call("GET", f"/instance/{base}")[0], 404)
            again = server.call("POST", "/v1/sandboxes", {"snapshot_id": moment})[1]["id"]
            self.assertEqual(server.cell(again, "sum(x)")["value"], "499500")
            self.assertEqual(server.cell(again, "data.world.chain")["value"], chain)
            self.assertEqual(server.cell(again, "evolve('selfish', frames=30)")["status"], "ok")
            late = server.call("POST", f"/v1/sandboxes/{again}/snapshots", {})[1]["snapshot_id"]
            server.sound(self)
            # A server that is told to stop keeps what it has not kept yet.
            server.stop()
            server = self.serve(folder)
            again = server.call("POST", "/v1/sandboxes", {"snapshot_id": late})[1]["id"]
            self.assertEqual(server.cell(again, "sum(x)")["value"], "499500")
            server.stop()
            # The file opens in stock DuckDB, and the four tables are as their users know them.
            tables = duckdb.connect(str(Path(folder) / "data" / "worlds.duckdb"), read_only=True)
            self.assertGreaterEqual(tables.sql("SELECT count(*) FROM world_runtime_entities").fetchone()[0], 4)
            columns = [row[0] for row in tables.sql("DESCRIBE runtime_metrics").fetchall()]
            self.assertEqual(
                columns,
                ["metric_id", "entity_id", "boot_time_ms", "snapshot_time_ms", "branch_time_ms", "memory_overhead_mb", "measured_at"],
            )
            self.assertEqual(tables.sql("SELECT count(*) FROM verse_resolutions").fetchone()[0], 0)
            tables.close()


if __name__ == "__main__":
    unittest.main(testRunner=unittest.TextTestRunner(stream=sys.stdout, verbosity=2))
