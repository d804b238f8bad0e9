/** Entering a guest: what its host may choose, and what the core keeps to itself whatever the host writes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  guestAccess,
  guestClobber,
  guestFp,
  guestRead,
  guestSve,
  guestWrite,
  interrupt,
  writableByGuest,
} from "../guest.ts";
import { Exit } from "../kernel.ts";
import { cpuModelNames } from "../models.ts";
import { memoryType, walk } from "../stage2.ts";
import { type LabOptions, openLab } from "./lab.ts";

function readyVcpu(options: LabOptions = {}, shape = {}) {
  const lab = openLab(options);
  const cpu = lab.machine.cpu(0);
  const vm = lab.kernel.createVm(cpu);
  const vcpu = lab.kernel.createVcpu(cpu, vm, shape);
  const set = (member: string, value: bigint, size = 8) =>
    lab.kernel.poke(lab.kernel.member(vcpu.pa, member), value, size);
  return { ...lab, cpu, vm, vcpu, set, run: () => lab.kernel.run(cpu, vcpu) };
}

const ALL = (1n << 64n) - 1n;

for (const model of cpuModelNames) {
  test(`a host that asks for every bit of HCR_EL2, MDCR_EL2 and HCRX_EL2 on ${model} gets only its guest's own`, () => {
    const { cpu, set, run, machine } = readyVcpu({ model });
    for (const member of ["hcrEl2", "mdcrEl2", "hcrxEl2"]) set(member, ALL);
    // The invariants look at the registers at each entry.
    assert.equal(run(), "guest");
    const hcr = cpu.registers.get("hcr_el2");
    for (const bit of [12, 27, 29, 32, 33, 34, 38, 42, 43, 45, 47, 51, 53, 56, 57])
      assert.equal((hcr >> BigInt(bit)) & 1n, 0n, `HCR_EL2 bit ${bit}`);
    assert.equal((cpu.registers.get("hcrx_el2") >> 22n) & 1n, 0n, "EnFPM");
    interrupt(machine, cpu);
  });

  test(`a host that asks for no trap at all on ${model} has those that the core needs`, () => {
    const { cpu, set, run, machine } = readyVcpu({ model });
    for (const member of ["hcrEl2", "mdcrEl2", "hcrxEl2"]) set(member, 0n);
    assert.equal(run(), "guest");
    const hcr = cpu.registers.get("hcr_el2");
    for (const bit of [0, 1, 3, 4, 5, 9, 10, 17, 19, 20, 21, 22, 31, 35, 36])
      assert.equal((hcr >> BigInt(bit)) & 1n, 1n, `HCR_EL2 bit ${bit}`);
    assert.equal(
      (cpu.registers.get("mdcr_el2") >> 9n) & 1n,
      1n,
      "the host's breakpoints are open to the guest",
    );
    interrupt(machine, cpu);
  });
}

test("a guest finds nothing of the host's in SMPRI_EL1 and TPIDR2_EL0, and leaves nothing there", () => {
  const { cpu, run, machine } = readyVcpu({ model: "max" });
  cpu.registers.set("tpidr2_el0", 0x1234n);
  cpu.registers.set("smpri_el1", 5n);
  assert.equal(run(), "guest");
  assert.ok(writableByGuest(cpu).includes("tpidr2_el0"));
  assert.deepEqual([cpu.registers.get("tpidr2_el0"), cpu.registers.get("smpri_el1")], [0n, 0n]);
  guestClobber(cpu, () => 0xdeadn);
  interrupt(machine, cpu);
  assert.deepEqual([cpu.registers.get("tpidr2_el0"), cpu.registers.get("smpri_el1")], [0x1234n, 5n]);
});

for (const [svcr, what] of [
  [1n, "streaming mode"],
  [2n, "ZA on"],
] as const) {
  test(`a host in SME's ${what} enters no guest`, () => {
    const { cpu, run } = readyVcpu({ model: "max" }, { sve: 2 });
    cpu.registers.set("svcr", svcr);
    assert.equal(run(), Exit.ILLEGAL);
    assert.equal(cpu.context, "host");
    cpu.registers.set("svcr", 0n);
    assert.equal(run(), "guest");
  });
}

test("a vCPU for which the host claims SVE does not run on a CPU without it", () => {
  const { run, cpu } = readyVcpu({ model: "cortex-a76" }, { sve: 2 });
  assert.equal(run(), Exit.ILLEGAL);
  assert.equal(cpu.context, "host");
});

test("a guest keeps its SVE registers over exits, with a longer vector length than the CPU's too", () => {
  for (const sve of [1, 2, 4]) {
    const { run, cpu, machine } = readyVcpu({ model: "max" }, { sve });
    assert.equal(run(), "guest");
    guestSve(machine, cpu, 0x1111_2222_3333_4444n);
    interrupt(machine, cpu);
    cpu.z.fill(0n);
    assert.equal(run(), "guest");
    assert.notEqual(guestFp(machine, cpu, 9n), "exit");
    assert.equal(cpu.p[0], 0x44);
  }
});

test("a guest without DEBUG_DIRTY does not see the host's breakpoints, and one with it has its own", () => {
  const { run, cpu, machine, set, kernel, vcpu, structures } = readyVcpu();
  const guestBvr = vcpu.pa + structures.debugRegisters + (structures.profile.dbgBvr as number);
  kernel.poke(guestBvr, 0xabcn);
  cpu.registers.set("dbgbvr0_el1", 0x5555n);
  set("mdcrEl2", 0n);
  assert.equal(run(), "guest");
  assert.ok(!writableByGuest(cpu).includes("dbgbvr0_el1"));
  interrupt(machine, cpu);
  set("iflags", 1n << 4n, 1);
  assert.equal(run(), "guest");
  assert.ok(writableByGuest(cpu).includes("dbgbvr0_el1"));
  assert.equal(cpu.registers.get("dbgbvr0_el1"), 0xabcn);
  cpu.registers.set("dbgbvr0_el1", 0x777n);
  interrupt(machine, cpu);
  assert.equal(cpu.registers.get("dbgbvr0_el1"), 0x5555n);
  assert.equal(kernel.peek(guestBvr), 0x777n);
});

for (const pstate of [0x9n, 0xdn, 0x1n, 0x1an, 0x8n]) {
  test(`a vCPU whose PSTATE is 0x${pstate.toString(16)} never runs`, () => {
    const { run, cpu, kernel, vcpu } = readyVcpu();
    kernel.setContext(vcpu, { pstate });
    assert.equal(run(), Exit.ILLEGAL);
    assert.equal(cpu.context, "host");
  });
}

for (const model of ["cortex-a76", "max"] as const) {
  for (const privateVms of [false, true]) {
    for (const attribute of [0xf, 6, 7, 0xe]) {
      test(`memory proposed with attribute ${attribute} is write-back in ${privateVms ? "a private" : "an ordinary"} VM on ${model}`, () => {
        const { run, cpu, kernel, vm, machine } = readyVcpu({ model, privateVms });
        const ipa = vm.frames.first * 4096;
        kernel.back(vm, vm.frames.first);
        const slot = kernel.slot(vm, ipa, 3, false) as number;
        kernel.poke(slot, (kernel.peek(slot) & ~(0xfn << 2n)) | (BigInt(attribute) << 2n));
        assert.equal(run(), "guest");
        guestWrite(machine, cpu, ipa, 77n);
        const regime = machine.regimeOf(cpu);
        assert.ok(regime);
        const found = walk(regime, ipa, (at) => machine.descriptor(at));
        assert.ok("leaf" in found);
        const forced = ((cpu.registers.get("hcr_el2") >> 46n) & 1n) !== 0n;
        assert.equal(memoryType(found.leaf.memAttr, forced), "normal");
        assert.equal(forced, model === "max");
        assert.equal(found.leaf.memAttr, forced ? 6 : 0xf);
      });
    }
  }
}

test("an ordinary VM has device and non-cacheable memory where its host proposes that", () => {
  for (const model of ["cortex-a76", "max"] as const) {
    const { run, cpu, kernel, vm, machine } = readyVcpu({ model });
    const [device, uncached] = [vm.frames.first, vm.frames.first + 1];
    kernel.back(vm, device, { type: "device" });
    kernel.back(vm, uncached, { type: "nonCacheable" });
    assert.equal(run(), "guest");
    for (const [frame, type] of [
      [device, "device"],
      [uncached, "normal non-cacheable"],
    ] as const) {
      guestRead(machine, cpu, frame * 4096);
      const regime = machine.regimeOf(cpu);
      assert.ok(regime);
      const found = walk(regime, frame * 4096, (at) => machine.descriptor(at));
      assert.ok("leaf" in found);
      assert.equal(memoryType(found.leaf.memAttr, model === "max"), type);
    }
  }
});

test("a page the host proposes without execution is not executed until the host allows it", () => {
  const { run, cpu, kernel, vm, vcpu, machine } = readyVcpu();
  const va = BigInt(vm.frames.first * 4096);
  kernel.back(vm, vm.frames.first, { executable: false });
  assert.equal(run(), "guest");
  assert.notEqual(guestRead(machine, cpu, Number(va)), "exit");
  assert.equal(guestAccess(machine, cpu, { kind: "execute", va }), "exit");
  assert.equal(
    kernel.peek(kernel.member(vcpu.pa, "faultEsrEl2")) & 0x3fn,
    0x0fn,
    "a permission fault at level 3",
  );
  kernel.back(vm, vm.frames.first);
  assert.equal(run(), "guest");
  assert.notEqual(guestAccess(machine, cpu, { kind: "execute", va }), "exit");
});
