// A whole match in two browsers, as two people would play it, through the real server, the rollup and
// L1 in a box: create, join by link, choose, play, see the result, watch the replay, verify it.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { picture, startArcade, startBrowser } from './arcade.mjs';
import { button, choose, frame, insertQuarter, quit, untilFrame, untilFrameOrEnd, untilKept } from './player.mjs';

/**
 * Distinct frame numbers that a player's window must paint in a second, where the arena runs the match,
 * and where two cores also carry both chains, the keeper and everything that is told of each frame.
 */
const PAINTED_MINIMUM = 55;
const PAINTED_ON_CHAIN = 40;
/** How long one measurement takes, milliseconds. */
const WINDOW_MS = 6_000;
/** A machine that is busy with something else gets this many measurements. */
const WINDOWS = 6;

const run = promisify(execFile);

const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };

let arcade;
let browser;
const problems = [];

before(async () => {
  arcade = await startArcade();
  browser = await startBrowser();
  // The first start puts the worlds onto L1.
  const page = await person('first');
  await page.goto(arcade.address);
  await page.locator('.coin:enabled').first().waitFor({ timeout: 120_000 });
  await page.context().close();
});

after(async () => {
  await browser?.close();
  await arcade?.stop();
});

/** A person at a window: own context, own storage. Whatever goes wrong in it is kept. */
async function person(name, options = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.on('pageerror', (error) => problems.push(`${name}: ${error.message}`));
  page.on('console', (line) => {
    if (line.type() === 'error') problems.push(`${name}: ${line.text()}`);
  });
  return page;
}

/** Presses keys as a hurried person does, until told to stop: who only walks is off the stage before all is seen. */
function mash(page, keys) {
  let on = true;
  const done = (async () => {
    for (let turn = 0; on; turn++) {
      const key = keys[turn % keys.length];
      await page.keyboard.down(key);
      await sleep(90);
      await page.keyboard.up(key);
    }
  })();
  return async () => {
    on = false;
    await done;
  };
}

/** Distinct frame numbers painted in a second, in one window of time. */
const paintedPerSecond = (page) =>
  page.evaluate(async (milliseconds) => {
    const meter = window.__worldline;
    const [count, start] = [meter.paintedFrames, performance.now()];
    await new Promise((done) => setTimeout(done, milliseconds));
    return ((meter.paintedFrames - count) * 1000) / (performance.now() - start);
  }, WINDOW_MS);

/** Measures until every page paints so many frames a second. */
async function paint(t, pages, least) {
  let best = 0;
  for (let turn = 0; turn < WINDOWS && best < least; turn++) {
    const rates = await Promise.all(pages.map(paintedPerSecond));
    t.diagnostic(`painted a second: ${rates.map((rate) => rate.toFixed(1)).join(', ')}`);
    best = Math.max(best, Math.min(...rates));
  }
  assert.ok(best >= least, `at best ${best.toFixed(1)} painted frames a second`);
}

