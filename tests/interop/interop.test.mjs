// MagicBlock's own validator over our box: the same program, the same delegation program, the same
// client. What our rollup does for a game, a stock one does as well, within its own limits.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Keypair, LAMPORTS_PER_SOL, PublicKey, SystemProgram, TransactionInstruction } from "@solana/web3.js";
import { until } from "../chain/cabinet.mjs";
import { CONTEXT, DELEGATION, IDENTITY, MAGIC, find, meta, send, start } from "./stock.mjs";

const key = (text) => new PublicKey(text);
const COUNTER = key("Counter111111111111111111111111111111111111");
let chains;

before(async () => (chains = await start([[COUNTER, process.env.WORLDLINE_COUNTER]])), { timeout: 120_000 });
after(() => chains?.stop());

test("what is lent to MagicBlock's validator is played on there and comes back", { timeout: 120_000 }, async () => {
    const { onL1, here } = chains;
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
