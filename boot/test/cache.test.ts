import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { openCache, withLock, withRunFolder, writeAtomically } from "../cache.ts";
import { BootError } from "../error.ts";
import { temporaryFolder } from "./samples.ts";

const boot = dirname(dirname(fileURLToPath(import.meta.url)));
const never = new AbortController().signal;

/** Whether this user may make a small disk of its own: a mount in a namespace. */
const canMount = spawnSync("unshare", ["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).status === 0;

describe("writing a file", () => {
  it("replaces the old one and leaves nothing else", async (test) => {
    const folder = await temporaryFolder(test);
    const path = join(folder, "file");
    await writeAtomically(path, Buffer.from("old"));
    await writeAtomically(path, [Buffer.from("new"), Buffer.from("er")]);
    assert.equal(await readFile(path, "utf8"), "newer");
    assert.deepEqual(await readdir(folder), ["file"]);
  });

  it("on a full disk keeps the old one, leaves no part of the new, and says so", {
    skip: !canMount,
  }, async (test) => {
    const folder = await temporaryFolder(test);
    const script = `
      import { readdirSync, readFileSync } from "node:fs";
      const { writeAtomically } = await import(${JSON.stringify(join(boot, "cache.ts"))});
      const path = ${JSON.stringify(join(folder, "file"))};
      await writeAtomically(path, Buffer.from("old"));
      const message = await writeAtomically(path, Buffer.alloc(1 << 20)).then(() => "written", (error) => error.message);
      console.log(JSON.stringify({ message, files: readdirSync(${JSON.stringify(folder)}), kept: readFileSync(path, "utf8") }));`;
    const node = [process.execPath, "--import", "tsx", "--input-type=module", "-e", script];
    const mounted = `mount -t tmpfs -o size=64k tmpfs ${folder} && exec "$@"`;
    const done = spawnSync("unshare", ["-rm", "sh", "-c", mounted, "sh", ...node], {
      encoding: "utf8",
      cwd: boot,
    });
    assert.equal(done.status, 0, done.stderr);
    const { message, files, kept } = JSON.parse(done.stdout);
    assert.match(message, /^the disk is full: cannot write .*file; free some space, or set COREVISOR_CACHE/);
    assert.deepEqual(files, ["file"]);
    assert.equal(kept, "old");
  });

  it("in a folder that cannot be written is refused", async (test) => {
    const folder = await temporaryFolder(test);
    await writeFile(join(folder, "plain"), "");
    const refused = (error: unknown) =>
      error instanceof BootError && /set COREVISOR_CACHE/.test(error.message);
    await assert.rejects(openCache(join(folder, "plain", "cache")), refused);
    if (process.getuid?.() === 0) return;
    await chmod(folder, 0o500);
    await assert.rejects(openCache(join(folder, "cache")), refused);
  });
});

describe("a lock", () => {
  const holding = (root: string) => {
    const script = `
      const { withLock } = await import(${JSON.stringify(join(boot, "cache.ts"))});
      await withLock({ root: ${JSON.stringify(root)} }, "name", { signal: new AbortController().signal }, async () => {
        console.log("held");
        await new Promise((resolve) => setTimeout(resolve, 60_000));
      });`;
    const args = ["--import", "tsx", "--input-type=module", "-e", script];
    return spawn(process.execPath, args, { cwd: boot, stdio: ["ignore", "pipe", "inherit"] });
  };

  it("lets one in at a time", async (test) => {
    const cache = await openCache(await temporaryFolder(test));
    let inside = 0;
    let most = 0;
    const work = () =>
      withLock(cache, "name", { signal: never }, async () => {
        most = Math.max(most, ++inside);
        await new Promise((resolve) => setTimeout(resolve, 20));
        inside--;
      });
    await Promise.all([work(), work(), work()]);
    assert.equal(most, 1);
  });

  it("is waited for with a word, and free again when its owner is killed", async (test) => {
    const cache = await openCache(await temporaryFolder(test));
    const owner = holding(cache.root);
    await once(owner.stdout, "data");
    let waited = 0;
    const begin = performance.now();
    const got = withLock(cache, "name", { signal: never, onWait: () => waited++ }, async () => "mine");
    await new Promise((resolve) => setTimeout(resolve, 700));
    owner.kill("SIGKILL");
    assert.equal(await got, "mine");
    assert.equal(waited, 1);
    assert.ok(performance.now() - begin < 5000);
  });

  it("is given up when the wait is aborted", async (test) => {
    const cache = await openCache(await temporaryFolder(test));
    const owner = holding(cache.root);
    await once(owner.stdout, "data");
    const controller = new AbortController();
    const got = withLock(cache, "name", { signal: controller.signal }, async () => "mine");
    controller.abort(new Error("stop"));
    await assert.rejects(got, /stop/);
    owner.kill("SIGKILL");
  });

  it("is free again when its work fails", async (test) => {
    const cache = await openCache(await temporaryFolder(test));
    await assert.rejects(
      withLock(cache, "name", { signal: never }, async () => {
        throw new Error("no");
      }),
      /no/,
    );
    assert.equal(await withLock(cache, "name", { signal: never }, async () => "again"), "again");
  });
});

describe("what is not finished", () => {
  it("is gone when its work fails", async (test) => {
    const cache = await openCache(await temporaryFolder(test));
    let seen = "";
    await assert.rejects(
      withRunFolder(cache, async (folder) => {
        seen = folder;
        await writeFile(join(folder, "file"), "x");
        throw new Error("no");
      }),
      /no/,
    );
    assert.ok(seen.startsWith(join(cache.root, "run", `${process.pid}-`)));
    assert.ok(!existsSync(seen));
  });

  it("and belongs to a killed run is removed by the next; that of a living one stays", async (test) => {
    const root = await temporaryFolder(test);
    await openCache(root);
    const ended = spawnSync("true").pid;
    await mkdir(join(root, "run", `${ended}-dead`));
    await mkdir(join(root, "run", `${process.pid}-mine`));
    await mkdir(join(root, "packages", `tool-12.${ended}-0a.tmp`));
    await writeFile(join(root, "built", `host.cpio.${ended}-0a.tmp`), "half");
    await writeFile(join(root, "built", "host.cpio"), "whole");
    await openCache(root);
    assert.deepEqual(await readdir(join(root, "run")), [`${process.pid}-mine`]);
    assert.deepEqual(await readdir(join(root, "packages")), []);
    assert.deepEqual(await readdir(join(root, "built")), ["host.cpio"]);
  });
});
