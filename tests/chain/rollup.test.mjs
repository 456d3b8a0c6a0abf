// A rollup over the box, seen through both libraries as they come from npm: what L1 lends is changed
// there without a lamport, told as it happens, scheduled, refused where it must be, and comes back.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import {
    AccountRole, address, appendTransactionMessageInstruction, createKeyPairSignerFromBytes, createSolanaRpc,
    createSolanaRpcSubscriptions, createTransactionMessage, getBase64EncodedWireTransaction, getSignatureFromTransaction,
    pipe, sendAndConfirmTransactionFactory, setTransactionMessageFeePayerSigner,
    setTransactionMessageLifetimeUsingBlockhash, signTransactionMessageWithSigners,
} from "@solana/kit";
import {
    Connection, Keypair, LAMPORTS_PER_SOL, PublicKey, SystemProgram, Transaction, TransactionInstruction,
    sendAndConfirmTransaction,
} from "@solana/web3.js";
import { start, until } from "./cabinet.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const dumps = join(root, "programs/delegation/node_modules/@magicblock-labs/ephemeral-validator/bin/local-dumps");
const key = (text) => new PublicKey(text);
const COUNTER = key("Counter111111111111111111111111111111111111");
const DELEGATION = key("DELeGGvXpWV2fqJUhqcF5ZSYMS4JTLjteaAMARRSaeSh");
const MAGIC = key("Magic11111111111111111111111111111111111111");
const CONTEXT = key("MagicContext1111111111111111111111111111111");
const find = (seeds, program) => PublicKey.findProgramAddressSync(seeds.map((seed) => Buffer.from(seed)), program);
const meta = (pubkey, isWritable = false, isSigner = false) => ({ pubkey, isWritable, isSigner });
const call = (data, keys) => new TransactionInstruction({ programId: COUNTER, data: Buffer.from(data), keys });
const add = (by) => [2, by, 0, 0, 0, 0, 0, 0, 0];

let l1, rollup, onL1, here, player, counter, payer;

before(async () => {
    l1 = await start("l1", [
        "--delegation-program", join(dumps, `${DELEGATION}.so`),
        "--program", `${COUNTER}=${join(root, "crates/cabinet/tests/counter/counter.so")}`,
    ]);
    rollup = await start("rollup", ["--l1", l1.rpc, "--l1-ws", l1.ws, "--admin", join(l1.ledger, "authority.json")]);
    const identity = key(rollup.identity);
    onL1 = new Connection(l1.rpc, "confirmed");
    here = new Connection(rollup.rpc, { commitment: "confirmed", wsEndpoint: rollup.ws });
    const [vault] = find(["v-fees-vault", identity.toBuffer()], DELEGATION);
    await until(async () => await onL1.getAccountInfo(vault), "the rollup's admission");
    player = Keypair.generate();
    await onL1.requestAirdrop(player.publicKey, 10 * LAMPORTS_PER_SOL);
    await until(async () => await onL1.getBalance(player.publicKey), "the player's lamports");
    let bump;
    [counter, bump] = find(["counter", player.publicKey.toBuffer()], COUNTER);
    const of = (seed, program) => meta(find([seed, counter.toBuffer()], program)[0], true);
    payer = meta(player.publicKey, true, true);
    const create = call([0, bump, 64, 0], [payer, meta(counter, true), meta(SystemProgram.programId)]);
    const lend = call([1, bump, 255, 255, 255, 255, ...identity.toBuffer()], [
        payer, meta(counter, true), meta(COUNTER), of("buffer", COUNTER), of("delegation", DELEGATION),
        of("delegation-metadata", DELEGATION), meta(SystemProgram.programId), meta(DELEGATION),
    ]);
    for (const one of [create, lend]) await sendAndConfirmTransaction(onL1, new Transaction().add(one), [player]);
});
after(async () => {
    await rollup?.stop();
    await l1?.stop();
});

const count = (account) => account.data.readBigUInt64LE(0);

