/** A host that does everything to reach what is not its own, or to end the core: by chance in bulk, and each way by name. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Adversary, foreignPages } from "../adversary.ts";
import type { Cpu } from "../cpu.ts";
import { guestAccess, interrupt } from "../guest.ts";
import { Exit } from "../kernel.ts";
import { type Lab, openLab } from "./lab.ts";
import { World } from "./operations.ts";

/** Machines of each kind, and random calls on each. */
const MACHINES = 20;
const CALLS = 2500;

/** A guest that was entered does something, and leaves. */
function useGuest({ kernel, machine }: Lab, cpu: Cpu, n: number): void {
  const ipa = BigInt(kernel.running[cpu.index]?.vm.frames.first ?? 0) << 12n;
  guestAccess(machine, cpu, { kind: "write", va: ipa + BigInt(n % 4) * 4096n, value: 1n });
  if (cpu.context === "guest") interrupt(machine, cpu);
}

for (const privateVms of [false, true]) {
  test(`${MACHINES * CALLS} random calls by the host of ${privateVms ? "private" : "ordinary"} VMs end nothing and break nothing`, () => {
    const answered = new Map<string, number>();
    for (let seed = 0; seed < MACHINES; seed++) {
      const lab = openLab({ privateVms, seed, poolPages: 120 });
      const { kernel, machine, invariants } = lab;
      new World(lab).populate();
      const adversary = new Adversary(kernel, seed);
      invariants.eachStep = false;
      for (let n = 0; n < CALLS; n++) {
        const cpu = machine.cpu(n % machine.cpus.length);
        const vcpu = adversary.random.pick(kernel.vms.flatMap(({ vcpus }) => vcpus));
        if (n % 8 === 0) adversary.raw(cpu, 0xc600_000cn, vcpu.va);
        else adversary.hypercall(cpu);
        const status = cpu.context === "guest" ? "guest" : `${BigInt.asIntN(64, cpu.x[0] as bigint)}`;
        answered.set(status, (answered.get(status) ?? 0) + 1);
        if (cpu.context === "guest") useGuest(lab, cpu, n);
        kernel.back(vcpu.vm, vcpu.vm.frames.first + adversary.random.below(4));
        if (n % 50 === 0) invariants.checkStep();
      }
      invariants.check();
    }
    // The calls reach what they are meant to try.
    const count = (status: string) => answered.get(status) ?? 0;
    const summary = JSON.stringify([...answered].sort((x, y) => y[1] - x[1]).slice(0, 8));
    assert.ok(count("guest") > 500 && count("0") > 10_000 && count("-1") > 5000, summary);
  });
}

for (const privateVms of [false, true]) {
  test(`a host of ${privateVms ? "private" : "ordinary"} VMs that also writes, touches, forges and calls firmware by chance`, () => {
    const lab = openLab({ privateVms, poolPages: 120, cpus: 3 });
    const { kernel, machine, invariants } = lab;
    const world = new World(lab).populate();
    const adversary = new Adversary(kernel, 7);
    invariants.eachStep = false;
    for (let n = 0; n < 20_000; n++) {
      const cpu =
        machine.cpus.find(({ context, index }) => context === "host" && index >= n % 3) ?? machine.cpu(0);
      if (cpu.context === "guest") interrupt(machine, cpu);
      const vm = world.vm(n);
      const vcpu = world.vcpu(adversary.random.below(8));
      const acts = [
        () => adversary.hypercall(cpu),
        () => {
          const seen = adversary.touch(cpu);
          if ("value" in seen) world.hostSaw(seen.value, 0);
        },
        () => vcpu && adversary.scribbleVcpu(vcpu),
        () => vm && adversary.forgeEntry(vm),
        () => vm && adversary.proposeForeign(vm, world.frame(vm, n), adversary.random.pick(foreignPages)),
        () => vcpu && kernel.run(cpu, vcpu),
        () => vm && n % 40 === 0 && adversary.scribbleKvm(vm),
      ];
      adversary.random.pick(acts)();
      if (n % 50 === 0) invariants.checkStep();
    }
    invariants.check();
  });
}

for (const privateVms of [false, true]) {
  for (const whose of foreignPages) {
    for (const level of [3, 2] as const) {
      test(`${privateVms ? "a private" : "an ordinary"} VM that is proposed ${whose} at level ${level} gets nothing that is another's`, () => {
        const lab = openLab({ privateVms });
        const { kernel, machine } = lab;
        new World(lab).populate();
        const [vm, other] = kernel.vms as [(typeof kernel.vms)[0], (typeof kernel.vms)[0]];
        const cpu = machine.cpu(0);
        const write = (of: typeof vm, frame: number) => {
          const vcpu = of.vcpus[0];
          assert.ok(vcpu);
          const entered = kernel.run(cpu, vcpu);
          if (entered !== "guest") return entered;
          guestAccess(machine, cpu, { kind: "write", va: BigInt(frame * 4096), value: 0xbadn });
          if (cpu.context === "guest") return interrupt(machine, cpu);
          return kernel.exitCode(cpu);
        };
        write(other, other.frames.first);
        const before = [...other.backing.values()].map((pa) => machine.caches.read(pa, 8));
        write(vm, vm.frames.first);
        new Adversary(kernel, 3).proposeForeign(vm, vm.frames.first + 5, whose, level);
        const code = write(vm, vm.frames.first + 5);
        // The invariants were checked at each step; what the host may lend, it may lend.
        if (privateVms || whose !== "other VM") {
          const after = [...other.backing.values()].map((at) => machine.caches.read(at, 8));
          assert.deepEqual(after, before);
        }
        const never = ["core", "device", "beyond RAM"];
        if (privateVms && level === 3) never.push("other VM", "struct kvm", "struct kvm_vcpu");
        if (never.includes(whose))
          assert.ok(code === Exit.ILLEGAL || code === Exit.TRAP, `${whose}: ${code}`);
      });
    }
  }
}
