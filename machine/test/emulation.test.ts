/** The host kernel touches a private page that is not its own: its instruction is carried out as if the page were zero. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { guestWrite } from "../guest.ts";
import { openLab } from "./lab.ts";

/** A page that a private VM owns, and the CPU of a host that is about to touch it. */
function donatedPage() {
  const lab = openLab({ privateVms: true });
  const { kernel, machine } = lab;
  const cpu = machine.cpu(0);
  const vm = kernel.createVm(cpu);
  const vcpu = kernel.createVcpu(cpu, vm);
  kernel.back(vm, vm.frames.first);
  assert.equal(kernel.run(cpu, vcpu), "guest");
  assert.notEqual(guestWrite(machine, cpu, vm.frames.first * 4096, 0x5ec2e7n), "exit");
  const host = machine.cpu(1);
  return { ...lab, cpu: host, pa: vm.backing.get(vm.frames.first) as number };
}

const X1 = 0xffff_8000_1234_5000n;

interface Emulated {
  /** Registers after the instruction: x0, x1 (the base) and x2, which begin as 0xa0, X1 and 0xa2. */
  readonly x0?: bigint;
  readonly x1?: bigint;
  readonly x2?: bigint;
}

const instructions: readonly (readonly [name: string, code: number, kind: "read" | "write", Emulated])[] = [
  ["ldr x0, [x1]", 0xf940_0020, "read", { x0: 0n }],
  ["ldr x0, [x1, #8]!", 0xf840_8c20, "read", { x0: 0n, x1: X1 + 8n }],
  ["ldr x0, [x1], #-16", 0xf85f_0420, "read", { x0: 0n, x1: X1 - 16n }],
  ["ldur x0, [x1, #-8]", 0xf85f_8020, "read", { x0: 0n }],
  ["ldr x0, [x1, x2]", 0xf862_6820, "read", { x0: 0n }],
  ["ldrsb w0, [x1]", 0x39c0_0020, "read", { x0: 0n }],
  ["ldrsh x0, [x1]", 0x7980_0020, "read", { x0: 0n }],
  ["ldrsw x0, [x1]", 0xb980_0020, "read", { x0: 0n }],
  ["ldtr x0, [x1]", 0xf840_0820, "read", { x0: 0n }],
  ["ldr xzr, [x1]", 0xf940_003f, "read", {}],
  ["str x0, [x1]", 0xf900_0020, "write", {}],
  ["strb w0, [x1], #1", 0x3800_1420, "write", { x1: X1 + 1n }],
  ["ldp x0, x2, [x1]", 0xa940_0820, "read", { x0: 0n, x2: 0n }],
  ["ldp w0, w2, [x1], #8", 0x28c1_0820, "read", { x0: 0n, x2: 0n, x1: X1 + 8n }],
  ["ldp x0, x2, [x1, #-16]!", 0xa9ff_0820, "read", { x0: 0n, x2: 0n, x1: X1 - 16n }],
  ["ldpsw x0, x2, [x1], #8", 0x68c1_0820, "read", { x0: 0n, x2: 0n, x1: X1 + 8n }],
  ["ldnp x0, x2, [x1]", 0xa840_0820, "read", { x0: 0n, x2: 0n }],
  ["stp x0, x2, [x1], #16", 0xa881_0820, "write", { x1: X1 + 16n }],
  ["stnp x0, x2, [x1]", 0xa800_0820, "write", {}],
  ["ldadd x2, x0, [x1]", 0xf822_0020, "write", { x0: 0n }],
  ["swpal x2, x0, [x1]", 0xf8e2_8020, "write", { x0: 0n }],
  ["ldapr x0, [x1]", 0xf8bf_c020, "read", { x0: 0n }],
];

for (const [name, code, kind, changed] of instructions) {
  test(`${name} reads zeroes and writes nothing`, () => {
    const { kernel, machine, cpu, pa } = donatedPage();
    cpu.x.set([0xa0n, X1, 0xa2n]);
    const outcome = kernel.access(cpu, {
      ...{ kind, va: kernel.linear(pa), value: 0xa0n },
      instruction: BigInt(code),
    });
    assert.ok("emulated" in outcome, `${name} is refused`);
    const expected = { x0: 0xa0n, x1: X1, x2: 0xa2n, ...changed };
    assert.deepEqual({ x0: cpu.x[0], x1: cpu.x[1], x2: cpu.x[2] }, expected);
    assert.equal(machine.caches.read(pa, 8), 0x5ec2e7n, "the VM's page changed");
  });
}

for (const [name, code, kind] of [
  ["stgp x0, x2, [x1], #16", 0x6880_8820, "write"],
  ["prfm pldl1keep, [x1]", 0xf980_0020, "read"],
  ["prfum pldl1keep, [x1]", 0xf880_0020, "read"],
  ["prfm pldl1keep, [x1, x2]", 0xf8a2_6820, "read"],
  ["ldraa x0, [x1]", 0xf820_0420, "read"],
  ["ldrab x0, [x1, #8]!", 0xf8a0_1c20, "read"],
  ["ld64b x0, [x1]", 0xf83f_d020, "read"],
  ["ldr q0, [x1]", 0x3dc0_0020, "read"],
  ["a pair of no size", 0xe940_0820, "read"],
  ["ldr x0, [sp], #8, whose base is not kept", 0xf840_87e0, "read"],
] as const) {
  test(`${name} is refused with all registers as they were`, () => {
    const { kernel, cpu, pa } = donatedPage();
    cpu.x.set([0xa0n, X1, 0xa2n]);
    const outcome = kernel.access(cpu, {
      ...{ kind, va: kernel.linear(pa), value: 0xa0n },
      instruction: BigInt(code),
    });
    assert.ok("fault" in outcome, `${name} is emulated`);
    assert.deepEqual([...cpu.x.subarray(0, 3)], [0xa0n, X1, 0xa2n]);
  });
}

const PSTATE_SS = 1n << 21n;
const PSTATE_BTYPE = 3n << 10n;

test("a debugger that steps over an emulated access stops behind it", () => {
  const { kernel, machine, cpu, pa } = donatedPage();
  cpu.pc = kernel.linear(pa) & ~0xfffn;
  const before = cpu.pc;
  machine.caches.write(kernel.alloc(), 8, 0n);
  const code = kernel.alloc();
  machine.caches.write(code, 4, 0xf940_0020n);
  cpu.pc = kernel.linear(code);
  cpu.pstate = 5n | PSTATE_SS | PSTATE_BTYPE;
  assert.equal(machine.attempt(cpu, { kind: "read", va: before }), "trapped");
  assert.equal(cpu.pc, kernel.linear(code) + 4n);
  assert.equal(cpu.pstate, 5n);
});

test("a debugger that steps over an SMC stops behind it", () => {
  const { machine, kernel } = openLab();
  const cpu = machine.cpu(0);
  cpu.pc = kernel.linear(kernel.alloc());
  const before = cpu.pc;
  cpu.pstate = 5n | PSTATE_SS;
  machine.smcByHost(cpu, 0x8400_0000);
  assert.equal(cpu.pc, before + 4n);
  assert.equal(cpu.pstate, 5n);
});
