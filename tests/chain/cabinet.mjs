// Starts the cabinet's command for a test, and ends it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const command = process.env.WORLDLINE_CABINET;
if (!command) throw new Error("WORLDLINE_CABINET must name the worldline-cabinet command");

/** Starts one chain; `role` is "l1" or "rollup", `options` go to the command as they are. */
export async function start(role, options = []) {
    const ledger = mkdtempSync(join(tmpdir(), `worldline-${role}-`));
    const child = spawn(command, [role, "--ledger", ledger, ...options], { stdio: ["pipe", "pipe", "inherit"] });
    const [line] = await Promise.race([
        once(createInterface(child.stdout), "line"),
        once(child, "exit").then(([code]) => {
            throw new Error(`the ${role} ended at once with ${code}`);
        }),
    ]);
    const stop = async () => {
        const ended = once(child, "exit");
        child.stdin.end();
        await ended;
        rmSync(ledger, { recursive: true });
    };
    return { ...JSON.parse(line), ledger, stop };
}

/** Waits until `look` returns something, and returns it. */
export async function until(look, what, millis = 10_000) {
    const end = Date.now() + millis;
    while (Date.now() < end) {
        const found = await look();
        if (found) return found;
        await new Promise((done) => setTimeout(done, 20));
    }
    throw new Error(`waited ${millis} ms for ${what}`);
}
