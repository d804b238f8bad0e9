import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { allGood, complaint, isGood, lostReports, report, summary, type Told } from "../comparison.ts";

/** A host that did everything right; on its own KVM every attack on a VM succeeds. */
function told(core: "on" | "off", changes: Partial<Told> = {}): Told {
  const onCore = core === "on";
  const attack = (target: "core" | "vm", name: string) => ({
    event: "attack" as const,
    target,
    name,
    result: onCore ? ("refused" as const) : ("succeeded" as const),
    detail: "SIGSEGV",
  });
  return {
    core,
    vms: "private",
    end: {
      reason: "poweroff",
      seconds: 12,
      core: onCore ? { wasmSha256: "ab".repeat(32) } : undefined,
    },
    host: {
      event: "host",
      kernel: "6.12.1",
      kvmMode: onCore ? "Protected hVHE" : "VHE",
      cpus: 2,
      memoryKiB: 1,
    },
    guests: [{ event: "guest", kind: "stock", vcpus: 2, online: 2, booted: true, poweredOff: true }],
    attacks: [attack("vm", "read a VM"), ...(onCore ? [attack("core", "read the core")] : [])],
    checks: [{ event: "check", name: "its pages read zero", ok: onCore, detail: "0 words" }],
    failedSteps: [],
    console: "the end",
    ...changes,
  };
}

const succeeding = (target: "core" | "vm") =>
  told("on").attacks.map((attack) =>
    attack.target === target ? { ...attack, result: "succeeded" as const } : attack,
  );

describe("a host of the demo", () => {
  it("is good when it did everything, whatever its own KVM lets attacks do", () => {
    assert.ok(isGood(told("on")));
    assert.ok(isGood(told("off")));
  });

  it("is not good when it fell short, on either side", () => {
    for (const core of ["on", "off"] as const) {
      const [guest] = told(core).guests;
      assert.ok(guest);
      const shortfalls: Partial<Told>[] = [
        { end: { ...told(core).end, reason: "timeout" } },
        { host: undefined },
        { guests: [] },
        { guests: [{ ...guest, booted: false }] },
        { guests: [{ ...guest, poweredOff: false }] },
        { guests: [{ ...guest, online: 1 }] },
        { attacks: [] },
        { failedSteps: ["attack"] },
      ];
      for (const shortfall of shortfalls)
        assert.equal(isGood(told(core, shortfall)), false, JSON.stringify(shortfall));
    }
  });

  it("is not good when an attack succeeds on the core, and the complaint names it", () => {
    for (const target of ["core", "vm"] as const) {
      const breached = told("on", { attacks: succeeding(target) });
      assert.equal(isGood(breached), false);
      assert.match(complaint(breached), /succeeded: read (the core|a VM) \(SIGSEGV\)[\s\S]*the end$/);
    }
  });

  it("is not good on the core when a check fails, or when the core was not attacked at all", () => {
    const checks = told("on").checks.map((check) => ({ ...check, ok: false }));
    assert.equal(isGood(told("on", { checks })), false);
    assert.match(complaint(told("on", { checks })), /does not hold: its pages read zero \(0 words\)/);
    const attacks = told("on").attacks.filter(({ target }) => target === "vm");
    assert.equal(isGood(told("on", { attacks })), false);
  });

  it("is not good when the core ends the story, and the complaint says why, without a console where there is none", () => {
    const panicked = told("on", {
      end: { ...told("on").end, reason: "panic", detail: "owners: page 7 has none" },
      console: "",
    });
    assert.equal(isGood(panicked), false);
    assert.match(complaint(panicked), /: panic \(owners: page 7 has none\)$/);
  });

  it("may do with ordinary VMs as it likes, but not with the core", () => {
    const checks = told("on").checks.map((check) => ({ ...check, ok: false }));
    assert.ok(isGood(told("on", { vms: "ordinary", attacks: succeeding("vm"), checks })));
    assert.equal(isGood(told("on", { vms: "ordinary", attacks: succeeding("core") })), false);
  });

  it("must report what its twin reported: silence is no refusal", () => {
    const attacks = told("on").attacks.filter(({ target }) => target === "core");
    const both = [told("off"), told("on", { attacks })];
    assert.deepEqual(lostReports(both), ["read a VM"]);
    assert.equal(allGood(both), false);
    assert.ok(allGood([told("off"), told("on")]));
    assert.ok(allGood([told("on")]));
  });
});

describe("the demo's JSON", () => {
  it("has what scripts rely on", () => {
    const { ok, seconds, host, kcore, guests, attacks } = report([told("off"), told("on")], 2.34567);
    assert.deepEqual([ok, seconds], [true, 2.346]);
    assert.deepEqual(host, { kernel: "6.12.1", kvmMode: "Protected hVHE", cpus: 2 });
    assert.deepEqual(guests, [{ kind: "stock", vcpus: 2, booted: true, poweredOff: true }]);
    assert.deepEqual(attacks, [
      {
        name: "read a VM",
        target: "vm",
        stock: "succeeded",
        corevisor: "refused",
        detail: { stock: "SIGSEGV", corevisor: "SIGSEGV" },
      },
      {
        name: "read the core",
        target: "core",
        stock: null,
        corevisor: "refused",
        detail: { stock: null, corevisor: "SIGSEGV" },
      },
    ]);
    const { wasmSha256, proved } = kcore as Record<string, unknown>;
    assert.equal(wasmSha256, "ab".repeat(32));
    assert.equal(proved, false, "no verdict is about these bytes");
  });
});

describe("the demo's summary", () => {
  it("shows both hosts side by side, and that these bytes are not the proved ones", () => {
    const text = summary([told("off"), told("on")], 60);
    assert.match(
      text,
      /^stock guest +booted with 2 vCPUs, powered off {3}booted with 2 vCPUs, powered off$/m,
    );
    assert.match(text, /^read a VM +succeeded +refused$/m);
    assert.match(text, /^read the core +no core +refused$/m);
    assert.match(text, /^succeeded +1 of 1 +0 of 2$/m);
    assert.match(text, /^its pages read zero +no +yes$/m);
    assert.match(text, /^core abababababababab: not .*: run npm run verify$/m);
    assert.match(text, /^60\.0 s in all$/m);
  });
});
