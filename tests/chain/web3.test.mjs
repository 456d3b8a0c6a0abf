// The box, seen through @solana/web3.js as it comes from npm.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
    AddressLookupTableProgram, ComputeBudgetProgram, Connection, Keypair, LAMPORTS_PER_SOL, NONCE_ACCOUNT_LENGTH,
    SystemProgram, Transaction, TransactionMessage, VersionedTransaction, sendAndConfirmTransaction,
} from "@solana/web3.js";
import { start, until } from "./cabinet.mjs";

let l1, connection;
const payer = Keypair.generate();
const transfer = (to, lamports, from = payer) =>
    new Transaction().add(SystemProgram.transfer({ fromPubkey: from.publicKey, toPubkey: to, lamports }));

before(async () => {
    l1 = await start("l1");
    // No WebSocket URL: the library takes the next port.
    connection = new Connection(l1.rpc, "confirmed");
    const signature = await connection.requestAirdrop(payer.publicKey, 100 * LAMPORTS_PER_SOL);
    await connection.confirmTransaction({ signature, ...(await connection.getLatestBlockhash()) });
});
after(() => l1.stop());

test("a transfer costs its payer its fee and is there to be looked up", async () => {
    const to = Keypair.generate().publicKey;
    const had = await connection.getBalance(payer.publicKey);
    const signature = await sendAndConfirmTransaction(connection, transfer(to, LAMPORTS_PER_SOL), [payer]);
    assert.equal(await connection.getBalance(to), LAMPORTS_PER_SOL);
    assert.equal(await connection.getBalance(payer.publicKey), had - LAMPORTS_PER_SOL - 5000);

    const { value } = await connection.getSignatureStatus(signature);
    assert.equal(value.err, null);
    assert.equal(value.confirmationStatus, "finalized");
    const found = await connection.getTransaction(signature, { maxSupportedTransactionVersion: 0 });
    assert.equal(found.meta.fee, 5000);
    assert.equal(found.version, "legacy");
    assert.ok(found.meta.computeUnitsConsumed > 0);
    assert.deepEqual(found.transaction.message.accountKeys[0], payer.publicKey);
    const parsed = await connection.getParsedTransaction(signature);
    assert.ok(parsed.transaction.message.accountKeys[0].signer);
    const listed = await connection.getSignaturesForAddress(to);
    assert.deepEqual(listed.map((one) => one.signature), [signature]);
    assert.ok(found.blockTime > 1_600_000_000);
});

test("the chain describes itself", async () => {
    assert.match((await connection.getVersion())["solana-core"], /^4\./);
    assert.match(await connection.getGenesisHash(), /^\w{32,44}$/);
    assert.equal(await connection.getMinimumBalanceForRentExemption(0), 890_880);
    assert.equal(await connection.getMinimumBalanceForRentExemption(165), 2_039_280);
    const slot = await connection.getSlot();
    const info = await connection.getEpochInfo();
    assert.ok(info.absoluteSlot >= slot && slot > 0);
    await until(async () => (await connection.getSlot()) > slot + 1, "two more blocks");
    const latest = await connection.getLatestBlockhash();
    assert.ok(latest.lastValidBlockHeight > (await connection.getBlockHeight()) + 100);
    assert.ok((await connection.isBlockhashValid(latest.blockhash)).value);
    assert.ok(!(await connection.isBlockhashValid(Keypair.generate().publicKey.toBase58())).value);
    const message = transfer(payer.publicKey, 1);
    message.recentBlockhash = latest.blockhash;
    message.feePayer = payer.publicKey;
    assert.equal((await connection.getFeeForMessage(message.compileMessage())).value, 5000);
});

test("subscribers hear of accounts, programs, logs, signatures and slots", async () => {
    const nonce = Keypair.generate();
    const heard = { accounts: [], programs: [], logs: [], slots: 0 };
    const account = connection.onAccountChange(nonce.publicKey, (info, { slot }) => heard.accounts.push([info, slot]));
    const program = connection.onProgramAccountChange(
        SystemProgram.programId, (info) => heard.programs.push(info), "processed", [{ dataSize: NONCE_ACCOUNT_LENGTH }]);
    const logs = connection.onLogs(nonce.publicKey, (logs) => heard.logs.push(logs));
    const slots = connection.onSlotChange(() => heard.slots++);
    await until(() => heard.slots > 1, "slots");
    const signature = await sendAndConfirmTransaction(connection, new Transaction().add(SystemProgram.createNonceAccount({
        fromPubkey: payer.publicKey, noncePubkey: nonce.publicKey, authorizedPubkey: payer.publicKey,
        lamports: await connection.getMinimumBalanceForRentExemption(NONCE_ACCOUNT_LENGTH),
    })), [payer, nonce]);
    await until(() => heard.accounts.length && heard.programs.length && heard.logs.length, "notifications");
    assert.equal(heard.accounts[0][0].data.length, NONCE_ACCOUNT_LENGTH);
    assert.deepEqual(heard.programs.map((one) => one.accountId.toBase58()), [nonce.publicKey.toBase58()]);
    assert.equal(heard.logs[0].signature, signature);
    assert.equal(heard.logs[0].err, null);
    await connection.removeAccountChangeListener(account);
    await connection.removeProgramAccountChangeListener(program);
    await connection.removeOnLogsListener(logs);
    await connection.removeSlotChangeListener(slots);

    const of = (filters, more) => connection.getProgramAccounts(SystemProgram.programId, { filters, ...more });
    const sized = { dataSize: NONCE_ACCOUNT_LENGTH };
    const authority = { memcmp: { offset: 8, bytes: payer.publicKey.toBase58() } };
    const [found] = await of([sized, authority], { dataSlice: { offset: 8, length: 32 } });
    assert.deepEqual(found.pubkey, nonce.publicKey);
    assert.deepEqual(found.account.data, payer.publicKey.toBuffer());
    assert.deepEqual(await of([sized, { memcmp: { offset: 9, bytes: payer.publicKey.toBase58() } }]), []);
    const both = await connection.getMultipleAccountsInfo([nonce.publicKey, Keypair.generate().publicKey]);
    assert.deepEqual(both.map((one) => one?.data.length), [NONCE_ACCOUNT_LENGTH, undefined]);
});

