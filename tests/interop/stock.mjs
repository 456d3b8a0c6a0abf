// Our box, and MagicBlock's own validator over it. Run by itself it prints where they answer, L1's URL and the
// validator's, and ends when its standard input does.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Connection, Keypair, LAMPORTS_PER_SOL, PublicKey, SystemProgram, Transaction, TransactionInstruction } from "@solana/web3.js";
import { start as cabinet, until } from "../chain/cabinet.mjs";

// Given by `cargo xtask`: the validator's command, the folder of the npm package's dumps, and the program's ELF.
const { WORLDLINE_VALIDATOR: validator, WORLDLINE_DUMPS: dumps, WORLDLINE_PROGRAM: elf } = process.env;
/** Longest wait for the validator to answer. */
const START_MILLIS = 60_000;
const key = (text) => new PublicKey(text);
export const DELEGATION = key("DELeGGvXpWV2fqJUhqcF5ZSYMS4JTLjteaAMARRSaeSh");
/** The world-model program, where our own chains load it. */
export const PROGRAM = key("Wor1d1ine1111111111111111111111111111111111");
export const MAGIC = key("Magic11111111111111111111111111111111111111");
export const CONTEXT = key("MagicContext1111111111111111111111111111111");
const LOADER = key("BPFLoaderUpgradeab1e11111111111111111111111");
/** The identity that the validator's package comes with. */
export const IDENTITY = key("mAGicPQYBMvcYveUZA5F5UNNwyHvfYh5xkLS2Fr1mev");
export const find = (seeds, program) => PublicKey.findProgramAddressSync(seeds.map((seed) => Buffer.from(seed)), program);
export const meta = (pubkey, isWritable = false, isSigner = false) => ({ pubkey, isWritable, isSigner });

/** Sends instructions, and waits for them; on L1 until they are confirmed, as the validator does. */
export async function send(connection, keys, ...instructions) {
    const transaction = new Transaction().add(...instructions);
    const latest = await connection.getLatestBlockhash();
    transaction.recentBlockhash = latest.blockhash;
    transaction.feePayer = keys[0].publicKey;
    transaction.sign(...keys);
    const signature = await connection.sendRawTransaction(transaction.serialize(), { skipPreflight: true });
    const { err } = await until(async () => {
        const { value } = await connection.getSignatureStatus(signature);
        return value && (connection.isStock || value.confirmationStatus !== "processed") && value;
    }, "a transaction");
    if (err) {
        const found = await connection.getTransaction(signature, { maxSupportedTransactionVersion: 0 });
        assert.fail(JSON.stringify([err, found?.meta?.logMessages]));
    }
    return signature;
}

/** Writes an account of the delegation program as a file that the box loads. */
function dump(folder, pubkey, data, lamports) {
    const path = join(folder, `${pubkey.toBase58()}.json`);
    const account = { lamports, data: [data.toString("base64"), "base64"], owner: DELEGATION.toBase58(), executable: false };
    writeFileSync(path, JSON.stringify({ pubkey: pubkey.toBase58(), account }));
    return ["--account", path];
}

/** The vault into which the validator collects fees, delegated to it. The program that 0.8.3 ships cannot make it. */
function feeVault(folder) {
    const [vault] = find(["magic-fee-vault", IDENTITY.toBuffer()], DELEGATION);
    const [record] = find(["delegation", vault.toBuffer()], DELEGATION);
    const data = Buffer.alloc(96);
    data.writeBigUInt64LE(100n, 0);
    IDENTITY.toBuffer().copy(data, 8);
    DELEGATION.toBuffer().copy(data, 40);
    data.writeBigUInt64LE(946_560n, 80);
    return [...dump(folder, vault, Buffer.alloc(8), 946_560), ...dump(folder, record, data, 1_559_040)];
}

/** Lets the validator in, as the delegation program's authority does. */
async function admit(l1, onL1) {
    const authority = Keypair.fromSecretKey(Uint8Array.from(JSON.parse(readFileSync(join(l1.ledger, "authority.json")))));
    for (const to of [authority.publicKey, IDENTITY]) await onL1.requestAirdrop(to, 10 * LAMPORTS_PER_SOL);
    await until(async () => await onL1.getBalance(IDENTITY), "the validator's lamports");
    const [vault] = find(["v-fees-vault", IDENTITY.toBuffer()], DELEGATION);
    const [code] = find([DELEGATION.toBuffer()], LOADER);
    const data = Buffer.alloc(8);
    data.writeBigUInt64LE(6n);
    await send(onL1, [authority], new TransactionInstruction({ programId: DELEGATION, data, keys: [
        meta(authority.publicKey, true, true), meta(authority.publicKey, true, true), meta(code), meta(IDENTITY, true),
        meta(vault, true), meta(SystemProgram.programId),
    ] }));
}

/** Starts a box with the world-model program and these (address and file), and the validator over it. */
export async function start(programs = []) {
    const folder = mkdtempSync(join(tmpdir(), "worldline-interop-"));
    const shipped = ["noopb9bkMVfRPU8AsbpTUg8AQkHtKwMYZiFUjNRtMmV", "ACLseoPoyC3cBqoUtkbjZ4aDrkurZW86v19pXz2XQnp1"];
    const all = [[PROGRAM, elf], ...programs, ...shipped.map((address) => [address, join(dumps, `${address}.so`)])];
    const l1 = await cabinet("l1", [
        "--delegation-program", join(dumps, `${DELEGATION}.so`),
        ...all.flatMap(([address, file]) => ["--program", `${address}=${file}`]), ...feeVault(folder),
    ]);
    const onL1 = new Connection(l1.rpc, "confirmed");
    await admit(l1, onL1);
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const config = join(folder, "validator.toml");
    writeFileSync(config, `
lifecycle = "ephemeral"
remotes = ["${l1.rpc}", "${l1.ws}"]
storage = "${join(folder, "storage")}"
[metrics]
address = "127.0.0.1:${port + 2}"
[validator]
basefee = 0
[aperture]
listen = "127.0.0.1:${port}"
[ledger]
block-time = "15ms"
reset = true
[accountsdb]
reset = true
[task-scheduler]
reset = true
min-interval = "10ms"
`);
    let said = "";
    const stock = spawn(validator, ["--no-tui", config], { stdio: ["ignore", "pipe", "pipe"] });
    // Whatever ends this process.
    const kill = () => stock.kill("SIGKILL");
    process.once("exit", kill);
    for (const stream of [stock.stdout, stock.stderr]) stream.on("data", (text) => (said = (said + text).slice(-4000)));
    const rpc = `http://127.0.0.1:${port}`;
    const here = new Connection(rpc, { commitment: "confirmed", wsEndpoint: `ws://127.0.0.1:${port + 1}` });
    here.isStock = true;
    await until(async () => {
        if (stock.exitCode !== null) throw new Error(`the validator ended with ${stock.exitCode}: ${said}`);
        return here.getSlot().catch(() => 0);
    }, "MagicBlock's validator", START_MILLIS).catch((error) => {
        throw new Error(`${error.message}; it said ${said}`);
    });
    const stop = async () => {
        if (stock.exitCode !== null) console.error(`the validator ended with ${stock.exitCode}: ${said}`);
        kill();
        process.off("exit", kill);
        await l1.stop();
        rmSync(folder, { recursive: true });
    };
    return { l1, onL1, here, rpc, stop, said: () => said };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    const { l1, rpc, stop } = await start();
    console.log(l1.rpc, rpc);
    process.stdin.resume();
    await once(process.stdin, "end");
    await stop();
    process.exit();
}
