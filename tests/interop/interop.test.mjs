// MagicBlock's own validator over our box: the same program, the same delegation program, the same
// client. What our rollup does for a game, a stock one does as well, within its own limits.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Connection, Keypair, LAMPORTS_PER_SOL, PublicKey, SystemProgram, Transaction, TransactionInstruction } from "@solana/web3.js";
import { start, until } from "../chain/cabinet.mjs";

// Given by `cargo xtask interop`: the validator's command, and the folder of the npm package's dumps.
const { WORLDLINE_VALIDATOR: validator, WORLDLINE_DUMPS: dumps, WORLDLINE_COUNTER: elf } = process.env;
const key = (text) => new PublicKey(text);
const DELEGATION = key("DELeGGvXpWV2fqJUhqcF5ZSYMS4JTLjteaAMARRSaeSh");
const MAGIC = key("Magic11111111111111111111111111111111111111");
const CONTEXT = key("MagicContext1111111111111111111111111111111");
const COUNTER = key("Counter111111111111111111111111111111111111");
const LOADER = key("BPFLoaderUpgradeab1e11111111111111111111111");
/** The identity that the validator's package comes with. */
const IDENTITY = key("mAGicPQYBMvcYveUZA5F5UNNwyHvfYh5xkLS2Fr1mev");
const find = (seeds, program) => PublicKey.findProgramAddressSync(seeds.map((seed) => Buffer.from(seed)), program);
const folder = mkdtempSync(join(tmpdir(), "worldline-interop-"));
let l1, stock, onL1, here;
/** The last that the validator said. */
let said = "";

const meta = (pubkey, isWritable = false, isSigner = false) => ({ pubkey, isWritable, isSigner });

/** Sends instructions, and waits for them; on L1 until they are confirmed, as the validator does. */
async function send(connection, keys, ...instructions) {
    const transaction = new Transaction().add(...instructions);
    const latest = await connection.getLatestBlockhash();
    transaction.recentBlockhash = latest.blockhash;
    transaction.feePayer = keys[0].publicKey;
    transaction.sign(...keys);
    const signature = await connection.sendRawTransaction(transaction.serialize(), { skipPreflight: true });
    const { err } = await until(async () => {
        const { value } = await connection.getSignatureStatus(signature);
        return value && (connection === here || value.confirmationStatus !== "processed") && value;
    }, "a transaction");
    if (err) {
        const found = await connection.getTransaction(signature, { maxSupportedTransactionVersion: 0 });
        assert.fail(JSON.stringify([err, found?.meta?.logMessages]));
    }
    return signature;
}

/** Writes an account of the delegation program as a file that the box loads. */
function dump(pubkey, data, lamports) {
    const path = join(folder, `${pubkey.toBase58()}.json`);
    const account = { lamports, data: [data.toString("base64"), "base64"], owner: DELEGATION.toBase58(), executable: false };
    writeFileSync(path, JSON.stringify({ pubkey: pubkey.toBase58(), account }));
    return ["--account", path];
}

/** The vault into which the validator collects fees, delegated to it. The program that 0.8.3 ships cannot make it. */
function feeVault() {
    const [vault] = find(["magic-fee-vault", IDENTITY.toBuffer()], DELEGATION);
    const [record] = find(["delegation", vault.toBuffer()], DELEGATION);
    const data = Buffer.alloc(96);
    data.writeBigUInt64LE(100n, 0);
    IDENTITY.toBuffer().copy(data, 8);
    DELEGATION.toBuffer().copy(data, 40);
    data.writeBigUInt64LE(946_560n, 80);
    return [...dump(vault, Buffer.alloc(8), 946_560), ...dump(record, data, 1_559_040)];
}

before(async () => {
    const program = (address) => ["--program", `${address}=${join(dumps, `${address}.so`)}`];
    l1 = await start("l1", [
        "--delegation-program", join(dumps, `${DELEGATION}.so`), "--program", `${COUNTER}=${elf}`,
        ...program("noopb9bkMVfRPU8AsbpTUg8AQkHtKwMYZiFUjNRtMmV"), ...program("ACLseoPoyC3cBqoUtkbjZ4aDrkurZW86v19pXz2XQnp1"),
        ...feeVault(),
    ]);
    onL1 = new Connection(l1.rpc, "confirmed");
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

    const port = 20_000 + Math.floor(Math.random() * 20_000);
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
    stock = spawn(validator, ["--no-tui", config], { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [stock.stdout, stock.stderr]) stream.on("data", (text) => (said = (said + text).slice(-4000)));
    here = new Connection(`http://127.0.0.1:${port}`, { commitment: "confirmed", wsEndpoint: `ws://127.0.0.1:${port + 1}` });
    await until(async () => {
        if (stock.exitCode !== null) throw new Error(`the validator ended with ${stock.exitCode}: ${said}`);
        return here.getSlot().catch(() => 0);
    }, "MagicBlock's validator", 60_000);
});

after(async () => {
    if (stock && stock.exitCode !== null) console.error(`the validator ended with ${stock.exitCode}: ${said}`);
    stock?.kill("SIGKILL");
    await l1?.stop();
    rmSync(folder, { recursive: true });
});

test("what is lent to MagicBlock's validator is played on there and comes back", { timeout: 120_000 }, async () => {
    const player = Keypair.generate();
    await onL1.requestAirdrop(player.publicKey, 10 * LAMPORTS_PER_SOL);
    await until(async () => await onL1.getBalance(player.publicKey), "the player's lamports");
    const [counter, bump] = find(["counter", player.publicKey.toBuffer()], COUNTER);
    const of = (seed, program) => meta(find([seed, counter.toBuffer()], program)[0], true);
    const call = (data, keys) => new TransactionInstruction({ programId: COUNTER, data: Buffer.from(data), keys });
    const payer = meta(player.publicKey, true, true);
    await send(onL1, [player], call([0, bump, 64, 0], [payer, meta(counter, true), meta(SystemProgram.programId)]));
    await send(onL1, [player], call([1, bump, 255, 255, 255, 255, ...IDENTITY.toBuffer()], [
        payer, meta(counter, true), meta(COUNTER), of("buffer", COUNTER), of("delegation", DELEGATION),
        of("delegation-metadata", DELEGATION), meta(SystemProgram.programId), meta(DELEGATION),
    ]));
    for (const by of [1, 2, 3, 4, 5]) await send(here, [player], call([2, by, 0, 0, 0, 0, 0, 0, 0], [meta(counter, true)]));
    assert.equal((await here.getAccountInfo(counter)).data.readBigUInt64LE(0), 15n);
    await send(here, [player], call([4], [payer, meta(counter, true), meta(CONTEXT, true), meta(MAGIC)]));
    const settled = await until(async () => {
        const found = await onL1.getAccountInfo(counter);
        return found?.owner.equals(COUNTER) && found;
    }, "the settlement", 60_000);
    assert.equal(settled.data.readBigUInt64LE(0), 15n);
});
