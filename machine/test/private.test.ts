/** The life of a private VM: its pages are taken from the host, hidden while it lives, and come back as zeroes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { VmState } from "../core.ts";
import { guestAccess, guestRead, guestWrite, interrupt } from "../guest.ts";
import { Errno, Exit } from "../kernel.ts";
import { PAGE_SIZE } from "../physical.ts";
import { type LabOptions, openLab } from "./lab.ts";

function privateVm(options: LabOptions = {}) {
  const lab = openLab({ privateVms: true, ...options });
  const { kernel, machine } = lab;
  const cpu = machine.cpu(0);
  const vm = kernel.createVm(cpu);
  const vcpu = kernel.createVcpu(cpu, vm);
  const ipa = (frame: number) => (vm.frames.first + frame) * PAGE_SIZE;
  const page = (frame: number) => vm.backing.get(vm.frames.first + frame) as number;
  /** The guest writes a word to a frame that the host backs. */
  const write = (frame: number, value: bigint, level: 2 | 3 = 3) => {
    kernel.back(vm, vm.frames.first + frame, { level });
    assert.equal(kernel.run(cpu, vcpu), "guest");
    assert.notEqual(guestWrite(machine, cpu, ipa(frame), value), "exit");
    interrupt(machine, cpu);
  };
  const read = (frame: number) => {
    assert.equal(kernel.run(cpu, vcpu), "guest");
    const done = guestRead(machine, cpu, ipa(frame));
    if (done === "exit") return `exit ${kernel.exitCode(cpu)}`;
    interrupt(machine, cpu);
    return typeof done === "object" ? done.value : done;
  };
  const record = machine.core.vm(Number(vm.handle) % machine.core.maxVms);
  return { ...lab, cpu, vm, vcpu, ipa, page, write, read, record };
}

test("a page is the VM's from the moment it maps it, at one frame", () => {
  const { machine, vm, page, write, kernel, cpu } = privateVm();
  kernel.back(vm, vm.frames.first);
  assert.deepEqual(kernel.write(cpu, page(0), 7n), { value: 7n }, "the host writes it before");
  assert.equal(machine.ownerOf(page(0)), 0);
  write(0, 42n);
  assert.equal(machine.ownerOf(page(0)), Number(vm.handle));
  assert.equal(machine.payloadOf(page(0)), vm.frames.first);
});

test("what the host wrote before is there, as the VM's first content", () => {
  const { kernel, cpu, vm, read, page, machine } = privateVm();
  kernel.back(vm, vm.frames.first);
  kernel.write(cpu, page(0), 7n);
  assert.equal(read(0), 7n);
  assert.equal(machine.caches.isClean(page(0)), true);
});

test("a block is donated whole, and its pages each at their frame", () => {
  const { machine, vm, page, write } = privateVm();
  write(512, 1n, 2);
  for (const n of [0, 1, 511]) {
    assert.equal(machine.ownerOf(page(512) + n * PAGE_SIZE), Number(vm.handle));
    assert.equal(machine.payloadOf(page(512) + n * PAGE_SIZE), vm.frames.first + 512 + n);
  }
});

test("the host that touches it learns nothing: zeroes for its kernel, a fault for its users", () => {
  const { kernel, cpu, page, write, read } = privateVm();
  write(0, 42n);
  kernel.mapUser(0x7000_0000n, page(0));
  for (const cacheable of [true, false]) {
    assert.deepEqual(kernel.read(cpu, page(0), cacheable), { emulated: 0n });
    kernel.write(cpu, page(0), 0xbadn, cacheable);
    for (const by of ["user", "kernel on user memory"] as const)
      for (const kind of ["read", "write"] as const) {
        const outcome = kernel.access(cpu, { kind, va: 0x7000_0000n, by, cacheable });
        assert.ok("fault" in outcome && outcome.far === 8n, `${kind} by ${by}`);
      }
  }
  assert.equal(read(0), 42n);
});

