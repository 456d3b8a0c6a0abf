// How long a newcomer waits: clones the project, starts it by its one command with every cache
// empty (cargo's, npm's, ours), opens a browser, and stops the watch at the first painted frame of
// a match. Prints one JSON object.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, ROOT, startBrowser } from './arcade.mjs';
import { button, choose, insertQuarter, untilFrame } from './player.mjs';

const folder = await mkdtemp(join(tmpdir(), 'worldline-first-frame-'));
const clone = join(folder, 'clone');
const start = performance.now();
const seconds = () => Math.round((performance.now() - start) / 100) / 10;

/** Runs a command; answers its exit code. */
function run(program, words, options) {
  const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'inherit'], ...options });
  const ended = new Promise((done) => child.once('exit', done));
  return { child, ended };
}

const environment = {
  ...process.env,
  CARGO_HOME: join(folder, 'cargo'),
  XDG_CACHE_HOME: join(folder, 'cache'),
  XDG_DATA_HOME: join(folder, 'data'),
  npm_config_cache: join(folder, 'npm'),
};
delete environment.CARGO_TARGET_DIR;

let server;
try {
  const cloned = await run('git', ['clone', '--quiet', ROOT, clone], {}).ended;
  if (cloned !== 0) throw new Error(`git clone ended with ${cloned}`);
  const report = { cores: cpus().length, cloned_s: seconds(), steps: [] };

  const port = await freePort();
  server = run('cargo', ['xtask', 'play', '--no-open', '--port', `${port}`], {
    cwd: clone,
    env: environment,
  });
  let printed = '';
  server.child.stdout.on('data', (text) => (printed += text));
  const address = `http://127.0.0.1:${port}`;
  while (!(await fetch(`${address}/api/worlds`).catch(() => null))?.ok) {
    if (server.child.exitCode !== null) throw new Error(`play ended:\n${printed}`);
    await sleep(100);
  }
  report.steps = [...printed.matchAll(/── (.+): done in ([\d.]+) s/g)].map(([, name, time]) => ({
    name,
    seconds: Number(time),
  }));
  report.serving_s = seconds();

  const browser = await startBrowser();
  const page = await browser.newPage();
  // The first start puts the worlds onto L1.
  page.setDefaultTimeout(120_000);
  await insertQuarter(page, address, /Random/);
  await choose(page, 0);
  await button(page, 'Press start').click();
  await untilFrame(page, 1);
  report.first_frame_s = seconds();
  await browser.close();
  console.log(JSON.stringify(report, null, 1));
} finally {
  server?.child.kill('SIGINT');
  await server?.ended;
  await rm(folder, { recursive: true, force: true });
}
