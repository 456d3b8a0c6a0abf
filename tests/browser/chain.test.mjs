// What only a chain has: a world forked, played, retired for its rent; a wallet that announces itself;
// a power cut in the middle of a match.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { picture, startArcade, startBrowser } from './arcade.mjs';
import { button, choose, frame, insertQuarter, quit, untilFrame, untilFrameOrEnd, untilKept } from './player.mjs';

const PATIENCE_MS = 60_000;
/** After a power cut both chains catch up before they settle. */
const SETTLED_MS = 120_000;
/** Deposits and fees are told apart from rounding by less than this, SOL. */
const CLOSE_SOL = 0.02;

let arcade;
let browser;

before(async () => {
  arcade = await startArcade();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await arcade?.stop();
});

async function person() {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  return page;
}

/** What the wallet page says that the wallet holds. */
async function holds(page) {
  await page.goto(`${arcade.address}/#/wallet`);
  const text = page.getByText(/It holds [\d.,]+ SOL/);
  await text.waitFor();
  return Number(/It holds ([\d.,]+) SOL/.exec(await text.textContent())[1].replaceAll(',', ''));
}

async function playAlone(page) {
  await choose(page, 0);
  await button(page, 'Press start').click();
  await untilFrame(page, 60);
}

async function finish(page, patience = PATIENCE_MS) {
  await quit(page);
  await untilKept(page, patience);
}

test('a world is forked, the fork is played, and retired for its rent', async () => {
  const page = await person();
  await page.goto(arcade.address);
  await page.getByRole('radio', { name: /^micro/ }).check({ force: true });
  await page.getByRole('link', { name: 'Its page on L1' }).click();
  await page.getByText(/deposit, returned when the fork is retired/).waitFor();
  await page.getByLabel('Name').fill('my-micro');
  await button(page, 'Fork this world').click();
  await page.getByRole('heading', { name: 'my-micro' }).waitFor();
  const lineage = page.locator('.lineage li');
  assert.deepEqual(await lineage.count(), 2, 'the parent and the fork');
  await picture(page, 'world');
  const address = page.url().split('/').pop();

  await page.goto(`${arcade.address}/#/`);
  await page.getByRole('radio', { name: /^my-micro/ }).check({ force: true });
  await page.getByRole('radio', { name: /Random/ }).check({ force: true });
  await button(page, 'Insert quarter').click();
  await playAlone(page);
  await finish(page);

  const before = await holds(page);
  await page.goto(`${arcade.address}/#/w/${address}`);
  await page.locator('.rows a').first().waitFor();
  const rent = Number(/([\d.]+) SOL/.exec(await page.locator('.readout', { hasText: 'Rent locked' }).textContent())[1]);
  await button(page, 'Retire it').click();
  await page.getByRole('dialog').getByRole('button', { name: 'Retire' }).click();
  await page.getByText(/^Retired\./).waitFor();
  const back = (await holds(page)) - before;
  assert.ok(Math.abs(back - rent) < CLOSE_SOL, `${back} SOL of ${rent} came back`);
  await page.goto(`${arcade.address}/#/w/${address}`);
  await page.getByRole('heading', { name: 'No such world' }).waitFor();
  await page.context().close();
});

test('a session that nobody joined is cancelled, and its deposits return', async () => {
  const page = await person();
  await insertQuarter(page, arcade.address, /friend/i);
  const opened = page.url();
  await page.getByRole('heading', { name: /Session/ }).or(page.getByText('Waiting for the second player.')).first().waitFor();
  await button(page, 'Leave').click();
  const deadline = Date.now() + PATIENCE_MS;
  // 50 SOL of play money, less fees and what the delegation program keeps of each account.
  while ((await holds(page)) < 49.9) {
    assert.ok(Date.now() < deadline, `the deposits of ${opened} never came back`);
    await sleep(500);
  }
  await page.context().close();
});

test('a wallet of the Wallet Standard takes a seat', async () => {
  const page = await person();
  // The smallest wallet that keeps to the standard; it signs with the key that it makes.
  await page.addInitScript(() => {
    const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
    const base58 = (bytes) => {
      let [value, text] = [bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n), ''];
      for (; value > 0n; value /= 58n) text = ALPHABET[Number(value % 58n)] + text;
      return '1'.repeat(bytes.findIndex((byte) => byte !== 0)) + text;
    };
    window.__signed = 0;
    const ready = (async () => {
      const keys = await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify']);
      const publicKey = new Uint8Array(await crypto.subtle.exportKey('raw', keys.publicKey));
      const account = { address: base58(publicKey), publicKey, chains: ['solana:localnet'], features: ['solana:signTransaction'] };
      return { keys, publicKey, account };
    })();
    const wallet = {
      version: '1.0.0',
      name: 'Test Wallet',
      icon: 'data:image/svg+xml;base64,PHN2Zy8+',
      chains: ['solana:localnet'],
      accounts: [],
      features: {
        'standard:connect': { version: '1.0.0', connect: async () => ({ accounts: [(await ready).account] }) },
        'solana:signTransaction': {
          version: '1.0.0',
          supportedTransactionVersions: ['legacy', 0],
          signTransaction: async (...inputs) => {
            const { keys, publicKey } = await ready;
            return Promise.all(inputs.map(async ({ transaction }) => {
              window.__signed += 1;
              const signed = Uint8Array.from(transaction);
              const count = signed[0];
              const message = signed.subarray(1 + 64 * count);
              const signature = new Uint8Array(await crypto.subtle.sign('Ed25519', keys.privateKey, message));
              const at = Array.from({ length: count }, (_, index) => message.subarray(4 + 32 * index, 36 + 32 * index))
                .findIndex((key) => key.every((byte, place) => byte === publicKey[place]));
              signed.set(signature, 1 + 64 * at);
              return { signedTransaction: signed };
            }));
          },
        },
      },
    };
    const register = ({ register }) => register(wallet);
    window.addEventListener('wallet-standard:app-ready', ({ detail }) => register(detail));
    window.dispatchEvent(new CustomEvent('wallet-standard:register-wallet', { detail: register }));
  });
  await page.goto(`${arcade.address}/#/wallet`);
  await button(page, 'Test Wallet').click();
  await page.locator('.lead b', { hasText: 'Test Wallet' }).waitFor();
  await picture(page, 'wallet');
  await page.goto(`${arcade.address}/#/`);
  await page.getByRole('radio', { name: /Random/ }).check({ force: true });
  await button(page, 'Insert quarter').click();
  await playAlone(page);
  const asked = await page.evaluate(() => window.__signed);
  await sleep(2_000);
  assert.ok(asked > 0);
  assert.equal(await page.evaluate(() => window.__signed), asked, 'nobody signs while playing');
  await finish(page);
  await page.context().close();
});

test('a power cut in the middle of a match, and it goes on', async () => {
  const page = await person();
  await insertQuarter(page, arcade.address, /Random/);
  const session = page.url().split('/').pop();
  await playAlone(page);
  const reached = await frame(page);
  await arcade.crash();
  arcade = await startArcade({ data: arcade.data, port: arcade.port });
  await untilFrameOrEnd(page, reached + 120);
  await finish(page, SETTLED_MS);
  const { stdout } = await promisify(execFile)(process.env.WORLDLINE, ['verify', session, '--l1', arcade.l1]);
  assert.match(stdout, /^valid/);
  await page.context().close();
});
