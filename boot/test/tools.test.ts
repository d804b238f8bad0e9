import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BootError } from "../error.ts";
import { inspectKit, isOlder, openTools, parseVersion, qemuKit } from "../tools.ts";
import { commandsOnPath, testJob } from "./samples.ts";

const qemu = (version: string) => `#!/bin/sh\necho "QEMU emulator version ${version} (Debian 1:9.9)"\n`;

describe("a version", () => {
  it("is read from what the programs print", () => {
    assert.equal(
      parseVersion("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright"),
      "7.2.22",
    );
    assert.equal(parseVersion("aarch64-linux-gnu-gcc (Debian 12.2.0-14) 12.2.0\n"), "12.2.0");
    assert.equal(parseVersion("GNU ld (GNU Binutils for Debian) 2.40\n"), "2.40");
    assert.equal(parseVersion("xz (XZ Utils) 5.4.1\nliblzma 5.4.1"), "5.4.1");
    assert.equal(parseVersion("no number here"), undefined);
  });

  it("is compared number by number", () => {
    assert.ok(isOlder("7.1.9", [7, 2]));
    assert.ok(isOlder("6.99", [7, 2]));
    assert.ok(isOlder("7", [7, 2]));
    assert.ok(!isOlder("7.2", [7, 2]));
    assert.ok(!isOlder("7.10", [7, 2]));
    assert.ok(!isOlder("10.0.0", [7, 2]));
  });
});

describe("a tool", () => {
  it("on PATH is used when it is new enough", async (test) => {
    const job = await testJob(test);
    const folder = await commandsOnPath(test, { "qemu-system-aarch64": qemu("8.0.1") });
    const tool = await openTools(job).qemu();
    assert.equal(tool.command, `${folder}/qemu-system-aarch64`);
    assert.equal(tool.version, "8.0.1");
    assert.equal(tool.source, "path");
    assert.equal((await inspectKit(job, qemuKit)).state, "path");
  });

  it("that is missing and cannot be fetched is named, with the way out", async (test) => {
    await commandsOnPath(test, {}, "hidden");
    const refused = (error: unknown) =>
      error instanceof BootError &&
      /qemu-system-aarch64 is not on PATH; apt-get is missing.*install/.test(error.message);
    await assert.rejects(openTools(await testJob(test)).qemu(), refused);
  });

  it("of the wrong version is named with its version and the one that is needed", async (test) => {
    const job = await testJob(test);
    await commandsOnPath(test, { "qemu-system-aarch64": qemu("6.2.0") }, "hidden");
    const refused = (error: unknown) =>
      error instanceof BootError &&
      /qemu-system-aarch64 is version 6\.2\.0, older than 7\.2;/.test(error.message);
    await assert.rejects(openTools(job).qemu(), refused);
    assert.equal((await inspectKit(job, qemuKit)).state, "absent");
  });

  it("that does not run is named with the reason", async (test) => {
    const broken = "#!/bin/sh\necho 'cannot open shared object' >&2\nexit 127\n";
    await commandsOnPath(test, { "qemu-system-aarch64": broken }, "hidden");
    await assert.rejects(openTools(await testJob(test)).qemu(), /does not run: cannot open shared object/);
  });
});
