// The box, seen through @solana/kit as it comes from npm.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
    AccountRole, address, airdropFactory, appendTransactionMessageInstruction, createSolanaRpc,
    createSolanaRpcSubscriptions, createTransactionMessage, generateKeyPairSigner, getBase64EncodedWireTransaction,
    getSignatureFromTransaction, lamports, pipe, sendAndConfirmTransactionFactory, setTransactionMessageFeePayerSigner,
    setTransactionMessageLifetimeUsingBlockhash, signTransactionMessageWithSigners,
} from "@solana/kit";
import { start, until } from "./cabinet.mjs";

let l1, rpc, rpcSubscriptions, payer;
const SYSTEM = address("11111111111111111111111111111111");

before(async () => {
    l1 = await start("l1");
    rpc = createSolanaRpc(l1.rpc);
    rpcSubscriptions = createSolanaRpcSubscriptions(l1.ws);
    payer = await generateKeyPairSigner();
    await airdropFactory({ rpc, rpcSubscriptions })({
        commitment: "confirmed", recipientAddress: payer.address, lamports: lamports(10_000_000_000n),
    });
});
after(() => l1.stop());

/** The system program's transfer: instruction 2, lamports. */
function transfer(to, amount) {
    const data = new Uint8Array(12);
    new DataView(data.buffer).setUint32(0, 2, true);
    new DataView(data.buffer).setBigUint64(4, amount, true);
    return {
        programAddress: SYSTEM, data,
        accounts: [
            { address: payer.address, role: AccountRole.WRITABLE_SIGNER, signer: payer },
            { address: to, role: AccountRole.WRITABLE },
        ],
    };
}

async function signed(instruction, version = 0) {
    const { value: latest } = await rpc.getLatestBlockhash().send();
    return signTransactionMessageWithSigners(pipe(
        createTransactionMessage({ version }),
        (message) => setTransactionMessageFeePayerSigner(payer, message),
        (message) => setTransactionMessageLifetimeUsingBlockhash(latest, message),
        (message) => appendTransactionMessageInstruction(instruction, message),
    ));
}

test("a transaction is sent, confirmed by subscription and looked up", async () => {
    const to = (await generateKeyPairSigner()).address;
    const transaction = await signed(transfer(to, 1_000_000_000n));
    await sendAndConfirmTransactionFactory({ rpc, rpcSubscriptions })(transaction, { commitment: "confirmed" });
    const { value } = await rpc.getBalance(to).send();
    assert.equal(value, 1_000_000_000n);
    const signature = getSignatureFromTransaction(transaction);
    const found = await rpc.getTransaction(signature, { encoding: "json", maxSupportedTransactionVersion: 0 }).send();
    assert.equal(found.meta.fee, 5000n);
    assert.equal(found.version, 0);
    const { value: [status] } = await rpc.getSignatureStatuses([signature]).send();
    assert.equal(status.confirmationStatus, "finalized");
});

test("an account's changes arrive as they happen", async () => {
    const to = (await generateKeyPairSigner()).address;
    const ending = new AbortController();
    const changes = await rpcSubscriptions
        .accountNotifications(to, { commitment: "processed", encoding: "base64" })
        .subscribe({ abortSignal: ending.signal });
    const heard = (async () => {
        for await (const { value } of changes) return value.lamports;
    })();
    const transaction = await signed(transfer(to, 2_000_000_000n));
    await rpc.sendTransaction(getBase64EncodedWireTransaction(transaction), { encoding: "base64" }).send();
    assert.equal(await heard, 2_000_000_000n);
    ending.abort();
});

test("accounts come in every encoding", async () => {
    const clock = address("SysvarC1ock11111111111111111111111111111111");
    for (const encoding of ["base58", "base64", "base64+zstd", "jsonParsed"]) {
        const { value } = await rpc.getAccountInfo(clock, { encoding }).send();
        assert.equal(value.data[1], encoding === "jsonParsed" ? "base64" : encoding);
        assert.equal(value.space, 40n);
    }
    const { value } = await rpc.getMultipleAccounts([clock, payer.address], { encoding: "base64", dataSlice: { offset: 0, length: 8 } }).send();
    assert.equal(Buffer.from(value[0].data[0], "base64").length, 8);
    assert.equal(value[1].owner, SYSTEM);
});

test("a failure is told with its logs before it costs anything", async () => {
    const failed = '{"InstructionError":[0,{"Custom":1}]}';
    const shown = (error) => JSON.stringify(error, (_, part) => (typeof part === "bigint" ? Number(part) : part));
    const to = (await generateKeyPairSigner()).address;
    const transaction = await signed(transfer(to, 100_000_000_000n));
    const wire = getBase64EncodedWireTransaction(transaction);
    const { value } = await rpc.simulateTransaction(wire, { encoding: "base64" }).send();
    assert.equal(shown(value.err), failed);
    await assert.rejects(rpc.sendTransaction(wire, { encoding: "base64" }).send(), (error) => {
        assert.equal(error.context.__code, -32002);
        assert.ok(error.context.logs.some((line) => line.includes("insufficient lamports")));
        return true;
    });
    // Without a preflight it lands, fails, and pays its fee.
    const balance = async () => (await rpc.getBalance(payer.address, { commitment: "processed" }).send()).value;
    const had = await balance();
    await rpc.sendTransaction(wire, { encoding: "base64", skipPreflight: true }).send();
    const signature = getSignatureFromTransaction(transaction);
    const status = await until(async () => {
        const { value: [status] } = await rpc.getSignatureStatuses([signature]).send();
        return status?.confirmationStatus === "finalized" && status;
    }, "the failed transaction");
    assert.equal(shown(status.err), failed);
    assert.equal(await balance(), had - 5000n);
});
