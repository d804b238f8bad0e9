import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { BootError } from "../error.ts";
import { bootHost, type HostConfig, hostArguments } from "../system.ts";
import { openTools } from "../tools.ts";
import { bootModeSite, commandsOnPath, sampleImage, temporaryFolder, testJob } from "./samples.ts";

/** Tries to boot this kernel file; a QEMU that only knows its version stands by. */
async function boot(
  test: TestContext,
  kernel: Uint8Array,
  config: Partial<HostConfig> = {},
): Promise<unknown> {
  await commandsOnPath(test, { "qemu-system-aarch64": "#!/bin/sh\necho QEMU emulator version 9.0.0\n" });
  const folder = await temporaryFolder(test);
  await writeFile(join(folder, "Image"), kernel);
  await writeFile(join(folder, "initrd"), "070701");
  const job = await testJob(test);
  return bootHost(job, openTools(job), {
    ...{ core: "on", vms: "ordinary", cpus: 1, memory: 1n << 30n, cpu: "max", qemuArgs: [] },
    kernel: join(folder, "Image"),
    initrd: join(folder, "initrd"),
    ...config,
  });
}

const refused = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof BootError, `${error}`);
  assert.match(error.message, pattern);
  return true;
};

describe("the host's kernel command line", () => {
  it("asks for protected mode with the core, unless the user chose a mode", () => {
    assert.equal(hostArguments({ core: "off" }), "console=ttyAMA0");
    assert.equal(hostArguments({ core: "off", append: " quiet " }), "console=ttyAMA0 quiet");
    assert.equal(
      hostArguments({ core: "on", append: "quiet" }),
      "console=ttyAMA0 kvm-arm.mode=protected quiet",
    );
    assert.equal(
      hostArguments({ core: "on", append: "quiet kvm-arm.mode=nvhe" }),
      "console=ttyAMA0 quiet kvm-arm.mode=nvhe",
    );
    assert.equal(
      hostArguments({ core: "on", append: "xkvm-arm.mode=1" }),
      "console=ttyAMA0 kvm-arm.mode=protected xkvm-arm.mode=1",
    );
  });
});

describe("a host", () => {
  it("on the core is refused when its kernel cannot be patched or has no BTF", async (test) => {
    await assert.rejects(boot(test, sampleImage()), refused(/must occur once and occurs nowhere/));
    const patchable = sampleImage([{ at: 1024, bytes: bootModeSite }]);
    await assert.rejects(boot(test, patchable), refused(/has no BTF/));
  });

  it("is refused when its kernel is no arm64 Image, with and without the core", async (test) => {
    for (const core of ["on", "off"] as const) {
      await assert.rejects(boot(test, Buffer.alloc(5000), { core }), refused(/is not an arm64 Image/));
    }
  });

  it("is refused when its RAM is too small, with and without the core", async (test) => {
    for (const core of ["on", "off"] as const) {
      await assert.rejects(
        boot(test, sampleImage(), { core, memory: 32n << 20n }),
        refused(/--memory 32M is too small/),
      );
    }
  });

  it("is refused when a file is missing, naming it", async (test) => {
    await assert.rejects(
      boot(test, sampleImage(), { initrd: "/none/initrd" }),
      refused(/initrd \/none\/initrd \(ENOENT\)/),
    );
    await assert.rejects(
      boot(test, sampleImage(), { kernel: "/none/Image" }),
      refused(/kernel \/none\/Image \(ENOENT\)/),
    );
  });

  it("is refused when its log cannot be written", async (test) => {
    const log = "/none/log";
    await assert.rejects(
      boot(test, sampleImage(), { core: "off", log }),
      refused(/log \/none\/log \(ENOENT\)/),
    );
  });
});
