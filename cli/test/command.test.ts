import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { hasEnded, sampleImage, temporaryFolder } from "../../boot/test/samples.ts";
import { cannotTell } from "../processdemo.ts";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A folder with a kernel, an initrd, a cache, and a QEMU that follows $SCRIPT (boot/test/scripted-qemu.mjs). */
async function workshop(test: TestContext) {
  const folder = await temporaryFolder(test);
  const bin = join(folder, "bin");
  await mkdir(bin);
  const qemu = `#!/bin/sh\nexec '${process.execPath}' '${join(root, "boot/test/scripted-qemu.mjs")}' "$@"\n`;
  await writeFile(join(bin, "qemu-system-aarch64"), qemu);
  await chmod(join(bin, "qemu-system-aarch64"), 0o755);
  await writeFile(join(folder, "Image"), sampleImage());
  await writeFile(join(folder, "initrd"), "070701");
  const start = (args: readonly string[], env: Record<string, string> = {}): ChildProcess =>
    spawn(process.execPath, [join(root, "cli/corevisor.mjs"), ...args], {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        PATH: `${bin}:${process.env.PATH}`,
        COREVISOR_CACHE: join(folder, "cache"),
        ...env,
      },
    });
  const run = (args: readonly string[], env: Record<string, string> = {}) => collect(start(args, env));
  const machine = ["run", "--core", "off", "--kernel", "Image", "--initrd", "initrd"];
  return { folder, start, run, machine };
}

async function collect(child: ChildProcess): Promise<Ended> {
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (bytes) => {
    stdout += bytes;
  });
  child.stderr?.on("data", (bytes) => {
    stderr += bytes;
  });
  const [status] = await once(child, "close");
  return { status, stdout, stderr };
}

const lastJson = (text: string) => JSON.parse(text.trim().split("\n").at(-1) ?? "");

describe("the command line", () => {
  it("helps, with every option of every command", async (test) => {
    const { run } = await workshop(test);
    const top = await run(["--help"]);
    assert.equal(top.status, 0);
    for (const command of ["run", "demo", "bench", "doctor"])
      assert.match(top.stdout, new RegExp(`^  ${command} `, "m"));
    const help = await run(["run", "--help"]);
    assert.equal(help.status, 0);
    const options = "kernel initrd append cpus memory cpu core vms qemu-arg timeout log trace json".split(
      " ",
    );
    for (const option of options) assert.match(help.stdout, new RegExp(`^  --${option}\\b`, "m"));
    for (const command of ["demo", "bench", "doctor"]) {
      const { status, stdout } = await run([command, "--help"]);
      assert.equal(status, 0);
      assert.match(stdout, /--json/);
    }
  });

  it("refuses what it does not understand, in one line, with status 2", async (test) => {
    const { run } = await workshop(test);
    for (const args of [
      ["frobnicate"],
      ["run", "--frobnicate"],
      ["run", "--cpus", "0"],
      ["run", "--cpus", "two"],
      ["run", "--core", "maybe"],
      ["run", "--memory", "lots"],
      ["run", "--timeout", "soon"],
      ["run", "stray"],
      ["run", "--trace", "--core", "off"],
    ]) {
      const { status, stdout, stderr } = await run(args);
      assert.equal(status, 2, args.join(" "));
      assert.equal(stdout, "");
      assert.match(stderr, /^corevisor: .*\n$/, args.join(" "));
    }
  });
});

