// Starts the real server and a real browser for the tests, and stops both.

import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

export const ROOT = resolve(import.meta.dirname, '..', '..');
/** How long the server may take to answer, milliseconds. */
const START_MS = 60_000;

/** What a browser without a display, a network or an own sandbox needs to behave. */
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Two windows play at once; the one behind must not be slowed down.
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--disable-renderer-backgrounding',
];

/** Ports below those that the system gives to whoever does not care, as chains and SSH do not here. */
const PORTS = { from: 12_000, to: 32_000 };

/** A loopback port that was free a moment ago. */
export async function freePort() {
  for (;;) {
    const port = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from));
    const probe = createServer();
    const free = await new Promise((done) => {
      probe.once('error', () => done(false)).listen(port, '127.0.0.1', () => done(true));
    });
    if (!free) continue;
    await new Promise((done) => probe.close(done));
    return port;
  }
}

/**
 * The `worldline serve` of this tree on loopback: on its own chains, with `native` on none, or on the
 * `chains` that these options name. What it keeps is in `data`, an empty folder unless an earlier one
 * is given, and so is its port.
 */
export async function startArcade({ native = false, chains: named, data: earlier, port: wanted } = {}) {
  const binary = required('WORLDLINE');
  const data = earlier ?? (await mkdtemp(join(tmpdir(), 'worldline-browser-test-')));
  const port = wanted ?? (await freePort());
  const site = join(ROOT, 'web', 'dist');
  const worlds = process.env.WORLDS || join(ROOT, 'worlds');
  const l1 = await freePort();
  const chains = named ?? (native ? ['--native'] : ['--l1-port', `${l1}`, '--rollup-port', '0']);
  const child = spawn(
    binary,
    ['serve', '--port', `${port}`, '--ssh-port', '0', '--worlds', worlds, '--site', site, '--data', data, ...chains],
    { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let log = '';
  child.stdout.on('data', (text) => (log += text));
  child.stderr.on('data', (text) => (log += text));
  const ended = new Promise((done) => child.once('exit', done));
  const address = `http://127.0.0.1:${port}`;
  const stop = async () => {
    child.kill('SIGINT');
    await Promise.race([ended, sleep(10_000).then(() => child.kill('SIGKILL'))]);
    await rm(data, { recursive: true, force: true });
  };
  /** As a power cut would: nothing is said, nothing is flushed. */
  const crash = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  const deadline = Date.now() + START_MS;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the server ended at once:\n${log}`);
    const answer = await fetch(`${address}/api/worlds`).catch(() => null);
    if (answer?.ok) break;
    if (Date.now() > deadline) {
      await stop();
      throw new Error(`the server did not answer in ${START_MS} ms:\n${log}`);
    }
    await sleep(50);
  }
  return { address, data, worlds, port, l1: `http://127.0.0.1:${l1}`, log: () => log, stop, crash };
}

/** Our own L1 and a rollup beside it, in a process of their own: `worldline chain up`. */
export async function startChains({ data: earlier, port: wanted } = {}) {
  const data = earlier ?? (await mkdtemp(join(tmpdir(), 'worldline-chains-test-')));
  const port = wanted ?? (await freePort());
  const child = spawn(
    required('WORLDLINE'),
    ['chain', 'up', '--json', '--data', data, '--l1-port', `${port}`, '--rollup-port', '0'],
    { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const ended = new Promise((done) => child.once('exit', done));
  const said = await Promise.race([
    new Promise((done) => createInterface(child.stdout).once('line', done)),
    ended.then(() => null),
    sleep(START_MS).then(() => null),
  ]);
  if (said === null) throw new Error('the chains did not start');
  const crash = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  const stop = async () => {
    await crash();
    await rm(data, { recursive: true, force: true });
  };
  return { ...JSON.parse(said), data, port, stop, crash };
}

/** Headless Chromium with a fresh profile. */
export function startBrowser() {
  return chromium.launch({ executablePath: required('CHROMIUM'), headless: true, args: FLAGS });
}

/** Keeps a picture of a page, where pictures are wanted. */
export async function picture(page, name) {
  const folder = process.env.SCREENSHOTS;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
}

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; run this by \`cargo xtask test\``);
  return value;
}
