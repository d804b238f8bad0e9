import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const microv = dirname(dirname(fileURLToPath(import.meta.url)));
const example = join(microv, "example");
const folder = mkdtempSync(join(microv, ".microv-test-"));
after(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the program on files in the test's folder. */
function run(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const program = join(microv, "microv.mjs");
    execFile(process.execPath, [program, ...args], { cwd: folder }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

/** A copy of the example's monitor with a change, by name. */
function monitor(name: string, change: (text: string) => string = (text) => text): string {
  cpSync(join(example, "core"), join(folder, name), { recursive: true });
  const file = join(folder, name, "monitor.ts");
  const text = readFileSync(file, "utf8");
  const changed = change(text);
  if (name !== "good") assert.notEqual(changed, text, "the test changes something");
  writeFileSync(file, changed);
  return join(name, "monitor.ts");
}

const claims = join(example, "claims.ts");
const verify = (core: string, ...more: string[]) =>
  run("verify", core, "--claims", claims, "--jobs", "1", ...more);

describe("microv verify", { concurrency: 2 }, () => {
  test("proves the example, every function of it, and says so in JSON", async () => {
    const { status, stdout } = await verify(monitor("good"), "--json", "--certify");
    const summary = JSON.parse(stdout);
    assert.equal(status, 0);
    assert.deepEqual(
      [summary.ok, summary.functions, summary.proved, summary.lemmas, summary.lemmasProved],
      [true, 7, 7, 2, 2],
    );
    assert.deepEqual([summary.failed, summary.vacuous, summary.undecided, summary.unproved], [0, 0, 0, []]);
    assert.equal(summary.axioms.length, 1);
    assert.match(summary.wasmSha256, /^[0-9a-f]{64}$/);
  });

  test("shows inputs, lines and the violated demand when a page is wiped too late", async () => {
    const late = (text: string) => text.replace(/( {2}page_wipe\(page\);\n)(.*\n)/, "$2$1");
    const { status, stdout } = await verify(monitor("late", late));
    assert.equal(status, 1);
    assert.match(stdout, /failed {4}monitor\/give: .*a page is wiped before it changes hands/);
    assert.match(stdout, /give\.page = /);
    assert.match(stdout, /violated: a page is wiped before it changes hands {3}monitor\.ts:\d+/);
  });

  test("sees a check that is off by one", async () => {
    const off = (text: string) => text.replace("page < PAGES; page++", "page < PAGES - 1; page++");
    const { status, stdout } = await verify(monitor("off", off));
    assert.equal(status, 1);
    assert.match(stdout, /monitor\/find: nothing is overlooked/);
  });

  test("reuses what nothing has touched, and says when a kept answer was tampered with", async () => {
    const core = monitor("kept", (text) =>
      text.replace("const EPERM: i32 = -1;", "const EPERM: i32 = -1; //"),
    );
    assert.equal((await verify(core, "--keep", "kept-answers")).status, 0);
    const again = JSON.parse((await verify(core, "--keep", "kept-answers", "--json")).stdout);
    assert.equal(again.reused, 6);
    const verdicts = join(folder, "kept-answers", "verdicts");
    const names = readdirSync(verdicts);
    assert.equal(names.length, 6);
    for (const name of names) {
      const file = join(verdicts, name);
      writeFileSync(
        file,
        readFileSync(file, "utf8").replace(/"seconds?":|"milliseconds":/, '"milliseconds" :'),
      );
    }
    const tampered = JSON.parse((await verify(core, "--keep", "kept-answers", "--json")).stdout);
    assert.equal(tampered.reused, 0);
    assert.equal(tampered.ok, true);
    assert.match(tampered.rejected[0], /was not used: its contents are not those that were written/);
  });

  const refused = async (args: string[], pattern: RegExp) => {
    const { status, stdout, stderr } = await run(...args);
    assert.deepEqual([status, stdout], [2, ""], stderr);
    assert.match(stderr, pattern);
  };

  test("refuses what is no module, naming the byte", () => {
    writeFileSync(join(folder, "no.wasm"), "no wasm at all");
    return refused(["verify", "no.wasm", "--claims", claims], /^microv: .*(magic|module|byte)/);
  });

  test("refuses files that are not there, and options that make no sense", async () => {
    await refused(["verify", "nowhere.wasm", "--claims", claims], /nowhere\.wasm: there is no such file/);
    await refused(
      ["verify", monitor("good"), "--claims", "nothing.ts"],
      /nothing\.ts: there is no such file/,
    );
    await refused(["verify", monitor("good"), "--claims", claims, "--jobs", "none"], /whole number/);
    await refused(
      ["verify", monitor("good"), "--claims", claims, "--only", "nobody"],
      /nobody: no function and no lemma/,
    );
  });

  test("refuses claims about a function that the module has not", () => {
    const without = (text: string) => text.replace("export function find", "export function seek");
    return refused(
      ["verify", monitor("without", without), "--claims", claims],
      /the claims name monitor\/find, but the module has no function of that name/,
    );
  });

  test("refuses source that does not compile, with the compiler's words", () => {
    const wrong = (text: string) => text.replace("return -1;", "return nothing;");
    return refused(["verify", monitor("wrong", wrong), "--claims", claims], /does not compile[\s\S]*nothing/);
  });

  test("leaves neither solvers nor files behind when it is stopped", async () => {
    const sleeper = join(folder, "cadical");
    const started = join(folder, "started");
    writeFileSync(
      sleeper,
      `#!/bin/sh\nif [ "$1" = --version ]; then echo 1.0; exit; fi\necho $$ >> ${started}\nexec sleep 50\n`,
      { mode: 0o755 },
    );
    const program = spawn(
      process.execPath,
      [
        join(microv, "microv.mjs"),
        "verify",
        monitor("stopped", (text) => `${text}// stopped\n`),
        "--claims",
        claims,
        "--keep",
        "stopped-keep",
      ],
      { cwd: folder, stdio: "ignore", env: { ...process.env, MICROV_CADICAL: sleeper } },
    );
    while (!existsSync(started)) await setTimeout(50);
    program.kill("SIGTERM");
    const [status] = await once(program, "exit");
    assert.equal(status, 130);
    const running = () =>
      readFileSync(started, "utf8")
        .trim()
        .split("\n")
        .filter((pid) => existsSync(`/proc/${pid}`));
    for (let tries = 0; tries < 100 && running().length > 0; tries++) await setTimeout(50);
    assert.deepEqual(running(), []);
    assert.deepEqual(readdirSync(join(folder, "stopped-keep", "tmp")), []);
  });

  test("leaves no temporary file behind", () => {
    const scratch = join(folder, ".microv", "tmp");
    assert.ok(existsSync(scratch));
    assert.deepEqual(readdirSync(scratch), []);
  });
});

describe("microv mutate", () => {
  test("the example's proof notices every change that is one, the same ones for a seed", async () => {
    const args = [
      "mutate",
      monitor("good"),
      "--claims",
      claims,
      "--sample",
      "12",
      "--seed",
      "5",
      "--json",
      "--jobs",
      "1",
    ];
    const { status, stdout } = await run(...args);
    const summary = JSON.parse(stdout);
    assert.equal(status, 0);
    assert.equal(summary.mutants, 12);
    assert.equal(summary.killed + summary.equivalent, 12);
    assert.deepEqual(summary.survivors, []);
  });

  test("what no contract speaks of survives", async () => {
    const silent = join(folder, "silent.ts");
    const text = readFileSync(claims, "utf8").replace(
      '"../index.ts"',
      JSON.stringify(join(microv, "index.ts")),
    );
    const quiet = text.replace(
      /c\.ensure\(\s*"nothing is overlooked/,
      'void ((_: string, __: Term) => {})("nothing is overlooked',
    );
    assert.notEqual(quiet, text);
    writeFileSync(silent, quiet);
    const args = [
      "mutate",
      monitor("good"),
      "--claims",
      silent,
      "--only",
      "find",
      "--sample",
      "40",
      "--json",
      "--jobs",
      "1",
    ];
    const { status, stdout } = await run(...args);
    assert.equal(status, 1);
    assert.ok(JSON.parse(stdout).survivors.length > 0);
  });
});
