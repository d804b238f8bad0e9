/** Power on: the core starts only on what makes sense, and gives the host the machine in a known state. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { always } from "../invariants.ts";
import { CoreFailure, Machine } from "../machine.ts";
import { cpuModelNames } from "../models.ts";
import { chooseStructures } from "../structures.ts";
import { openLab, stockCore } from "./lab.ts";

const TIB = 2 ** 40;

/** A machine with words of BootInfo and of the profile that differ from those that fit. */
function switchOn(bootInfo: Record<string, number>, profile: Record<string, number> = {}) {
  const structures = chooseStructures(1);
  const machine = new Machine(stockCore, {
    ...{ ramPages: 8192, bootInfo },
    profile: { ...structures.profile, ...profile },
  });
  machine.powerOn();
  return machine;
}

function refuses(bootInfo: Record<string, number>, profile: Record<string, number> = {}) {
  assert.throws(
    () => switchOn(bootInfo, profile),
    (error) => error instanceof CoreFailure && /BOOT_INFO/.test(error.message),
  );
}

const base = 0x4000_0000;
const nonsense: Readonly<Record<string, Record<string, number>>> = {
  "no CPU": { cpus: 0 },
  "more CPUs than the core has room for": { cpus: 65 },
  "RAM that starts inside a page": { ramBase: base + 8 },
  "RAM beyond 48 bits": { ramBase: 2 ** 48 - 4096 },
  "RAM whose end overflows 64 bits": { ramBase: 2 ** 64 - 2 ** 30 + base, ramPages: 2 ** 20 },
  "RAM beyond what the CPUs can address": { ramPages: TIB / 4096 },
  "RAM that ends where the CPUs' addresses do, and one page": { ramPages: (TIB - base) / 4096 + 1 },
  "more pages than there are": { ramPages: 2 ** 36 },
  "a core below RAM": { coreBase: base - 0x20_0000 },
  "a core behind RAM": { coreBase: base + 8192 * 4096 },
  "a core that leads out of RAM": { corePages: 8192 },
  "a core inside a block": { coreBase: base + 0x40_1000, rootsBase: base + 0x40_2000 },
  "roots outside the core": { rootsBase: base },
  "roots that are not at a multiple of 2 MiB": { rootsBase: base + 0x40_2000 },
  "an owner table over the roots": { s2pageBase: base + 0x40_2000 },
  "an owner table outside the core": { s2pageBase: base },
  "a pool that leads out of the core": { poolPages: 1024 },
  "a pool whose size overflows": { poolPages: 2 ** 52 },
  "a pool over the owner table": { poolBase: base + 0x40_0000 + 256 * 8192 },
  "neither private nor ordinary VMs": { privateVms: 2 },
};
for (const [what, words] of Object.entries(nonsense)) {
  test(`the core does not start on ${what}`, () => refuses(words));
}

for (const [what, end] of [
  ["ends behind what the CPUs can address", TIB + 2 ** 24],
  ["leads through the end of 64 bits", 2 ** 64 + 2 ** 24],
] as const) {
  test(`the core does not start on RAM that ${what}, with everything else in its place`, () => {
    const { profile } = chooseStructures(1);
    const ramPages = 8192;
    const machine = new Machine(stockCore, { ramBase: end - ramPages * 4096, ramPages, profile });
    assert.throws(() => machine.powerOn(), /BOOT_INFO/);
  });
}

test("the core does not start with roots at address 0, where an entry would look like none", () => {
  const { profile } = chooseStructures(1);
  const bootInfo = { coreBase: 0, rootsBase: 0, s2pageBase: 0x20_0000, poolBase: 0x20_0000 + 8192 * 8 };
  const machine = new Machine(stockCore, { ramBase: 0, ramPages: 8192, profile, bootInfo });
  assert.throws(() => machine.powerOn(), /BOOT_INFO/);
});

test("the core starts on RAM that ends where the CPUs' addresses do", () => {
  const { kernel, machine } = openLab({ ramBase: TIB - 8192 * 4096 });
  const last = machine.memory.end - 4096;
  assert.deepEqual(kernel.write(machine.cpu(0), last, 5n), { value: 5n });
});

test("the core does not start on a profile that leads out of the host's structures", () => {
  const { profile } = chooseStructures(1);
  refuses({}, { vcpuSize: 16392 });
  refuses({}, { kvmSize: 512 });
  refuses({}, { vcpuSize: (profile.vcpuSize as number) + 4 });
  for (const member of ["mmu", "teardownPages"]) refuses({}, { [member]: (profile.kvmSize as number) - 56 });
  for (const bank of ["dbgBcr", "dbgWvr"]) refuses({}, { [bank]: 520 });
  for (const member of ["regs", "vgicLr", "apgakeyhiEl1"]) {
    refuses({}, { [member]: (profile.vcpuSize as number) - 632 });
    refuses({}, { [member]: 2 ** 63 });
  }
});

for (const model of cpuModelNames) {
  test(`${model} comes up, and each CPU runs the host under its own translation`, () => {
    const { machine, invariants } = openLab({ model, cpus: 6 });
    for (const cpu of machine.cpus) {
      assert.equal(cpu.context, "host");
      assert.equal(cpu.registers.get("vpidr_el2"), cpu.registers.get("midr_el1"));
      assert.equal(cpu.registers.get("vmpidr_el2"), cpu.registers.get("mpidr_el1"));
      assert.equal(cpu.registers.get("cntvoff_el2"), 0n);
    }
    assert.equal(always.registersFitContext(machine), undefined);
    invariants.check();
  });
}

test("a CPU that differs from the first in FEAT_S2FWB is not let in", () => {
  const prepare = (machine: Machine) => machine.cpu(1).registers.set("id_aa64mmfr2_el1", 1n << 40n);
  assert.throws(() => openLab({ prepare }), /UNSUPPORTED_CPU/);
});

test("a CPU whose profiling and trace buffers firmware keeps never has them touched", () => {
  const buffers = ["pmbidr_el1", "trbidr_el1"];
  const { machine } = openLab({
    model: "max",
    prepare: ({ cpus }) => {
      for (const { registers } of cpus) for (const name of buffers) registers.set(name, 1n << 4n);
    },
  });
  for (const { registers } of machine.cpus) {
    assert.equal(registers.get("mdcr_el2") & (3n << 24n), 0n);
    assert.equal(registers.get("mdcr_el2") & (3n << 12n), 0n);
  }
});
