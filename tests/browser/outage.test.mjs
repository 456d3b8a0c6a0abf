// Chains that are not the arcade's: L1 goes away in the middle of a match; a rollup that somebody else
// runs.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ROOT, picture, startArcade, startBrowser, startChains } from './arcade.mjs';
import { button, choose, frame, insertQuarter, quit, untilFrame, untilFrameOrEnd, untilKept } from './player.mjs';

const PATIENCE_MS = 60_000;
/** A match that ended while L1 was away is settled this long after L1 is back. */
const SETTLED_MS = 120_000;
/** L1 is told of a match that goes on every 30 s. */
const TOLD_MS = 60_000;
/** Fighters may have fallen off the stage before that, though seldom in this world: so many matches are tried. */
const MATCHES = 6;
/** Where a SessionState has its frame. */
const STATE_FRAME = 4;

let chains;
let browser;

/** One command of the binary, as a person types it. */
async function worldline(...words) {
  const { stdout } = await promisify(execFile)(process.env.WORLDLINE, words, { cwd: ROOT });
  return stdout;
}

before(async () => {
  chains = await startChains();
  const [key, l1] = [['--keypair', join(chains.data, 'id.json')], ['--l1', chains.l1]];
  await worldline('chain', 'wallet', 'new', ...key);
  await worldline('chain', 'wallet', 'airdrop', '100', ...key, ...l1);
  await worldline('upload', 'worlds/melee.cart', '--yes', ...key, ...l1);
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await chains?.stop();
});

/** Somebody who has played a second against a machine. */
async function playing(arcade) {
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 800 } })).newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  await insertQuarter(page, arcade.address, /Random/);
  const session = page.url().split('/').pop();
  await choose(page, 0);
  await button(page, 'Press start').click();
  await untilFrame(page, 60);
  return { page, session };
}

async function settledAndValid(page, session) {
  await untilKept(page, SETTLED_MS);
  assert.match(await worldline('verify', session, '--l1', chains.l1), /^valid/);
  await page.context().close();
}

test('L1 goes away in the middle of a match: play goes on, the player is told, L1 gets it later', async () => {
  const authority = join(chains.data, 'l1', 'authority.json');
  const arcade = await startArcade({ chains: ['--l1', chains.l1, '--admin', authority, '--rollup-port', '0'] });
  try {
    const { page, session } = await playing(arcade);
    await chains.crash();
    await untilFrameOrEnd(page, (await frame(page)) + 60);
    await page.getByText(/L1 cannot be reached/).waitFor();
    await picture(page, 'l1-away');
    // A page that is opened meanwhile has the match and the seat again.
    await page.reload();
    await untilFrameOrEnd(page, 1);
    assert.equal(await page.locator('.role').textContent(), 'P1');
    await quit(page);
    chains = await startChains({ data: chains.data, port: chains.port });
    await settledAndValid(page, session);
  } finally {
    await arcade.stop();
  }
});

/** One question to a chain. */
async function ask(url, method, ...params) {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  return (await answer.json()).result;
}

/** The frame of the match that L1 knows: of the one account that is committed by the clock; `null` once it is over. */
async function frameOnL1() {
  const { delegations } = await ask(chains.rollup, 'getRollupState');
  const state = delegations.find((one) => one.commitEveryMs !== null);
  if (state === undefined) return null;
  const { value } = await ask(chains.l1, 'getAccountInfo', state.account, { encoding: 'base64' });
  return Buffer.from(value.data[0], 'base64').readUInt32LE(STATE_FRAME);
}

/** A match of which L1 was told while it was played. One that is over sooner is followed by another. */
async function toldMeanwhile(arcade) {
  for (let turn = 0; turn < MATCHES; turn++) {
    const { page, session } = await playing(arcade);
    const start = Date.now();
    for (let frame = 0; frame !== null; frame = await frameOnL1()) {
      if (frame > 0) return { page, session };
      assert.ok(Date.now() - start < TOLD_MS, 'L1 was never told of the match');
      await sleep(1000);
    }
    await page.context().close();
  }
  throw new Error(`none of ${MATCHES} matches went on until L1 is told`);
}

test('an arcade plays on a rollup that somebody else runs, and L1 is told the score meanwhile', async () => {
  const arcade = await startArcade({ chains: ['--l1', chains.l1, '--rollup', chains.rollup] });
  try {
    const { page, session } = await toldMeanwhile(arcade);
    await quit(page);
    await settledAndValid(page, session);
  } finally {
    await arcade.stop();
  }
});
