/** Power control: every CPU enters and leaves the host by way of the core, whatever the host asks of firmware. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Psci, PsciResult, smc64 } from "../firmware.ts";
import { type LabOptions, openLab } from "./lab.ts";

/** Where firmware starts CPUs: above 4 GiB, as on machines whose RAM begins there. */
const ENTRY = 0x81_0123_4560;
const HOST_ENTRY = 0xffff_8000_4567_8000n;

function labWithHighEntry(options: LabOptions = {}) {
  return openLab({ ...options, bootInfo: { secondaryEntry: ENTRY } });
}

function turnOff(lab: ReturnType<typeof openLab>, index: number) {
  const cpu = lab.machine.cpu(index);
  lab.machine.smcByHost(cpu, Psci.CPU_OFF);
  assert.equal(cpu.context, "off");
  return cpu;
}

test("CPU_ON starts the CPU in the core, and then where the host asked", () => {
  const lab = labWithHighEntry();
  const target = turnOff(lab, 1);
  lab.machine.smcByHost(lab.machine.cpu(0), smc64(Psci.CPU_ON), target.affinity, HOST_ENTRY, 77n);
  assert.equal(lab.machine.cpu(0).x[0], PsciResult.SUCCESS);
  assert.equal(target.context, "host");
  assert.equal(target.pc, HOST_ENTRY);
  assert.equal(target.x[0], 77n);
});

test("CPU_ON by the 32-bit convention starts the CPU in the core too, with halves of the host's arguments", () => {
  const lab = labWithHighEntry();
  const target = turnOff(lab, 1);
  const junk = 0xabcd_0000_0000n;
  lab.machine.smcByHost(
    lab.machine.cpu(0),
    Psci.CPU_ON,
    target.affinity | junk,
    0x4567_8000n | junk,
    junk | 5n,
  );
  assert.equal(lab.machine.cpu(0).x[0], PsciResult.SUCCESS);
  assert.equal(target.context, "host");
  assert.equal(target.pc, 0x4567_8000n);
  assert.equal(target.x[0], 5n);
});

for (const [name, id, args] of [
  ["CPU_SUSPEND", Psci.CPU_SUSPEND, [1 << 16, 0x4567_8000, 9]],
  ["CPU_SUSPEND, 64 bits", smc64(Psci.CPU_SUSPEND), [1 << 16, 0x4567_8000, 9]],
  ["SYSTEM_SUSPEND", Psci.SYSTEM_SUSPEND, [0x4567_8000, 9]],
  ["SYSTEM_SUSPEND, 64 bits", smc64(Psci.SYSTEM_SUSPEND), [0x4567_8000, 9]],
] as const) {
  test(`a CPU comes back from ${name} through the core`, () => {
    const lab = labWithHighEntry();
    const cpu = lab.machine.cpu(0);
    turnOff(lab, 1);
    lab.machine.smcByHost(cpu, id, ...args);
    assert.equal(cpu.context, "off");
    assert.ok(lab.machine.wake(0));
    assert.equal(cpu.context, "host");
    assert.equal(cpu.pc, 0x4567_8000n);
    assert.equal(cpu.x[0], 9n);
  });
}

test("a suspension that firmware refuses or cuts short leaves nothing behind", () => {
  const lab = labWithHighEntry();
  lab.machine.firmware.deepSleep = false;
  const cpu = lab.machine.cpu(1);
  lab.machine.smcByHost(cpu, smc64(Psci.CPU_SUSPEND), 1 << 16, HOST_ENTRY, 9);
  assert.equal(cpu.context, "host");
  assert.equal(lab.machine.core.cpu(1).get("bootPending"), 0n);
  lab.kernel.startCpu(lab.machine.cpu(0), 1);
  assert.equal(BigInt.asIntN(64, lab.machine.cpu(0).x[0] as bigint), PsciResult.ALREADY_ON);
});

test("every other PSCI function with an entry point, and unknown ones, never reach firmware", () => {
  const lab = labWithHighEntry();
  const cpu = lab.machine.cpu(0);
  turnOff(lab, 1);
  const refused = [
    Psci.CPU_FREEZE,
    Psci.CPU_DEFAULT_SUSPEND,
    0x8400_0015,
    0x8400_001f,
    0x8400_0020,
    0x8400_0054,
  ];
  for (const id of [...refused, ...refused.map(smc64)]) {
    const before = lab.machine.firmware.calls.length;
    lab.machine.smcByHost(cpu, id, HOST_ENTRY, HOST_ENTRY, HOST_ENTRY);
    assert.equal(BigInt.asIntN(64, cpu.x[0] as bigint), PsciResult.NOT_SUPPORTED, id.toString(16));
    assert.equal(lab.machine.firmware.calls.length, before, `${id.toString(16)} reached firmware`);
  }
});

test("calls that only report or mitigate reach firmware as they are, and their neighbours do not", () => {
  const { machine } = labWithHighEntry();
  const cpu = machine.cpu(0);
  const reaches = (id: number) => {
    const before = machine.firmware.calls.length;
    machine.smcByHost(cpu, id, 1, 2, 3);
    return machine.firmware.calls.length > before;
  };
  const harmless = [
    0x8000_0000, 0x8000_0001, 0x8000_0002, 0x8000_0004, 0x8000_3fff, 0x8000_7fff, 0x8000_8000,
  ];
  for (const id of [
    ...harmless,
    Psci.VERSION,
    Psci.AFFINITY_INFO,
    smc64(Psci.AFFINITY_INFO),
    Psci.PSCI_FEATURES,
    0x8400_0050,
  ])
    assert.ok(reaches(id), `${id.toString(16)} does not reach firmware`);
  for (const id of [
    0x8000_0003, 0x8000_0005, 0x8000_3ff0, 0x8000_5000, 0x8000_8001, 0xc000_8000, 0x8200_0000,
  ])
    assert.ok(!reaches(id), `${id.toString(16)} reaches firmware`);
});