test("web3.js changes what is lent, hears of it, and pays nothing", async () => {
    const had = await onL1.getBalance(player.publicKey);
    const heard = [];
    const watch = here.onAccountChange(counter, (account) => heard.push(count(account)), "processed");
    const one = new Transaction().add(call(add(5), [meta(counter, true)]));
    const signature = await sendAndConfirmTransaction(here, one, [player]);
    // The first that is told may be the account as it came from L1.
    await until(() => heard.includes(5n), "a notification");
    const { value } = await here.getSignatureStatus(signature);
    assert.equal(value.err, null);
    const found = await here.getTransaction(signature, { maxSupportedTransactionVersion: 0 });
    assert.equal(found.meta.fee, 0);
    await here.removeAccountChangeListener(watch);
    const [mine] = await here.getProgramAccounts(COUNTER, { filters: [{ dataSize: 64 }] });
    assert.deepEqual(mine.pubkey, counter);
    assert.equal(await onL1.getBalance(player.publicKey), had);
});

test("web3.js is told why what is not lent cannot be changed", async () => {
    const to = Keypair.generate().publicKey;
    const move = SystemProgram.transfer({ fromPubkey: player.publicKey, toPubkey: to, lamports: LAMPORTS_PER_SOL });
    await assert.rejects(sendAndConfirmTransaction(here, new Transaction().add(move), [player]), /not delegated/);
    assert.equal(await onL1.getBalance(to), 0);
});

test("kit sends, confirms by subscription and watches an account", async () => {
    const rpc = createSolanaRpc(rollup.rpc);
    const rpcSubscriptions = createSolanaRpcSubscriptions(rollup.ws);
    const signer = await createKeyPairSignerFromBytes(player.secretKey);
    const at = address(counter.toBase58());
    const ending = new AbortController();
    const changes = await rpcSubscriptions
        .accountNotifications(at, { commitment: "processed", encoding: "base64" })
        .subscribe({ abortSignal: ending.signal });
    const heard = (async () => {
        for await (const { value } of changes) return Buffer.from(value.data[0], "base64").readBigUInt64LE(0);
    })();
    const { value: latest } = await rpc.getLatestBlockhash().send();
    const transaction = await signTransactionMessageWithSigners(pipe(
        createTransactionMessage({ version: 0 }),
        (message) => setTransactionMessageFeePayerSigner(signer, message),
        (message) => setTransactionMessageLifetimeUsingBlockhash(latest, message),
        (message) => appendTransactionMessageInstruction({
            programAddress: address(COUNTER.toBase58()), data: Uint8Array.from(add(7)),
            accounts: [{ address: at, role: AccountRole.WRITABLE }],
        }, message),
    ));
    const before = count(await here.getAccountInfo(counter));
    await sendAndConfirmTransactionFactory({ rpc, rpcSubscriptions })(transaction, { commitment: "confirmed" });
    assert.equal(await heard, before + 7n);
    ending.abort();
    const wire = getBase64EncodedWireTransaction(transaction);
    const again = await rpc.sendTransaction(wire, { encoding: "base64" }).send();
    assert.equal(again, getSignatureFromTransaction(transaction), "sent twice, it has run once");
    const { value } = await rpc.getAccountInfo(at, { encoding: "base64" }).send();
    assert.equal(Buffer.from(value.data[0], "base64").readBigUInt64LE(0), before + 7n);
});

test("a task runs sixty times a second, and what was lent comes back with what it did", { timeout: 60_000 }, async () => {
    const before = count(await here.getAccountInfo(counter));
    const data = Buffer.alloc(17);
    data[0] = 6;
    data.writeBigInt64LE(16n, 1);
    data.writeBigInt64LE(60n, 9);
    const started = Date.now();
    await sendAndConfirmTransaction(here, new Transaction().add(call(data, [payer, meta(counter, true), meta(MAGIC)])), [player]);
    await until(async () => count(await here.getAccountInfo(counter)) === before + 60n, "sixty runs");
    assert.ok(Date.now() - started > 900, "a second of frames takes a second");
    const back = call([4], [payer, meta(counter, true), meta(CONTEXT, true), meta(MAGIC)]);
    await sendAndConfirmTransaction(here, new Transaction().add(back), [player]);
    const settled = await until(async () => {
        const found = await onL1.getAccountInfo(counter);
        return found?.owner.equals(COUNTER) && found;
    }, "the settlement", 30_000);
    assert.equal(count(settled), before + 60n);
});
