// What a player does at a window, for tests and for the first frame's time.

export const button = (page, name) => page.getByRole('button', { name });

/** How often a click that missed is tried again. */
const TURNS = 5;

/** Opens a match against `opponent` and answers its link. */
export async function insertQuarter(page, address, opponent) {
  await page.goto(address);
  await page.getByRole('radio', { name: opponent }).check({ force: true });
  await button(page, 'Insert quarter').click();
  await page.waitForURL(/#\/s\/[A-Za-z0-9]+$/);
  return page.url();
}

/** Picks the fighter at `index` of the roster. */
export async function choose(page, index) {
  const fighters = page.getByRole('group', { name: 'Your fighter' }).getByRole('radio');
  await fighters.first().waitFor({ state: 'attached' });
  const fighter = fighters.nth(index % (await fighters.count()));
  // Rows above may come and go while somebody sits down, and move what is being clicked.
  for (let turn = 0; !(await fighter.isChecked()) && turn < TURNS; turn++) {
    await fighter.check({ force: true }).catch(() => {});
  }
  await fighter.check({ force: true });
}

/** The number of the last painted frame. */
export const frame = (page) => page.evaluate(() => window.__worldline.lastFrame);

export async function untilFrame(page, least) {
  await page.waitForFunction((n) => window.__worldline.lastFrame >= n, least, { timeout: 60_000 });
}

const result = (page) => page.getByRole('dialog', { name: 'Result' });

/**
 * Waits for a frame, or for the end of the match: fighters fall off a stage by themselves, in a small
 * world within seconds. Answers whether the match goes on.
 */
export function untilFrameOrEnd(page, least) {
  return Promise.any([untilFrame(page, least).then(() => true), result(page).waitFor().then(() => false)]);
}

/** Ends a match, unless it ends by itself. */
export async function quit(page) {
  const ask = async () => {
    await button(page, 'Quit').click();
    await page.getByRole('dialog').getByRole('button', { name: 'Quit' }).click();
  };
  await Promise.any([ask(), result(page).waitFor()]);
}

/** Waits until L1 keeps the match. */
export async function untilKept(page, patience) {
  await page.getByRole('link', { name: 'Watch the replay' }).waitFor({ timeout: patience });
}
