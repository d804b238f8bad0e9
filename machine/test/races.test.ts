/** Two CPUs in the core at once: what one does between two critical sections of the other. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { guestRead, guestWrite, interrupt } from "../guest.ts";
import { type Lab, openLab } from "./lab.ts";
import { buildVariant } from "./variant.ts";

const core = await buildVariant();
const LOCK_VMS = 256;
const LOCK_HOSTMAP = 257;
const LOCK_S2PAGE = 258;

/** A page that a private VM has used, with that VM still alive, or dead. */
function privatePage(alive: boolean) {
  const lab = openLab({ core, privateVms: true, cpus: 3 });
  const { kernel, machine } = lab;
  const cpu = machine.cpu(0);
  const vm = kernel.createVm(cpu);
  const vcpu = kernel.createVcpu(cpu, vm);
  kernel.back(vm, vm.frames.first);
  assert.equal(kernel.run(cpu, vcpu), "guest");
  guestWrite(machine, cpu, vm.frames.first * 4096, 0x5ec2e7n);
  interrupt(machine, cpu);
  const pa = vm.backing.get(vm.frames.first) as number;
  // The page is kept from being used for something else.
  if (!alive) vm.backing.clear();
  if (!alive) assert.equal(kernel.destroyVm(cpu, vm), 0n);
  return { ...lab, vm, pa };
}

/** Lets `act` happen once, just after CPU 0 has let go of `lock` for the `count`th time. */
function afterRelease({ machine }: Lab, lock: number, count: number, act: () => void): () => boolean {
  let left = count;
  machine.locks = {
    freed: (cpu, freed) => {
      if (cpu !== 0 || freed !== lock || --left !== 0) return;
      act();
    },
  };
  return () => left <= 0;
}

for (const by of ["kernel", "user"] as const) {
  for (const [lock, count] of [
    [LOCK_HOSTMAP, 1],
    [LOCK_S2PAGE, 2],
    [LOCK_VMS, 1],
  ] as const) {
    test(`two CPUs touch a dead VM's page at once (${by}, lock ${lock}): both reach it`, () => {
      const lab = privatePage(false);
      const { kernel, machine, pa } = lab;
      const happened = afterRelease(lab, lock, count, () => {
        assert.deepEqual(kernel.read(machine.cpu(1), pa), { value: 0n });
      });
      kernel.mapUser(0x7000_0000n, pa);
      const va = by === "user" ? 0x7000_0000n : kernel.linear(pa);
      assert.deepEqual(kernel.access(machine.cpu(0), { kind: "write", va, by, value: 42n }), { value: 42n });
      assert.ok(happened(), "the other CPU never came in between");
      assert.deepEqual(kernel.read(machine.cpu(0), pa), { value: 42n });
    });
  }
}

for (const [lock, count] of [
  [LOCK_HOSTMAP, 1],
  [LOCK_S2PAGE, 2],
] as const) {
  test(`a write to a page that another CPU takes back from a live VM meanwhile is not lost (lock ${lock})`, () => {
    const lab = privatePage(true);
    const { kernel, machine, pa, vm } = lab;
    kernel.unpropose(vm, vm.frames.first * 4096);
    const happened = afterRelease(lab, lock, count, () => {
      assert.deepEqual(kernel.read(machine.cpu(1), pa), { value: 0n });
    });
    assert.deepEqual(kernel.write(machine.cpu(0), pa, 42n), { value: 42n });
    assert.ok(happened(), "the other CPU never came in between");
    assert.deepEqual(kernel.read(machine.cpu(0), pa), { value: 42n });
  });
}

for (const alive of [false, true]) {
  test(`a page that another CPU takes back from a ${alive ? "live" : "dead"} VM and gives to the next is the next one's`, () => {
    const lab = privatePage(alive);
    const { kernel, machine, pa, vm } = lab;
    if (alive) kernel.unpropose(vm, vm.frames.first * 4096);
    vm.backing.clear();
    const other = machine.cpu(1);
    const next = kernel.createVm(other);
    const vcpu = kernel.createVcpu(other, next);
    const ipa = next.frames.first * 4096;
    kernel.propose(next, ipa, pa);
    const happened = afterRelease(lab, LOCK_S2PAGE, 2, () => {
      assert.deepEqual(kernel.read(other, pa), { value: 0n });
      assert.equal(kernel.run(other, vcpu), "guest");
      assert.deepEqual(guestWrite(machine, other, ipa, 0x5ec2e8n), { value: 0x5ec2e8n });
    });
    assert.deepEqual(kernel.read(machine.cpu(0), pa), { emulated: 0n });
    assert.ok(happened(), "the other CPU never came in between");
    assert.equal(machine.ownerOf(pa), Number(next.handle));
    assert.deepEqual(guestRead(machine, other, ipa), { value: 0x5ec2e8n });
  });
}

test("locks are taken from the outermost in, and each is let go", () => {
  // The order in lock.ts: LOCK_VMS, a root's lock, LOCK_HOSTMAP, LOCK_S2PAGE, LOCK_POOL.
  const rank = (lock: number) => (lock === LOCK_VMS ? 0 : lock < LOCK_VMS ? 1 : lock);
  const lab = openLab({ core, privateVms: true });
  const held: number[][] = [[], []];
  let taken = 0;
  lab.machine.locks = {
    wanted: (cpu, lock) => {
      const last = held[cpu]?.at(-1);
      assert.ok(last === undefined || rank(last) < rank(lock), `lock ${lock} inside ${last}`);
    },
    taken: (cpu, lock) => {
      held[cpu]?.push(lock);
      taken++;
    },
    freed: (cpu, lock) => assert.equal(held[cpu]?.pop(), lock),
  };
  const { kernel, machine } = lab;
  const cpu = machine.cpu(0);
  const vm = kernel.createVm(cpu);
  const vcpu = kernel.createVcpu(cpu, vm);
  for (const level of [3, 2] as const) {
    kernel.back(vm, vm.frames.first + (level === 2 ? 512 : 0), { level });
    assert.equal(kernel.run(cpu, vcpu), "guest");
    guestWrite(machine, cpu, (vm.frames.first + (level === 2 ? 512 : 0)) * 4096, 1n);
    interrupt(machine, cpu);
  }
  const pa = vm.backing.get(vm.frames.first + 512) as number;
  kernel.reclaim(cpu, vm, vm.frames.first + 512);
  kernel.read(cpu, pa);
  kernel.startCpu(cpu, 1);
  kernel.destroyVm(cpu, vm);
  assert.deepEqual(held, [[], []]);
  assert.ok(taken > 50);
});
