// Worlds of code in a browser: one is made, runs a cell, is branched, and two branches are compared.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { picture, startArcade, startBrowser } from './arcade.mjs';
import { button } from './player.mjs';

let arcade;
let browser;

before(async () => {
  arcade = await startArcade({ native: true });
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await arcade?.stop();
});

test('a world is made, runs cells, branches, and its branches are compared', async (t) => {
  const about = await (await fetch(`${arcade.address}/api/about`)).json();
  if (!about.worlds) return t.skip(`this host or this build runs no worlds of code:\n${arcade.log()}`);
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  page.setDefaultTimeout(60_000);
  const problems = [];
  page.on('pageerror', (error) => problems.push(error.message));
  const marks = page.locator('.lineage-map g');
  const cell = page.getByLabel('Python cell');
  const run = async (code) => {
    await cell.fill(code);
    await page.getByRole('button', { name: 'Run', exact: true }).click();
  };

  await page.goto(`${arcade.address}/#/worlds`);
  await button(page, 'New world').click();
  await run('x = 20\nx + 1');
  await page.locator('.cell.ok pre', { hasText: '21' }).waitFor();

  const before = await marks.count();
  await button(page, 'Branch 3 ways').click();
  await page.waitForFunction((n) => document.querySelectorAll('.lineage-map g').length >= n, before + 3);

  // Two of the branches go their own ways with what they have in common.
  const running = page.locator('.lineage-map g.running');
  const count = await running.count();
  assert.ok(count >= 4, `${count} worlds run`);
  for (const [index, code] of [[count - 2, 'x += 1; x'], [count - 1, 'x += 2; x']]) {
    await running.nth(index).click();
    await run(code);
    await page.locator('.cell.ok pre', { hasText: String(21 + (index - count + 2)) }).waitFor();
  }
  await button(page, 'Compare with the one before').click();
  await page.getByText(/They part at step/).waitFor();
  await picture(page, 'worlds');

  await run('1 / 0');
  await page.locator('.cell.error pre', { hasText: 'ZeroDivisionError' }).waitFor();
  await page.goto(`${arcade.address}/#/api`);
  await page.getByText('/instance/{instance_id}/branch').or(page.getByText(/\/instance\/\{.*\}\/branch/)).first().waitFor();
  assert.deepEqual(problems, []);
});
