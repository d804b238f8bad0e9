import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { BootError } from "../error.ts";
import { loadModules, moduleFiles } from "../modules.ts";
import { sampleElf, temporaryFolder } from "./samples.ts";

const module = (depends: string, alias = "") =>
  sampleElf({
    sections: { ".modinfo": `license=GPL\0depends=${depends}\0${alias ? `alias=${alias}\0` : ""}` },
  });

/** The modules of a kernel: virtio_net needs net_failover, which needs failover; virtio is built in. */
async function kernel(test: TestContext): Promise<string> {
  const folder = await temporaryFolder(test);
  await mkdir(join(folder, "kernel/net"), { recursive: true });
  await writeFile(join(folder, "modules.builtin"), "kernel/drivers/virtio/virtio.ko\n");
  await writeFile(join(folder, "kernel/virtio_net.ko"), module("net_failover,virtio", "virtio:d00000001v*"));
  await writeFile(join(folder, "kernel/net/net_failover.ko.xz"), Buffer.from("packed"));
  await writeFile(join(folder, "kernel/net/failover.ko"), module(""));
  await writeFile(join(folder, "kernel/virtio-rng.ko"), module("virtio"));
  await writeFile(join(folder, "kernel/orphan.ko"), module("gone"));
  return folder;
}

const unxz = async (path: string) => {
  assert.match(path, /net_failover\.ko\.xz$/);
  return module("failover");
};

describe("kernel modules", () => {
  it("come after what they depend on, unpacked, without what is built in", async (test) => {
    const loaded = await loadModules(await kernel(test), ["virtio_net", "virtio_rng", "failover"], unxz);
    assert.deepEqual(
      loaded.map(({ name }) => name),
      ["failover", "net_failover", "virtio_net", "virtio_rng"],
    );
  });

  it("bring modules.dep and modules.alias for modprobe", async (test) => {
    const files = moduleFiles("6.12", await loadModules(await kernel(test), ["virtio_net"], unxz));
    const text = (path: string) => {
      const entry = files.find((file) => file.path === path);
      return entry?.kind === "file" ? Buffer.from(entry.data).toString() : undefined;
    };
    assert.equal(
      text("lib/modules/6.12/modules.dep"),
      "failover.ko: \nnet_failover.ko: failover.ko\nvirtio_net.ko: net_failover.ko failover.ko\n",
    );
    assert.equal(text("lib/modules/6.12/modules.alias"), "alias virtio:d00000001v* virtio_net\n");
    assert.ok(text("lib/modules/6.12/virtio_net.ko"));
  });

  it("that the kernel does not have are named, with who needs them", async (test) => {
    const folder = await kernel(test);
    const refused = (pattern: RegExp) => (error: unknown) =>
      error instanceof BootError && pattern.test(error.message);
    await assert.rejects(
      loadModules(folder, ["nothing"], unxz),
      refused(/no module nothing, needed by the initramfs/),
    );
    await assert.rejects(loadModules(folder, ["orphan"], unxz), refused(/no module gone, needed by orphan/));
  });
});
