// The program and the client on an L1 that we did not write: surfpool's. Everything happens there, on no rollup,
// so that the payer sends the frames.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { until } from "../chain/cabinet.mjs";

// Given by `cargo xtask interop --surfpool`: the command, surfpool's L1, the program's ELF.
const { WORLDLINE: command, WORLDLINE_SURFPOOL: surfpool, WORLDLINE_PROGRAM: elf } = process.env;
const PROGRAM = "Wor1d1ine1111111111111111111111111111111111";
const START_MILLIS = 120_000;
/** Longest wait for a command, which waits itself for what it does. */
const COMMAND_MILLIS = 180_000;
/** Bytes of the program that one request writes. */
const PART = 16 << 10;
/** Seats with who sits there and the character that they pick. */
const SEATS = [["one", "0", "2"], ["two", "1", "20"]];
const worlds = fileURLToPath(new URL("../../worlds", import.meta.url));
const ghost = join(worlds, "ghost", readdirSync(join(worlds, "ghost"))[0]);
const folder = mkdtempSync(join(tmpdir(), "worldline-interop-surfpool-"));
const at = (name) => join(folder, name);
const port = 30_000 + Math.floor(Math.random() * 10_000);
const l1 = `http://127.0.0.1:${port}`;
let child, world;

async function ask(method, ...params) {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
    const answer = await fetch(l1, { method: "POST", headers: { "content-type": "application/json" }, body });
    const { result, error } = await answer.json();
    if (error) throw new Error(`${method}: ${JSON.stringify(error)}`);
    return result;
}

async function worldline(who, ...words) {
    const env = { ...process.env, XDG_DATA_HOME: at("data") };
    const { stdout } = await promisify(execFile)(command, [...words, "--l1", l1, ...(who ? ["--keypair", at(who)] : [])], { env, timeout: COMMAND_MILLIS });
    return stdout;
}

before(async () => {
    child = spawn(surfpool, [`${port}`], { stdio: ["pipe", "ignore", "inherit"] });
    await until(() => ask("getHealth").catch(() => null), "surfpool's L1", START_MILLIS);
    const code = readFileSync(elf);
    for (let offset = 0; offset < code.length; offset += PART) {
        await ask("surfnet_writeProgram", PROGRAM, code.subarray(offset, offset + PART).toString("hex"), offset);
    }
    for (const who of ["owner", "one", "two"]) {
        await promisify(execFile)(command, ["chain", "wallet", "new", "--keypair", at(who)]);
        await worldline(who, "chain", "wallet", "airdrop", "100");
    }
    ({ world } = JSON.parse(await worldline("owner", "upload", join(worlds, "micro.cart"), "--yes", "--json")));
}, { timeout: 240_000 });
after(() => {
    child?.kill("SIGKILL");
    rmSync(folder, { recursive: true });
});

test("a match is played, settled and verified on surfpool's L1", { timeout: 240_000 }, async () => {
    const opened = await worldline("owner", "session", "create", world, "--no-rollup", "--stage", "31", "--kernels", "plain", "--seconds", "1", "--yes", "--json");
    const { session } = JSON.parse(opened);
    for (const [who, seat] of SEATS) await worldline(who, "session", "join", session, "--seat", seat);
    const runs = worldline("owner", "session", "run", session, "--wait", "60", "-o", at("match.wlr"), "--settle");
    const plays = SEATS.map(([who, seat]) => worldline(who, "session", "play", session, "--seat", seat, "--wait", "60", "--inputs", ghost));
    for (const [who, seat, character] of SEATS) {
        await worldline(who, "session", "ready", session, "--seat", seat, "--character", character);
    }
    await Promise.all([runs, ...plays]);
    const report = JSON.parse(await worldline(null, "verify", session, "--json"));
    assert.deepEqual([report.valid, report.frames], [true, 60]);
});

test("a fork of the world is made there, and retired for its rent", { timeout: 180_000 }, async () => {
    const forked = JSON.parse(await worldline("owner", "fork", world, "--yes", "--json"));
    const listed = JSON.parse(await worldline(null, "chain", "worlds", "--json"));
    assert.equal(listed.length, 2);
    await worldline("owner", "retire", forked.world, "--yes");
    assert.equal(JSON.parse(await worldline(null, "chain", "worlds", "--json")).length, 1);
});
