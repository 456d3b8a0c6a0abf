// Starts the cabinet's command for a test, and ends it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const command = process.env.WORLDLINE_CABINET;
if (!command) throw new Error("WORLDLINE_CABINET must name the worldline-cabinet command");

/** Longest wait for a chain to start, and to end once it was asked to. */
const START_MILLIS = 60_000;
const STOP_MILLIS = 10_000;

/** What `work` gives, or an error once it took too long. */
export function within(millis, what, work) {
    let timer;
    const late = new Promise((_, fail) => {
        timer = setTimeout(() => fail(new Error(`waited ${millis} ms for ${what}`)), millis);
    });
    return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** Starts one chain; `role` is "l1" or "rollup", `options` go to the command as they are. */
export async function start(role, options = []) {
    const ledger = mkdtempSync(join(tmpdir(), `worldline-${role}-`));
    const child = spawn(command, [role, "--ledger", ledger, ...options], { stdio: ["pipe", "pipe", "inherit"] });
    const started = Promise.race([
        once(createInterface(child.stdout), "line"),
        once(child, "exit").then(([code]) => {
            throw new Error(`the ${role} ended at once with ${code}`);
        }),
    ]);
    const [line] = await within(START_MILLIS, `the ${role} to start`, started).catch((error) => {
        child.kill("SIGKILL");
        throw error;
    });
    const stop = async () => {
        const ended = once(child, "exit");
        child.stdin.end();
        await within(STOP_MILLIS, `the ${role} to end`, ended).catch((error) => {
            child.kill("SIGKILL");
            throw error;
        });
        rmSync(ledger, { recursive: true });
    };
    return { ...JSON.parse(line), ledger, stop };
}

/** Waits until `look` returns something, and returns it; a look that hangs is waited for no longer. */
export async function until(look, what, millis = 10_000) {
    const end = Date.now() + millis;
    while (Date.now() < end) {
        const found = await within(Math.max(end - Date.now(), 1), what, Promise.resolve(look()));
        if (found) return found;
        await new Promise((done) => setTimeout(done, 20));
    }
    throw new Error(`waited ${millis} ms for ${what}`);
}
