import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { BootError } from "../error.ts";
import { type MachineEnd, optionValue, type RunOptions, runMachine, SerialLines } from "../qemu.ts";
import type { Tool } from "../tools.ts";
import { hasEnded, temporaryFolder, testJob } from "./samples.ts";

const here = dirname(fileURLToPath(import.meta.url));
const shape = { cpu: "cortex-a76", cpus: 1, memory: 1n << 30n, qemuArgs: [] };

const scripted = (script: string, env: Record<string, string> = {}): Tool => ({
  command: join(here, "scripted-qemu.mjs"),
  args: [],
  env: { SCRIPT: script, ...env },
  version: "9.0.0",
  source: "path",
});

/** Runs a scripted machine. */
async function run(
  test: TestContext,
  script: string,
  options: Partial<RunOptions> = {},
): Promise<{ end: MachineEnd; serial: string; left: string[] }> {
  const job = await testJob(test);
  let serial = "";
  const end = await runMachine(job, {
    qemu: scripted(script),
    shape,
    load: [],
    onSerial: (bytes) => {
      serial += bytes.toString();
    },
    ...options,
  });
  return { end, serial, left: await readdir(join(job.cache.root, "run")) };
}

describe("a machine", () => {
  it("ends when it powers off, with all it said, and leaves nothing", async (test) => {
    const { end, serial, left } = await run(
      test,
      "say:hello\n|event:SHUTDOWN:guest-shutdown|say:last words|stay",
    );
    assert.equal(end.reason, "poweroff");
    assert.equal(serial, "hello\nlast words");
    assert.deepEqual(left, []);
  });

  it("ends when it reboots", async (test) => {
    const { end } = await run(test, "event:RESET:guest-reset|event:SHUTDOWN:guest-reset|stay");
    assert.equal(end.reason, "reboot");
  });

  it("ends in panic when the kernel says so, though it resets afterwards", async (test) => {
    const words = "Kernel panic - not syncing: VFS: Unable to mount root fs";
    const reset = await run(test, `say:[ 1.0] ${words}\n|event:SHUTDOWN:guest-reset|stay`);
    assert.equal(reset.end.reason, "panic");
    assert.equal(reset.end.detail, words);
  });

  it("ends in panic a moment after the kernel said so and hangs, with the words that followed", async (test) => {
    const { end, serial } = await run(
      test,
      "say:Kernel pa|wait:50|say:nic - not syncing: x\n|say:trace\n|stay",
    );
    assert.equal(end.reason, "panic");
    assert.match(serial, /trace\n$/);
    assert.ok(end.seconds > 1 && end.seconds < 10);
  });

  it("ends when its time is over", async (test) => {
    const { end } = await run(test, "stay", { timeout: 0.2 });
    assert.equal(end.reason, "timeout");
    assert.ok(end.seconds < 5);
  });

  it("ends when QEMU dies, with its words", async (test) => {
    const { end } = await run(test, "say:x|die:internal error|wait:50|exit:3");
    assert.equal(end.reason, "died");
    assert.equal(end.detail, "internal error");
  });

  it("does not start when QEMU refuses, with QEMU's reason in one line", async (test) => {
    await assert.rejects(run(test, "refuse:unable to find CPU model 'm68k'"), (error) => {
      assert.ok(error instanceof BootError);
      assert.equal(
        error.message,
        "QEMU refused to start: unable to find CPU model 'm68k'; check --cpu, --memory and --qemu-arg",
      );
      return true;
    });
  });

  it("does not start when there is no QEMU", async (test) => {
    const qemu = { ...scripted(""), command: "/nonexistent/qemu" };
    await assert.rejects(run(test, "", { qemu }), /QEMU refused to start: .*\/nonexistent\/qemu/);
  });

  it("shows its memory while it runs and after it stopped, before it goes", async (test) => {
    const seen: string[] = [];
    const { left } = await run(test, "wait:200|event:SHUTDOWN:guest-shutdown|stay", {
      onStart: async (machine) => {
        seen.push(Buffer.from(await machine.readMemory(0x40000000n, 16n)).toString());
      },
      beforeEnd: async (machine, reason) => {
        seen.push(`${reason} ${Buffer.from(await machine.readMemory(4096n, 8n))}`);
      },
    });
    assert.deepEqual(seen, ["1073741824+16", "poweroff 4096+8"]);
    assert.deepEqual(left, []);
  });

  it("is killed when the work is aborted", async (test) => {
    const controller = new AbortController();
    const job = await testJob(test, controller.signal);
    const pidFile = join(await temporaryFolder(test), "pid");
    const running = runMachine(job, {
      qemu: scripted("stay", { PIDFILE: pidFile }),
      shape,
      load: [],
      onSerial: () => {},
      onStart: () => controller.abort(new Error("Ctrl-C")),
    });
    await assert.rejects(running, /Ctrl-C/);
    assert.ok(hasEnded(Number(await readFile(pidFile, "utf8"))));
    assert.deepEqual(await readdir(join(job.cache.root, "run")), []);
  });

  for (const ending of ["SIGKILL", "an uncaught error"]) {
    it(`is killed with this process, ended by ${ending}`, async (test) => {
      const folder = await temporaryFolder(test);
      const script = `
        const { openCache } = await import(${JSON.stringify(join(here, "../cache.ts"))});
        const { runMachine } = await import(${JSON.stringify(join(here, "../qemu.ts"))});
        const job = { cache: await openCache(${JSON.stringify(folder)}), onProgress() {}, signal: new AbortController().signal };
        await runMachine(job, {
          qemu: { command: ${JSON.stringify(join(here, "scripted-qemu.mjs"))}, args: [], env: {}, version: "", source: "path" },
          shape: { cpu: "max", cpus: 1, memory: 1n << 30n, qemuArgs: [] }, load: [], onSerial() {},
          onStart() {
            console.log("started");
            if (${ending !== "SIGKILL"}) setTimeout(() => { throw new Error("oops"); }, 50);
          },
        });`;
      const pidFile = join(folder, "pid");
      const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
        cwd: here,
        env: { ...process.env, PIDFILE: pidFile },
        stdio: ["ignore", "pipe", "ignore"],
      });
      await once(child.stdout, "data");
      const pid = Number(await readFile(pidFile, "utf8"));
      if (ending === "SIGKILL") child.kill("SIGKILL");
      await once(child, "exit");
      for (let tries = 0; tries < 50 && !hasEnded(pid); tries++)
        await new Promise((resolve) => setTimeout(resolve, 20));
      assert.ok(hasEnded(pid));
    });
  }
});

describe("the lines of a console", () => {
  it("are whole, however the bytes come", () => {
    const lines: string[] = [];
    const serial = new SerialLines((line) => lines.push(line));
    for (const byte of Buffer.from("grün\r\nzwei\nrest")) serial.push(Buffer.from([byte]));
    assert.deepEqual(lines, ["grün", "zwei"]);
  });
});

describe("a file name in an option of QEMU's", () => {
  it("has its commas doubled", () => {
    assert.equal(optionValue("/a,b/c"), "/a,,b/c");
  });
});