test('two people play a match in two browsers', async (t) => {
  const [ann, ben] = [await person('ann'), await person('ben')];
  const watcher = await person('watcher', { viewport: PHONE });
  const names = new Map([[ann, 'ann'], [ben, 'ben'], [watcher, 'watcher']]);
  let link;
  /** A step whose failure leaves a picture of every window. */
  const step = (name, work) =>
    t.test(name, async (t) => {
      try {
        await work(t);
      } catch (problem) {
        for (const page of [ann, ben, watcher]) await picture(page, `failed-${names.get(page)}`);
        throw problem;
      }
    });

  await step('one inserts a quarter and gets a link', async () => {
    await ann.goto(arcade.address);
    await button(ann, 'Insert quarter').waitFor();
    await sleep(1_000);
    await picture(ann, 'shelf');
    link = await insertQuarter(ann, arcade.address, /friend/i);
    assert.equal(await ann.getByLabel('Invitation link').inputValue(), link);
  });

  await step('the other opens the link and takes the seat', async () => {
    await ben.goto(link);
    await button(ben, 'Take the seat').click();
    await choose(ann, 0);
    await choose(ben, 1);
    await sleep(500);
    await picture(ann, 'lobby');
  });

  await step('both press start and the match runs', async () => {
    await button(ann, 'Press start').click();
    await button(ben, 'Press start').click();
    await Promise.all([ann, ben].map((page) => untilFrame(page, 60)));
  });

  await step(`both windows paint at least ${PAINTED_ON_CHAIN} frames a second`, async () => {
    const stop = [mash(ann, ['j', 'Space', 'k', 'l']), mash(ben, ['k', 'w', 'j', 'l'])];
    await paint(t, [ann, ben], PAINTED_ON_CHAIN);
    await picture(ann, 'match');
    await Promise.all(stop.map((end) => end()));
  });

  await step('somebody else watches on a phone', async (t) => {
    await watcher.goto(link);
    if (!(await untilFrameOrEnd(watcher, (await frame(ann)) + 30))) return t.skip('the match is over');
    assert.equal(await watcher.locator('.role').textContent(), 'watching');
    await picture(watcher, 'match-phone');
  });

  await step('a reload gives the seat back', async (t) => {
    const reached = await frame(ann);
    await ann.reload();
    if (!(await untilFrameOrEnd(ann, reached + 30))) return t.skip('the match is over');
    assert.equal(await ann.locator('.role').textContent(), 'P1');
  });

  await step('one quits, and everybody sees the same result', async () => {
    await quit(ben);
    for (const page of [ann, ben, watcher]) {
      await page.getByRole('dialog', { name: 'Result' }).waitFor();
    }
    const words = await Promise.all(
      [ann, ben, watcher].map((page) => page.locator('.result .winner').textContent()),
    );
    assert.equal(new Set(words).size, 1, `they disagree: ${words.join(' / ')}`);
    await picture(ann, 'result');
    await picture(watcher, 'result-phone');
  });

  await step('the replay is watched, stepped and valid', async () => {
    await ann.getByRole('link', { name: 'Watch the replay' }).click();
    await ann.waitForURL(/#\/r\//);
    await button(ann, 'Pause').click();
    const scrub = ann.getByLabel('Frame', { exact: true });
    const at = Number(await scrub.inputValue());
    await button(ann, 'One frame on').click();
    assert.equal(Number(await scrub.inputValue()), at + 1);
    await scrub.fill('120');
    await button(ann, 'Verify').click();
    await ann.getByText(/^Valid/).waitFor({ timeout: 60_000 });
    await picture(ann, 'replay');
  });

  await step('the command line agrees with L1, and finds one changed byte', async () => {
    const session = link.split('/').pop();
    const l1 = ['--l1', arcade.l1];
    const { stdout } = await run(process.env.WORLDLINE, ['verify', session, ...l1]);
    assert.match(stdout, /^valid/);
    const file = join(arcade.data, 'kept.wlr');
    await run(process.env.WORLDLINE, ['replay', 'fetch', session, ...l1, '-o', file]);
    const bytes = await readFile(file);
    bytes[bytes.length - 9] ^= 1;
    await writeFile(file, bytes);
    const wrong = await run(process.env.WORLDLINE, ['verify', session, ...l1, '--replay', file]).catch((error) => error);
    assert.notEqual(wrong.code ?? 0, 0, `a changed byte went through: ${wrong.stdout}`);
  });

  await step('a rematch takes one click each', async () => {
    for (const page of [ann, ben]) {
      if (page === ann) await page.goto(link);
      await page.getByRole('dialog', { name: 'Result' }).waitFor();
      await button(page, 'Rematch').click();
    }
    for (const page of [ann, ben]) await page.waitForURL((url) => url.href !== link && url.hash.startsWith('#/s/'));
    assert.equal(ann.url(), ben.url());
  });

  for (const page of [ann, ben, watcher]) await page.context().close();
});

/** What the folder of worlds holds, to say in words which opponents it does not offer. */
const present = {
  Policy: async () => (await worlds()).some((world) => world.kind === 'policy'),
  Ghost: async () => (await readdir(join(arcade.worlds, 'ghost')).catch(() => [])).length > 0,
  Random: async () => true,
};
const worlds = async () => (await fetch(`${arcade.address}/api/worlds`)).json();

for (const [opponent, there] of Object.entries(present)) {
  test(`somebody alone plays against the ${opponent.toLowerCase()} opponent`, async (t) => {
    if (!(await there())) return t.skip(`the folder of worlds has no ${opponent.toLowerCase()}`);
    const page = await person(opponent);
    await insertQuarter(page, arcade.address, new RegExp(opponent));
    await choose(page, 0);
    await button(page, 'Press start').click();
    await untilFrame(page, 120);
    await picture(page, `alone-${opponent.toLowerCase()}`);
    await page.context().close();
  });
}

test('a link to nothing says so in words', async () => {
  const page = await person('lost');
  await page.goto(`${arcade.address}/#/s/Config1111111111111111111111111111111111111`);
  await page.getByRole('heading', { name: 'No such match' }).waitFor();
  await page.context().close();
});

test('the native engine still plays, on no chain', async (t) => {
  const plain = await startArcade({ native: true });
  try {
    const [page, other] = [await person('native'), await person('other')];
    const link = await insertQuarter(page, plain.address, /friend/i);
    await other.goto(link);
    await button(other, 'Take the seat').click();
    for (const [index, one] of [page, other].entries()) await choose(one, index);
    for (const one of [page, other]) await button(one, 'Press start').click();
    await Promise.all([page, other].map((one) => untilFrame(one, 60)));
    await paint(t, [page, other], PAINTED_MINIMUM);
    await quit(page);
    await untilKept(page);
    for (const one of [page, other]) await one.context().close();
    const stored = await readdir(plain.data, { recursive: true });
    const file = stored.find((name) => name.endsWith('.wlr'));
    assert.ok(file, `no replay among ${stored.join(', ')}`);
    const { stdout } = await run(process.env.WORLDLINE, ['verify', join(plain.data, file), '--worlds', plain.worlds]);
    assert.match(stdout, /^valid/);
  } finally {
    await plain.stop();
  }
});

test('no window reported an error', () => {
  assert.deepEqual(problems, []);
});