test("versioned transactions find accounts in lookup tables", async () => {
    const [create, table] = AddressLookupTableProgram.createLookupTable({
        authority: payer.publicKey, payer: payer.publicKey, recentSlot: (await connection.getSlot("processed")) - 1,
    });
    const to = Keypair.generate().publicKey;
    const extend = AddressLookupTableProgram.extendLookupTable({
        payer: payer.publicKey, authority: payer.publicKey, lookupTable: table, addresses: [to],
    });
    await sendAndConfirmTransaction(connection, new Transaction().add(create, extend), [payer]);
    const { value } = await connection.getAddressLookupTable(table);
    assert.deepEqual(value.state.addresses, [to]);
    const latest = await connection.getLatestBlockhash();
    const message = new TransactionMessage({
        payerKey: payer.publicKey, recentBlockhash: latest.blockhash,
        instructions: transfer(to, LAMPORTS_PER_SOL).instructions,
    }).compileToV0Message([value]);
    const transaction = new VersionedTransaction(message);
    transaction.sign([payer]);
    const signature = await connection.sendTransaction(transaction);
    await connection.confirmTransaction({ signature, ...latest });
    assert.equal(await connection.getBalance(to), LAMPORTS_PER_SOL);
    const found = await connection.getTransaction(signature, { maxSupportedTransactionVersion: 0 });
    assert.equal(found.version, 0);
    assert.deepEqual(found.meta.loadedAddresses.writable, [to]);
});

test("what cannot be is refused, and costs nothing", async () => {
    const had = await connection.getBalance(payer.publicKey);
    const poor = transfer(Keypair.generate().publicKey, 1000 * LAMPORTS_PER_SOL);
    await assert.rejects(sendAndConfirmTransaction(connection, poor, [payer]), /custom program error: 0x1/);
    const dust = transfer(Keypair.generate().publicKey, 1);
    await assert.rejects(sendAndConfirmTransaction(connection, dust, [payer]), /insufficient funds for rent/);
    await assert.rejects(connection.requestAirdrop(payer.publicKey, 1e15), /an airdrop gives 1 to/);

    const latest = await connection.getLatestBlockhash();
    const forged = transfer(payer.publicKey, 1);
    forged.recentBlockhash = latest.blockhash;
    forged.feePayer = payer.publicKey;
    forged.sign(payer);
    forged.signatures[0].signature[5] ^= 1;
    await assert.rejects(connection.sendRawTransaction(forged.serialize({ verifySignatures: false })), /signature verification/);
    const stale = transfer(payer.publicKey, 1);
    stale.recentBlockhash = Keypair.generate().publicKey.toBase58();
    stale.feePayer = payer.publicKey;
    stale.sign(payer);
    await assert.rejects(connection.sendRawTransaction(stale.serialize()), /Blockhash not found/);
    assert.equal(await connection.getBalance(payer.publicKey), had);
});

test("the box keeps Solana's limits", async () => {
    const simulate = async (...instructions) => {
        const { blockhash } = await connection.getLatestBlockhash();
        const message = new TransactionMessage({ payerKey: payer.publicKey, recentBlockhash: blockhash, instructions });
        const transaction = new VersionedTransaction(message.compileToLegacyMessage());
        return (await connection.simulateTransaction(transaction)).value;
    };
    const [move] = transfer(payer.publicKey, 1).instructions;
    const few = await simulate(ComputeBudgetProgram.setComputeUnitLimit({ units: 200 }), move);
    assert.deepEqual(few.err, { InstructionError: [1, "ComputationalBudgetExceeded"] });
    const enough = await simulate(ComputeBudgetProgram.setComputeUnitLimit({ units: 1000 }), move);
    assert.deepEqual([enough.err, enough.unitsConsumed], [null, 300]);

    const large = SystemProgram.createAccount({
        fromPubkey: payer.publicKey, newAccountPubkey: Keypair.generate().publicKey,
        lamports: LAMPORTS_PER_SOL, space: 11 << 20, programId: SystemProgram.programId,
    });
    assert.deepEqual((await simulate(large)).err, { InstructionError: [0, { Custom: 3 }] });
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "sendTransaction",
        params: [Buffer.alloc(1233).toString("base64"), { encoding: "base64" }] });
    const answer = await fetch(l1.rpc, { method: "POST", body });
    assert.match((await answer.json()).error.message, /too large: 1233 bytes/);
});

test("a transaction runs once, however often it is sent", async () => {
    const to = Keypair.generate().publicKey;
    const latest = await connection.getLatestBlockhash();
    const transaction = transfer(to, LAMPORTS_PER_SOL);
    transaction.recentBlockhash = latest.blockhash;
    transaction.feePayer = payer.publicKey;
    transaction.sign(payer);
    const raw = transaction.serialize();
    const sent = await Promise.allSettled([1, 2, 3, 4].map(() => connection.sendRawTransaction(raw, { skipPreflight: true })));
    assert.ok(sent.every((one) => one.status === "fulfilled"), JSON.stringify(sent));
    await connection.confirmTransaction({ signature: sent[0].value, ...latest });
    assert.equal(await connection.getBalance(to), LAMPORTS_PER_SOL);
});