test("a page that the host may not write itself is not taken until it may", () => {
  const { kernel, cpu, vm, vcpu, machine, ipa } = privateVm();
  kernel.back(vm, vm.frames.first, { writable: false });
  assert.equal(kernel.run(cpu, vcpu), "guest");
  assert.equal(guestRead(machine, cpu, ipa(0)), "exit");
  assert.equal(kernel.exitCode(cpu), Exit.TRAP);
  const esr = kernel.peek(kernel.member(vcpu.pa, "faultEsrEl2"));
  assert.equal((esr >> 6n) & 1n, 1n, "the host is asked for a page to write");
  kernel.back(vm, vm.frames.first);
  assert.equal(kernel.run(cpu, vcpu), "guest");
  assert.notEqual(guestRead(machine, cpu, ipa(0)), "exit");
});

test("a flush by the host takes nothing away from it", () => {
  const { kernel, cpu, vm, write, read } = privateVm();
  write(0, 42n);
  kernel.flush(cpu, vm, vm.frames.first);
  kernel.call(cpu, "TLB_FLUSH_VMID", kernel.mmu(vm));
  kernel.call(cpu, "TLB_FLUSH_VMID_RANGE", kernel.mmu(vm), vm.frames.first * PAGE_SIZE, 512);
  assert.equal(read(0), 42n);
});

test("a page that the host takes out of its tables comes back as zeroes when touched, and the VM is broken", () => {
  const { kernel, cpu, vm, write, read, page, record, machine } = privateVm();
  write(0, 42n);
  write(1, 43n);
  const pa = page(0);
  kernel.reclaim(cpu, vm, vm.frames.first);
  assert.equal(machine.ownerOf(pa), Number(vm.handle), "not before it is touched");
  assert.deepEqual(kernel.read(cpu, pa), { value: 0n });
  assert.equal(machine.ownerOf(pa), 0);
  assert.equal(record.get("broken"), 1n);
  assert.equal(read(1), 43n, "what it has, it keeps");
  kernel.back(vm, vm.frames.first);
  assert.equal(read(0), "exit 3", "but it gets no page any more");
});

test("one page of a block comes back alone", () => {
  const { kernel, cpu, vm, write, read, page, machine } = privateVm();
  write(512, 42n, 2);
  const pa = page(513);
  kernel.unpropose(vm, (vm.frames.first + 513) * PAGE_SIZE);
  assert.deepEqual(kernel.write(cpu, pa, 5n), { value: 5n });
  assert.equal(machine.ownerOf(pa + PAGE_SIZE), Number(vm.handle));
  assert.equal(read(512), 42n);
  assert.equal(read(513), "exit 2");
});

test("its pages come back lazily after its end, each scrubbed when the host first touches it", () => {
  const { kernel, cpu, vm, write, page, machine, record } = privateVm();
  write(0, 42n);
  write(512, 43n, 2);
  const pages = [page(0), page(512), page(1023)];
  assert.equal(kernel.destroyVm(cpu, vm), 0n);
  assert.equal(record.number("state"), VmState.FREE);
  for (const pa of pages) assert.equal(machine.ownerOf(pa), Number(vm.handle), "still untouched");
  for (const pa of pages) {
    assert.deepEqual(kernel.read(cpu, pa), { value: 0n });
    assert.deepEqual(kernel.read(cpu, pa, false), { value: 0n });
    assert.equal(machine.ownerOf(pa), 0);
  }
  assert.equal(
    machine.ownerOf(pages[1] as number) + machine.ownerOf((pages[1] as number) + PAGE_SIZE),
    Number(vm.handle),
  );
});