describe("corevisor run", () => {
  it("shows the console and ends with 0 when the host powers off", async (test) => {
    const { run, machine, folder } = await workshop(test);
    const SCRIPT = "say:booting\nready\n|event:SHUTDOWN:guest-shutdown|stay";
    const { status, stdout } = await run([...machine, "--log", "serial.log"], { SCRIPT });
    assert.equal(status, 0);
    assert.equal(stdout, "booting\nready\n");
    assert.equal(await readFile(join(folder, "serial.log"), "utf8"), "booting\nready\n");
    assert.deepEqual(await readdir(join(folder, "cache/run")), []);
  });

  it("with --json prints one object and keeps the console to the log", async (test) => {
    const { run, machine, folder } = await workshop(test);
    const SCRIPT = "say:ready\n|event:SHUTDOWN:guest-shutdown|stay";
    const { status, stdout } = await run([...machine, "--log", "serial.log", "--json"], { SCRIPT });
    assert.equal(status, 0);
    const { seconds, ...rest } = JSON.parse(stdout);
    assert.deepEqual(rest, { ok: true, reason: "poweroff", kernel: null, kcore: null });
    assert.equal(typeof seconds, "number");
    assert.equal(await readFile(join(folder, "serial.log"), "utf8"), "ready\n");
  });

  it("ends with 1 when the host panics, hangs, or QEMU dies, and says which", async (test) => {
    const { run, machine } = await workshop(test);
    const cases = [
      {
        SCRIPT: "say:Kernel panic - not syncing: no init\n|event:SHUTDOWN:guest-reset|stay",
        reason: "panic",
      },
      { SCRIPT: "stay", reason: "timeout" },
      { SCRIPT: "wait:50|exit:1", reason: "died" },
    ];
    for (const { SCRIPT, reason } of cases) {
      const args = [...machine, ...(reason === "timeout" ? ["--timeout", "1"] : [])];
      const { status, stdout } = await run([...args, "--json"], { SCRIPT });
      assert.equal(status, 1, reason);
      assert.equal(lastJson(stdout).ok, false);
      assert.equal(lastJson(stdout).reason, reason);
      const plain = await run(args, { SCRIPT });
      assert.equal(plain.status, 1);
      assert.match(plain.stderr, /corevisor: .* after \d+\.\d s/);
    }
  });

  it("takes a reboot for an orderly end", async (test) => {
    const { run, machine } = await workshop(test);
    const { status, stdout } = await run([...machine, "--json"], {
      SCRIPT: "event:SHUTDOWN:guest-reset|stay",
    });
    assert.equal(status, 0);
    assert.equal(lastJson(stdout).reason, "reboot");
  });

  it("refuses bad input with status 2 and one line, and in JSON where asked", async (test) => {
    const { run, machine, folder } = await workshop(test);
    await writeFile(
      join(folder, "text"),
      "not a kernel, but long enough to have a header of 64 bytes, surely",
    );
    await writeFile(join(folder, "cut"), sampleImage([], { peSectionEnd: 4096 }).subarray(0, 2000));
    const cases: readonly (readonly [readonly string[], RegExp, Record<string, string>?])[] = [
      [["--kernel", "text"], /kernel text is not an arm64 Image/],
      [["--kernel", "cut"], /kernel cut is truncated: it has 2000 of 4096 bytes/],
      [["--kernel", "none"], /cannot read the kernel none \(ENOENT\)/],
      [["--initrd", "none"], /cannot read the initrd none \(ENOENT\)/],
      [["--core", "on"], /"mov w0, #0xe11; eret" must occur once/],
      [["--memory", "16M"], /--memory 16M is too small.*give --memory/],
      [["--log", "none/log"], /cannot write the log none\/log/],
      [[], /QEMU refused to start: no such CPU/, { SCRIPT: "refuse:no such CPU" }],
      [[], /cannot write .*Image.*; set COREVISOR_CACHE/, { COREVISOR_CACHE: "Image" }],
    ];
    for (const [args, expected, env] of cases) {
      const { status, stdout, stderr } = await run([...machine, ...args, "--json"], env);
      assert.equal(status, 2, `${args} ${stderr}`);
      assert.match(stderr.trim().split("\n").at(-1) ?? "", expected);
      const { ok, reason, error } = lastJson(stdout);
      assert.deepEqual([ok, reason], [false, "refused"]);
      assert.match(error, expected);
    }
  });

  it("says that the disk is full when its log does not fit", async (test) => {
    const { run, machine } = await workshop(test);
    const { status, stderr } = await run([...machine, "--log", "/dev/full"], { SCRIPT: "say:hello\n|stay" });
    assert.equal(status, 2);
    assert.match(stderr, /the disk is full: cannot write \/dev\/full/);
  });

  for (const [signal, expected] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    it(`ends with ${expected} on ${signal}, and QEMU with it`, async (test) => {
      const { start, machine, folder } = await workshop(test);
      const PIDFILE = join(folder, "pid");
      const child = start([...machine, "--json"], { SCRIPT: "say:ready\n|stay", PIDFILE });
      const ended = collect(child);
      while ((await readFile(PIDFILE, "utf8").catch(() => "")) === "")
        await new Promise((go) => setTimeout(go, 20));
      await new Promise((go) => setTimeout(go, 200));
      child.kill(signal);
      const { status, stdout } = await ended;
      assert.equal(status, expected);
      assert.equal(lastJson(stdout).reason, "interrupted");
      assert.ok(hasEnded(Number(await readFile(PIDFILE, "utf8"))));
      assert.deepEqual(await readdir(join(folder, "cache/run")), []);
    });
  }

  it("ends when nobody reads the console any more, and QEMU with it", async (test) => {
    const { start, machine, folder } = await workshop(test);
    const PIDFILE = join(folder, "pid");
    const child = start(machine, {
      SCRIPT: "say:one\n|wait:300|say:two\n|wait:300|say:three\n|stay",
      PIDFILE,
    });
    child.stdout?.once("data", () => child.stdout?.destroy());
    const [status] = await once(child, "exit");
    assert.equal(status, 141);
    assert.ok(hasEnded(Number(await readFile(PIDFILE, "utf8"))));
  });
});

