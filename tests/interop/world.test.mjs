// A learned world on MagicBlock's own validator: the ELF and the client that play on our rollup, with
// matrices in plain instructions, because a stock rollup has no others.
//
// Two things are not as on ours. A scheduled frame would run under the default limit of compute there, so that
// the client sends frames itself, each with the largest; and the validator commits by itself what one
// transaction holds, no page of hidden state, whose 10 KiB change all over: they stay lent, and the session
// open. What a result is made of goes back to L1 piece by piece.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Keypair, PublicKey, TransactionInstruction } from "@solana/web3.js";
import { until } from "../chain/cabinet.mjs";
import { CONTEXT, DELEGATION, MAGIC, PROGRAM, meta, send, start } from "./stock.mjs";

// Given by `cargo xtask interop`: the command.
const { WORLDLINE: command } = process.env;
/** The program's instruction. */
const COMMIT = 22;
/** Longest wait for a command, which waits itself for what it does. */
const COMMAND_MILLIS = 60_000;
/** Seats with who sits there and the character that they pick. */
const SEATS = [["one", "0", "2"], ["two", "1", "20"]];
const worlds = fileURLToPath(new URL("../../worlds", import.meta.url));
const ghost = join(worlds, "ghost", readdirSync(join(worlds, "ghost"))[0]);
const folder = mkdtempSync(join(tmpdir(), "worldline-interop-world-"));
const at = (name) => join(folder, name);
let chains, world;

before(async () => {
    chains = await start();
    for (const who of ["owner", "one", "two"]) {
        await run("chain", "wallet", "new", "--keypair", at(who));
        await worldline(who, "chain", "wallet", "airdrop", "100");
    }
    ({ world } = JSON.parse(await worldline("owner", "upload", join(worlds, "micro.cart"), "--yes", "--json")));
}, { timeout: 120_000 });
after(async () => {
    await chains?.stop();
    rmSync(folder, { recursive: true });
});

async function run(...words) {
    const env = { ...process.env, XDG_DATA_HOME: at("data") };
    const { stdout } = await promisify(execFile)(command, words, { env, timeout: COMMAND_MILLIS });
    return stdout;
}

/** Runs the command as somebody, or as nobody. */
function worldline(who, ...words) {
    const urls = ["--l1", chains.l1.rpc, ...(words[0] === "session" ? ["--rollup", chains.rpc] : [])];
    return run(...words, ...urls, ...(who ? ["--keypair", at(who)] : []));
}

/** Plays a second of a new session to its end, and says where its accounts are. */
async function match(replay, ...options) {
    const opened = await worldline("owner", "session", "create", world, "--stage", "31", "--kernels", "plain", "--seconds", "1", "--yes", "--json", ...options);
    const addresses = JSON.parse(opened);
    const { session } = addresses;
    for (const [who, seat] of SEATS) await worldline(who, "session", "join", session, "--seat", seat);
    const runs = worldline("owner", "session", "run", session, "--send-frames", "--wait", "30", "-o", at(replay));
    const plays = SEATS.map(([who, seat]) => worldline(who, "session", "play", session, "--seat", seat, "--wait", "30", "--inputs", ghost));
    for (const [who, seat, character] of SEATS) {
        await worldline(who, "session", "ready", session, "--seat", seat, "--character", character);
    }
    const [recorded] = await Promise.all([runs, ...plays]);
    assert.match(recorded, /60 frames recorded/);
    return addresses;
}

/** Has the validator commit accounts of a session; waits until L1 has what is here, and with `back` the accounts. */
async function commit(payer, { session, state }, accounts, back) {
    const { here, onL1 } = chains;
    const keys = accounts.map((text) => new PublicKey(text));
    const wanted = await here.getMultipleAccountsInfo(keys);
    await send(here, [payer], new TransactionInstruction({
        programId: PROGRAM,
        data: Buffer.from([COMMIT, back ? 1 : 0]),
        keys: [
            meta(payer.publicKey, true, true), meta(CONTEXT, true), meta(MAGIC),
            meta(new PublicKey(session)), meta(new PublicKey(state)), ...keys.map((key) => meta(key, true)),
        ],
    }));
    const owner = back ? PROGRAM : DELEGATION;
    await until(async () => {
        const found = await onL1.getMultipleAccountsInfo(keys);
        return found.every((one, index) => one?.owner.equals(owner) && one.data.equals(wanted[index].data));
    }, `a commit of ${accounts}; the validator said ${chains.said()}`, 20_000);
}

test("a match is lent to MagicBlock's validator, played there in plain instructions, and valid on L1", { timeout: 120_000 }, async () => {
    const addresses = await match("match.wlr");
    const { session, state, inputs } = addresses;
    const owner = Keypair.fromSecretKey(Uint8Array.from(JSON.parse(readFileSync(at("owner")))));
    // Two of them do not fit a transaction, but once they are committed nothing is left to be said of them.
    await commit(owner, addresses, [inputs], true);
    for (const account of [state, session]) await commit(owner, addresses, [account], false);
    await commit(owner, addresses, [state, session], true);
    // Result, scores and replay are kept; the session cannot be closed without its page.
    const settle = worldline("owner", "session", "settle", session, "--replay", at("match.wlr"));
    await assert.rejects(settle, /NotOurs/);
    const report = JSON.parse(await worldline(null, "verify", session, "--json"));
    assert.deepEqual([report.valid, report.frames, report.signed_to], [true, 60, [60, 60]]);
});

test("where a frame fits no transaction, MagicBlock's validator runs it in parts", { timeout: 60_000 }, async () => {
    await match("parts.wlr", "--in-parts");
    const report = JSON.parse(await run("verify", at("parts.wlr"), "--worlds", worlds, "--json"));
    assert.deepEqual([report.valid, report.frames], [true, 60]);
});