test("the next VM in its slot never gets its pages before they are scrubbed", () => {
  const { kernel, cpu, vm, write, page, machine } = privateVm();
  write(0, 42n);
  const pa = page(0);
  vm.backing.delete(vm.frames.first);
  kernel.destroyVm(cpu, vm);
  const next = kernel.createVm(cpu);
  assert.equal(next.handle % 256n, vm.handle % 256n);
  assert.notEqual(next.handle, vm.handle);
  const vcpu = kernel.createVcpu(cpu, next);
  kernel.propose(next, next.frames.first * PAGE_SIZE, pa);
  assert.equal(kernel.run(cpu, vcpu), "guest");
  assert.equal(guestRead(machine, cpu, next.frames.first * PAGE_SIZE), "exit");
  assert.equal(kernel.exitCode(cpu), Exit.ILLEGAL);
  kernel.write(cpu, pa, 0n);
  assert.equal(kernel.run(cpu, vcpu), "guest");
  assert.deepEqual(guestRead(machine, cpu, next.frames.first * PAGE_SIZE), { value: 0n });
});

test("a VM that runs is not torn down", () => {
  const { kernel, cpu, vm, vcpu, machine } = privateVm();
  assert.equal(kernel.run(cpu, vcpu), "guest");
  const other = machine.cpu(1);
  assert.equal(kernel.ask(other, "TEARDOWN_VM", vm.handle), Errno.EBUSY);
  assert.equal(kernel.run(other, vcpu), Exit.ILLEGAL, "nor does its vCPU run twice");
  interrupt(machine, cpu);
  assert.equal(kernel.destroyVm(cpu, vm), 0n);
  assert.equal(kernel.ask(cpu, "TEARDOWN_VM", vm.handle), Errno.ENOENT);
});

test("while it is being torn down nothing of it runs, and its pages come back all the same", () => {
  const { kernel, cpu, vm, vcpu, write, page, machine, record } = privateVm({ ramPages: 16384 });
  // Tables in many places, so that taking them apart needs many steps.
  for (const frame of [0, 512, 4096, 8192, 20_000, 60_000]) write(frame, 42n);
  cpu.pc = kernel.linear(kernel.alloc());
  machine.hvc(cpu, 0xc600_0019n, vm.handle);
  assert.equal(record.number("state"), VmState.DYING);
  assert.equal(kernel.run(machine.cpu(1), vcpu), Exit.ILLEGAL);
  assert.equal(kernel.ask(machine.cpu(1), "INIT_VCPU", vm.handle, vcpu.va, vcpu.va), Errno.ENOENT);
  const pa = page(60_000);
  assert.deepEqual(kernel.read(machine.cpu(1), pa), { value: 0n });
  assert.equal(machine.ownerOf(pa), 0);
  assert.equal(kernel.destroyVm(machine.cpu(1), vm), 0n);
  assert.deepEqual(kernel.read(cpu, page(0)), { value: 0n });
});

test("four hundred VMs come and go and leave nothing behind", () => {
  const lab = openLab({ privateVms: true });
  const { kernel, machine, invariants } = lab;
  invariants.eachStep = false;
  const cpu = machine.cpu(0);
  const free = () => [machine.core.coreState.number("poolFree"), kernel.freePages()];
  let steady: number[] = [];
  for (let n = 0; n < 400; n++) {
    const vm = kernel.createVm(cpu);
    const vcpu = kernel.createVcpu(cpu, vm);
    kernel.back(vm, vm.frames.first);
    kernel.write(cpu, vm.backing.get(vm.frames.first) as number, 0n);
    assert.equal(kernel.run(cpu, vcpu), "guest");
    const va = BigInt(vm.frames.first * PAGE_SIZE);
    assert.notEqual(guestAccess(machine, cpu, { kind: "write", va, value: BigInt(n) }), "exit");
    interrupt(machine, cpu);
    assert.equal(kernel.destroyVm(cpu, vm), 0n);
    if (n === 3) steady = free();
    if (n % 50 === 0) invariants.checkStep();
  }
  assert.deepEqual(free(), steady);
  invariants.check();
});