describe("corevisor demo in process", () => {
  const shape = (stdout: string) => {
    const { ok, machine, host, kcore, guests, attacks, fallback } = lastJson(stdout);
    assert.deepEqual([ok, machine], [true, "process"]);
    assert.deepEqual(host, { kernel: "scripted", kvmMode: "protected", cpus: 2 });
    assert.match(kcore.wasmSha256, /^[0-9a-f]{64}$/);
    assert.equal(typeof kcore.proved, "boolean");
    assert.deepEqual(guests, [
      { kind: "ordinary", vcpus: 2, booted: true, poweredOff: true },
      { kind: "private", vcpus: 2, booted: true, poweredOff: true },
    ]);
    assert.ok(attacks.length > 20);
    for (const { stock, corevisor } of attacks) assert.deepEqual([stock, corevisor], [null, "refused"]);
    return fallback;
  };
  const withoutTools = { PATH: "/nonexistent", COREVISOR_CACHE: join(root, ".cache") };

  it("tells the story without QEMU, a compiler or a kernel", async (test) => {
    const { run } = await workshop(test);
    const { status, stdout } = await run(["demo", "--machine", "process", "--json"], withoutTools);
    assert.equal(status, 0);
    assert.equal(shape(stdout), null);
    const plain = await run(["demo", "--machine", "process"], withoutTools);
    assert.match(plain.stdout, /^read the core by the kernel's own map +refused$/m);
    assert.match(plain.stdout, /host and VMs are scripted\n$/);
  });

  it("is what the demo falls back to, saying so, when nobody asked for QEMU", async (test) => {
    const { run, folder } = await workshop(test);
    const bare = { ...withoutTools, COREVISOR_CACHE: join(folder, "cache") };
    const { status, stdout, stderr } = await run(["demo", "--json"], bare);
    assert.equal(status, 0, stderr);
    assert.match(shape(stdout), /^qemu-system-aarch64 is not on PATH; /);
    assert.match(stderr, /qemu-system-aarch64 is not on PATH; .*\n.*falling back to the machine in process/);
    for (const asked of [
      ["--machine", "qemu"],
      ["--core", "off"],
    ]) {
      const refused = await run(["demo", "--json", ...asked], bare);
      assert.equal(refused.status, 2, asked.join(" "));
      assert.match(lastJson(refused.stdout).error, /^qemu-system-aarch64 is not on PATH/);
    }
  });

  it("refuses what its machine cannot be", async (test) => {
    const usual = { core: "both", vms: "private", cpus: 2, cpu: "cortex-a76" } as const;
    assert.equal(cannotTell(usual, false), undefined);
    for (const other of [
      { core: "off" },
      { vms: "ordinary" },
      { cpus: 1 },
      { cpus: 65 },
      { cpu: "host" },
    ] as const)
      assert.match(
        cannotTell({ ...usual, ...other }, false)?.message ?? "",
        new RegExp(`cannot do --${Object.keys(other)}.*--machine qemu$`),
      );
    const { run } = await workshop(test);
    const { status, stderr } = await run(["demo", "--machine", "process", "--memory", "1G"]);
    assert.equal(status, 2);
    assert.match(stderr, /^corevisor: the machine in process cannot do --memory.*\n$/);
  });
});

describe("corevisor doctor", () => {
  it("says what is here", async (test) => {
    const { run } = await workshop(test);
    const { stdout } = await run(["doctor", "--json"]);
    const { findings } = JSON.parse(stdout);
    const qemu = findings.find(({ name }: { name: string }) => name === "QEMU");
    assert.equal(qemu.state, "ready");
    assert.match(qemu.detail, /^9\.0\.0 on PATH/);
    const solver = findings.find(({ name }: { name: string }) => name === "solver");
    assert.equal(solver.state, "ready", "z3 comes from npm where nothing is installed");
  });

  it("ends with 1 and says what to do when something is missing", async (test) => {
    const { run } = await workshop(test);
    const { status, stdout } = await run(["doctor", "--json"], { PATH: "/nonexistent" });
    assert.equal(status, 1);
    const { ok, findings } = JSON.parse(stdout);
    assert.equal(ok, false);
    const qemu = findings.find(({ name }: { name: string }) => name === "QEMU");
    assert.equal(qemu.state, "missing");
    const solver = findings.find(({ name }: { name: string }) => name === "solver");
    assert.match(solver.detail, /^z3 from npm/);
    assert.match(qemu.remedy, /install qemu-system-aarch64 7\.2 or newer/);
    const plain = await run(["doctor"], { PATH: "/nonexistent" });
    assert.match(plain.stdout, /QEMU +MISSING +qemu-system-aarch64 is not on PATH; install/);
  });
});
