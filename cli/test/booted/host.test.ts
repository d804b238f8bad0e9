import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { temporaryFolder } from "../../../boot/test/samples.ts";
import { corevisor, eventsOf, hostDoes, qemuProcesses, startCorevisor } from "./corevisor.ts";

const canDropNetwork = spawnSync("unshare", ["-rn", "true"]).status === 0;

for (const core of ["off", "on"] as const) {
  const mode = core === "on" ? /^Protected / : /^(VHE|Hyp nVHE)$/;

  describe(`a stock host with the core ${core}`, () => {
    it("boots to user space, finds its KVM, and powers off", async () => {
      const ended = await hostDoes("info", "--core", core);
      const [host] = eventsOf(ended, "host");
      assert.match(host?.kernel ?? "", /^6\.12\./);
      assert.match(host?.kvmMode ?? "", mode);
      assert.equal(host?.cpus, 2);
      assert.match(ended.stdout, /reboot: Power down/);
    });

    for (const [cpus, memory] of [
      [1, "1G"],
      [4, "4G"],
    ] as const) {
      it(`runs with ${cpus} CPUs and ${memory}, and takes CPUs off and on`, async () => {
        const args = ["--core", core, "--cpus", `${cpus}`, "--memory", memory];
        const [host] = eventsOf(await hostDoes("hotplug,info", ...args), "host");
        assert.equal(host?.cpus, cpus);
        // The kernel, its page structures and the core take their share.
        const bytes = Number.parseInt(memory, 10) * 2 ** 20;
        assert.ok(
          (host?.memoryKiB ?? 0) > bytes * 0.9 && (host?.memoryKiB ?? 0) < bytes,
          `${host?.memoryKiB}`,
        );
      });
    }

    it("reboots", async () => {
      const append = "quiet corevisor.then=reboot";
      const { status, stdout } = await corevisor("run", "--core", core, "--append", append, "--json");
      assert.equal(status, 0);
      assert.equal(JSON.parse(stdout).reason, "reboot");
    });

    it("boots again after a real reset of the machine", async () => {
      const args = ["--append", "quiet corevisor.then=reboot", "--qemu-arg", "-action reboot=reset"];
      const run = startCorevisor(["run", "--core", core, "--timeout", "300", ...args]);
      const booted = () => run.output.stdout.match(/"event":"up"/g)?.length ?? 0;
      while (booted() < 2 && run.child.exitCode === null) await new Promise((go) => setTimeout(go, 100));
      run.child.kill("SIGINT");
      assert.equal((await run.ended).status, 130);
      assert.equal(booted(), 2);
    });

    it("panics without an init, and the run says so", async (test) => {
      const log = join(await temporaryFolder(test), "log");
      const args = ["--append", "rdinit=/none init=/none", "--log", log, "--json"];
      const { status, stdout } = await corevisor("run", "--core", core, ...args);
      assert.equal(status, 1);
      const { ok, reason, detail } = JSON.parse(stdout);
      assert.deepEqual([ok, reason], [false, "panic"]);
      assert.match(detail, /^Kernel panic - not syncing: /);
      assert.match(
        await readFile(log, "utf8"),
        /Kernel panic[\s\S]*---\[ end Kernel panic/,
        "with its backtrace",
      );
    });

    it("is gone after Ctrl-C", async () => {
      const mark = `mark=${process.pid}-${core}`;
      const run = startCorevisor(["run", "--core", core, "--append", `${mark} corevisor.steps=guest`]);
      while (!run.output.stdout.includes('"event":"step"') && run.child.exitCode === null) {
        await new Promise((go) => setTimeout(go, 100));
      }
      run.child.kill("SIGINT");
      assert.equal((await run.ended).status, 130);
      assert.deepEqual(qemuProcesses(mark), []);
    });
  });
}

describe("ordinary VMs on the core", () => {
  it("starts a stock VM with two vCPUs under stock QEMU", async () => {
    const [guest] = eventsOf(await hostDoes("guest"), "guest");
    const { kind, vcpus, online, booted, poweredOff } = guest ?? {};
    assert.deepEqual(
      { kind, vcpus, online, booted, poweredOff },
      { kind: "stock", vcpus: 2, online: 2, booted: true, poweredOff: true },
    );
  });

  it("starts a VM whose disk, network and console of virtio's work, with interrupts from the ITS", async () => {
    const [guest] = eventsOf(await hostDoes("guest:4:devices", "--memory", "2G"), "guest");
    const { online, disk, net, console, itsInterrupts } = guest ?? {};
    assert.deepEqual({ online, disk, net, console }, { online: 4, disk: true, net: true, console: true });
    assert.ok((itsInterrupts ?? 0) > 0);
  });

  it("starts three VMs at once", async () => {
    const guests = eventsOf(await hostDoes("guests:3", "--memory", "2G"), "guest");
    assert.deepEqual(guests.map(({ kind, poweredOff }) => `${kind} ${poweredOff}`).sort(), [
      "stock-1 true",
      "stock-2 true",
      "stock-3 true",
    ]);
  });
});

describe("what was fetched once", () => {
  it("is enough to boot without a network", { skip: !canDropNetwork }, async () => {
    // Make sure that it is there.
    await hostDoes("info", "--core", "off");
    const args = ["run", "--core", "off", "--append", "quiet", "--json"];
    const { status, stdout, stderr } = await startCorevisor(args, ["unshare", "-rn"]).ended;
    assert.equal(status, 0, stdout + stderr);
  });
});

describe("a private VM", () => {
  for (const vcpus of [1, 4]) {
    it(`runs a stock guest with ${vcpus} vCPUs to its end`, async () => {
      const steps = `guest:${vcpus}:private`;
      const [guest] = eventsOf(await hostDoes(steps, "--vms", "private", "--cpus", "4"), "guest");
      const { online, booted, poweredOff } = guest ?? {};
      assert.deepEqual([online, booted, poweredOff], [vcpus, true, true]);
    });
  }

  it("leaves no memory behind when it is killed", async () => {
    const [cycles] = eventsOf(await hostDoes("cycles:14", "--vms", "private"), "cycles");
    const lost = (cycles?.freeBeforeKiB ?? 0) - (cycles?.freeAfterKiB ?? Number.POSITIVE_INFINITY);
    assert.ok(lost < 1024, `${lost} KiB in four cycles`);
  });
});

describe("corevisor demo", () => {
  it("refuses on the core what succeeds on the host's own KVM, with the JSON that scripts rely on", async () => {
    const { status, stdout, stderr } = await corevisor("demo", "--json");
    assert.equal(status, 0, stderr);
    const demo = JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
    assert.equal(demo.ok, true);
    assert.equal(typeof demo.seconds, "number");
    assert.match(demo.host.kernel, /^6\.12\./);
    assert.match(demo.host.kvmMode, /^Protected /);
    assert.equal(demo.host.cpus, 2);
    assert.match(demo.kcore.wasmSha256, /^[0-9a-f]{64}$/);
    assert.equal(typeof demo.kcore.proved, "boolean");
    assert.deepEqual(demo.guests, [{ kind: "stock", vcpus: 2, booted: true, poweredOff: true }]);
    const attacks: { target: string; stock: string | null; corevisor: string }[] = demo.attacks;
    assert.ok(attacks.every(({ corevisor }) => corevisor === "refused"));
    assert.equal(attacks.filter(({ target }) => target === "core").length, 6);
    const through = attacks.filter(({ stock }) => stock === "succeeded");
    assert.ok(through.length >= 18, "the attacks are real: on stock KVM they succeed");
    assert.ok(demo.checks.every(({ corevisor }: { corevisor: boolean }) => corevisor));
  });

  it("ends with 1 and says why when a host does not get there", async () => {
    const { status, stdout, stderr } = await corevisor("demo", "--core", "off", "--timeout", "2", "--json");
    assert.equal(status, 1);
    assert.equal(JSON.parse(stdout).ok, false);
    assert.match(stderr, /^corevisor: host with its own KVM: timeout$/m);
  });
});

describe("corevisor bench", () => {
  it("ends with 1 and says why when a host does not get there", async () => {
    const { status, stdout, stderr } = await corevisor("bench", "--timeout", "2", "--json");
    assert.equal(status, 1);
    assert.match(stderr, /^corevisor: stock nVHE did not report hypercall \(timeout after 2\.\d s\)/m);
    assert.equal(JSON.parse(stdout).ok, false);
  });
});
