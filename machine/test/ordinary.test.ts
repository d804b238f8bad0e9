/** Ordinary VMs: the host lends them pages, counts what it lent, and takes it back in one store or page by page. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { VmState } from "../core.ts";
import { guestRead, guestWrite, interrupt } from "../guest.ts";
import { Errno, Exit } from "../kernel.ts";
import { PAGE_SIZE } from "../physical.ts";
import { type LabOptions, openLab } from "./lab.ts";

function ordinaryVm(options: LabOptions = {}, shape = {}) {
  const lab = openLab(options);
  const { kernel, machine } = lab;
  const cpu = machine.cpu(0);
  const vm = kernel.createVm(cpu, shape);
  const vcpu = kernel.createVcpu(cpu, vm);
  const ipa = (frame: number) => (vm.frames.first + frame) * PAGE_SIZE;
  const page = (frame: number) => vm.backing.get(vm.frames.first + frame) as number;
  const enter = () => assert.equal(kernel.run(cpu, vcpu), "guest");
  const use = (frame: number, level: 2 | 3 = 3) => {
    kernel.back(vm, vm.frames.first + frame, { level });
    enter();
    assert.notEqual(guestWrite(machine, cpu, ipa(frame), BigInt(frame)), "exit");
    interrupt(machine, cpu);
  };
  const uses = (frame: number) => machine.payloadOf(page(frame));
  return { ...lab, cpu, vm, vcpu, ipa, page, enter, use, uses };
}

test("the host and its VM see the same page, whose use is counted", () => {
  const { kernel, cpu, use, uses, page } = ordinaryVm();
  use(5);
  assert.equal(uses(5), 1);
  assert.deepEqual(kernel.read(cpu, page(5)), { value: 5n });
});

test("two frames, and two VMs, may share a page: each mapping counts", () => {
  const { kernel, cpu, vm, machine, use, uses, page, enter, ipa } = ordinaryVm();
  use(0);
  kernel.propose(vm, ipa(1), page(0));
  enter();
  assert.deepEqual(guestRead(machine, cpu, ipa(1)), { value: 0n });
  interrupt(machine, cpu);
  assert.equal(uses(0), 2);
  kernel.flush(cpu, vm, vm.frames.first + 1);
  assert.equal(uses(0), 1);
  kernel.flush(cpu, vm, vm.frames.first);
  assert.equal(uses(0), 0);
});

test("a page of a lent block is flushed with its block, as the host's own tables would have it", () => {
  const { kernel, cpu, vm, use, uses } = ordinaryVm();
  use(512, 2);
  assert.deepEqual([uses(512), uses(1023)], [1, 1]);
  kernel.flush(cpu, vm, vm.frames.first + 700);
  assert.deepEqual([uses(512), uses(1023)], [0, 0]);
});

for (const [call, ...args] of [
  ["TLB_FLUSH_VMID"],
  ["TLB_FLUSH_VMID_RANGE", 0, 2048],
  ["TLB_FLUSH_VMID_IPA", 0, 1],
] as const) {
  test(`${call} ${args} takes all back at once, and lets go of pages where the VM comes again or ends`, () => {
    const { kernel, cpu, vm, machine, use, uses, enter, ipa, page } = ordinaryVm();
    use(0);
    use(1);
    use(512, 2);
    for (const frame of [0, 1, 512]) kernel.unpropose(vm, ipa(frame));
    const [at = 0, ...rest] = args;
    const address = call === "TLB_FLUSH_VMID" ? [] : [ipa(at), ...rest];
    kernel.call(cpu, call, kernel.mmu(vm), ...address);
    enter();
    assert.equal(guestRead(machine, cpu, ipa(0)), "exit", "the VM does not reach it any more");
    kernel.exitCode(cpu);
    assert.deepEqual([uses(0), uses(1), uses(512)], [1, 1, 1], "retained: the uses count until then");
    kernel.propose(vm, ipa(0), page(1));
    enter();
    assert.deepEqual(guestRead(machine, cpu, ipa(0)), { value: 1n });
    interrupt(machine, cpu);
    assert.deepEqual([uses(0), uses(1), uses(512)], [0, 1, 1]);
    const block = page(512);
    assert.equal(kernel.destroyVm(cpu, vm), 0n);
    assert.equal(machine.payloadOf(block), 0);
  });
}

test("a flush of a range needs as many calls as it has work, and touches nothing outside its blocks", () => {
  const { kernel, cpu, vm, use, uses, ipa } = ordinaryVm();
  use(0);
  use(512);
  use(1024);
  kernel.call(cpu, "TLB_FLUSH_VMID_RANGE", kernel.mmu(vm), ipa(512), 1);
  use(1500);
  assert.deepEqual([uses(0), uses(1024)], [1, 1]);
});

test("flushes of nonsense change nothing and end", () => {
  const { kernel, cpu, vm, use, uses, machine } = ordinaryVm();
  use(0);
  const top = 1n << 63n;
  for (const [start, pages] of [
    [top, 1n],
    [0n, -1n],
    [-4096n, 1n],
    [1n << 47n, 1n << 50n],
  ] as const)
    kernel.call(cpu, "TLB_FLUSH_VMID_RANGE", kernel.mmu(vm), start, pages);
  kernel.call(cpu, "TLB_FLUSH_VMID_IPA", kernel.mmu(vm), top, 3);
  kernel.call(cpu, "TLB_FLUSH_VMID_IPA", kernel.mmu(vm), top, 1);
  kernel.call(cpu, "TLB_FLUSH_VMID", 12345n);
  cpu.pc = 0x1000n;
  machine.hvc(cpu, 0xc600_0011n | (0xffff_ffffn << 32n), kernel.mmu(vm), 0n, 1n);
  assert.ok(uses(0) <= 1);
});

for (const ipaBits of [32, 36, 39, 40]) {
  test(`a VM of ${ipaBits} address bits uses its first and last page, and dies of one call made again`, () => {
    const last = 2 ** (ipaBits - 12) - 1;
    const { kernel, cpu, vm, vcpu, machine, ipa } = ordinaryVm(
      {},
      { ipaBits, firstFrame: 0, frameCount: last + 1 },
    );
    for (const frame of [0, last]) {
      kernel.back(vm, frame);
      assert.equal(kernel.run(cpu, vcpu), "guest");
      assert.notEqual(guestWrite(machine, cpu, ipa(frame), 1n), "exit");
      interrupt(machine, cpu);
    }
    assert.equal(kernel.run(cpu, vcpu), "guest");
    assert.equal(guestWrite(machine, cpu, (last + 1) * PAGE_SIZE, 1n), "exit");
    kernel.exitCode(cpu);
    const record = machine.core.vm(Number(vm.handle) % machine.core.maxVms);
    assert.equal(kernel.destroyVm(cpu, vm), 0n);
    assert.equal(record.number("state"), VmState.FREE);
  });
}

test("with hardly any table page left, what cannot be mapped is refused and everything else goes on", () => {
  const { kernel, cpu, vm, vcpu, machine, ipa, use, uses } = ordinaryVm({ poolPages: 8 });
  use(0);
  let refused = 0;
  for (const frame of [512, 1024, 1536, 2047, 300_000, 600_000]) {
    kernel.back(vm, vm.frames.first + frame);
    const entered = kernel.run(cpu, vcpu);
    if (entered === Exit.ILLEGAL) refused++;
    else if (guestWrite(machine, cpu, ipa(frame), 1n) === "exit")
      refused += kernel.exitCode(cpu) === Exit.ILLEGAL ? 1 : 0;
    else interrupt(machine, cpu);
  }
  assert.ok(refused > 0);
  assert.equal(uses(0), 1);
  assert.equal(kernel.destroyVm(cpu, vm), 0n);
  const next = kernel.createVm(cpu);
  const again = kernel.createVcpu(cpu, next);
  kernel.back(next, next.frames.first);
  assert.equal(kernel.run(cpu, again), "guest");
  assert.notEqual(guestWrite(machine, cpu, next.frames.first * PAGE_SIZE, 1n), "exit");
});

test("VMs and vCPUs are announced once, in the host's own memory", () => {
  const { kernel, cpu, vm, vcpu, machine } = ordinaryVm();
  const ask = (name: string, ...args: readonly bigint[]) => kernel.ask(cpu, name, ...args);
  assert.equal(ask("INIT_VM", vm.kvmVa, vm.kvmVa, vm.kvmVa), Errno.EEXIST);
  assert.equal(ask("INIT_VCPU", vm.handle, vcpu.va, vcpu.va), Errno.EEXIST);
  assert.equal(ask("INIT_VCPU", vm.handle + 256n, vcpu.va + 8n, vcpu.va), Errno.ENOENT);
  assert.equal(ask("INIT_VCPU", vm.handle, 0n, vcpu.va), Errno.EINVAL);
  for (const pa of [machine.coreBase, machine.coreBase - PAGE_SIZE, machine.memory.end - PAGE_SIZE, 0x1000]) {
    const va = kernel.linear(pa) + 4000n;
    const [kvm, one] = [ask("INIT_VM", va, vcpu.va, vcpu.va), ask("INIT_VCPU", vm.handle, va, vcpu.va)];
    assert.deepEqual([kvm, one], [Errno.EINVAL, Errno.EINVAL], `at 0x${pa.toString(16)}`);
  }
  const scattered = kernel.vmap([kernel.alloc(), kernel.alloc() + 0x1000, kernel.alloc(), kernel.alloc()]);
  assert.equal(ask("INIT_VCPU", vm.handle, scattered + 4000n, vcpu.va), Errno.EINVAL);
});

test("there are 255 VMs at most, and their slots come back", () => {
  const { kernel, machine, invariants } = openLab({ ramPages: 16_384 });
  invariants.eachStep = false;
  const cpu = machine.cpu(0);
  const vms = Array.from({ length: 255 }, () => kernel.createVm(cpu, { ipaBits: 32 }));
  assert.equal(kernel.tryCreateVm(cpu, { ipaBits: 32 }).handle, Errno.ENOMEM);
  assert.equal(kernel.destroyVm(cpu, vms[100] as (typeof vms)[0]), 0n);
  assert.ok(kernel.tryCreateVm(cpu, { ipaBits: 32 }).handle > 0n);
  invariants.check();
});
