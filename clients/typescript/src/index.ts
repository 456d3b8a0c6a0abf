/**
 * Learned worlds on Solana, for `@solana/kit`: every instruction and account of the program, and on
 * top what a player needs.
 *
 * ```ts
 * const at = await sessionAddresses(payer.address, 'GAME01');
 * await send(sitDown({ ...at, wallet, sessionKey, seat: 1, character: 20 }));
 * const pads = padSender({ ...at, sessionKey, seat: 1, send });
 * for await (const state of states(rollup, at.state, { abortSignal })) draw(state);
 * ```
 *
 * It never knows which chain it speaks to: a box, a rollup, a test validator and the main net take
 * the same instructions.
 */
export * from './generated';
export { sessionAddresses, sessionId, sitDown, type SessionAddresses } from './session';
export { padSender, type PadSender } from './input';
export { changes, states } from './subscribe';
export { sender, type Sender, type SendingRpc } from './send';
export { type Batch, closeSession, giveBack, lendSession, type NewSession, openSession, type SessionCost, sessionCost } from './open';
export { createWithSeed, forkWorld, parentOf, retireWorld, worldName, worldShards, worldSizes } from './world';
export { findResults, findScores, findSessions, findWorlds, type Found } from './find';
export { type Fault, faultOf } from './fault';
