/**
 * What host, guests and hardware may do next, as data: each operation is a name with a few small numbers, so that a failing
 * sequence shrinks, prints as a list and can be played again. Numbers choose among what exists at that moment.
 */
import fc from "fast-check";
import { Adversary, foreignPages } from "../adversary.ts";
import type { Cpu } from "../cpu.ts";
import { Psci, smc64 } from "../firmware.ts";
import {
  guestAccess,
  guestClobber,
  guestFp,
  guestHypercall,
  guestSmc,
  guestSve,
  guestTraps,
  guestWait,
  interrupt,
  systemError,
} from "../guest.ts";
import type { HostVcpu, HostVm, Kernel, Mapping } from "../kernel.ts";
import { type Access, Class, type Machine, syndrome } from "../machine.ts";
import { hasFeature } from "../models.ts";
import { hex, PAGE_SIZE } from "../physical.ts";
import { Violation } from "../primitives.ts";
import { Random } from "../structures.ts";
import type { Lab } from "./lab.ts";

/** Guest frames that operations speak of: a few in one 2 MiB block, a few in the next, and one that is a device. */
const FRAMES = [0, 1, 2, 3, 511, 512, 513, 1024, 2047, -1];

/** What private VMs write is marked, so that it is known wherever it turns up. */
const SECRET = 0x5ec7n << 48n;

/** A machine with what the operations and the checks of values need to remember. */
export class World {
  readonly lab: Lab;
  readonly machine: Machine;
  readonly kernel: Kernel;
  /** Last words of private VMs by handle and address. */
  private readonly expected = new Map<string, bigint>();
  private secrets = 0;

  constructor(lab: Lab) {
    this.lab = lab;
    this.machine = lab.machine;
    this.kernel = lab.kernel;
    this.kernel.isHonest = false;
  }

  /** Two VMs of two vCPUs each, so that a sequence need not begin with making them. */
  populate(): this {
    const { kernel } = this;
    const cpu = this.cpu(0);
    const sve = hasFeature(cpu.model, "SVE") ? { sve: 2 } : {};
    for (const features of [{}, { pauth: true, ...sve }]) {
      const vm = kernel.createVm(cpu);
      for (let n = 0; n < 2; n++) kernel.createVcpu(cpu, vm, features);
      kernel.back(vm, vm.frames.first);
    }
    return this;
  }

  /** CPU number `n` of those there are. */
  cpu(n: number): Cpu {
    return this.machine.cpu(n % this.machine.cpus.length);
  }

  vm(n: number): HostVm | undefined {
    const { vms } = this.kernel;
    return vms[n % (vms.length || 1)];
  }

  vcpu(n: number): HostVcpu | undefined {
    const vcpus = this.kernel.vms.flatMap((vm) => vm.vcpus);
    return vcpus[n % (vcpus.length || 1)];
  }

  frame(vm: HostVm, n: number): number {
    return vm.frames.first + (FRAMES[n % FRAMES.length] as number);
  }

  /** A word that the guest of a VM may write: marked when the VM is private. */
  secret(vm: HostVm): bigint {
    this.secrets++;
    return SECRET | (vm.handle << 24n) | BigInt(this.secrets & 0xff_ffff);
  }

  /** A guest has written, or read, a word of a private VM: what it reads is what it wrote last. */
  guestSaw(vm: HostVm, ipa: number, kind: Access["kind"], value: bigint): void {
    if (!this.isPrivate || this.isBroken(vm)) return;
    const key = `${vm.handle} ${ipa}`;
    if (kind === "write") {
      this.expected.set(key, value);
      return;
    }
    const last = this.expected.get(key);
    if (last !== undefined && last !== value)
      throw new Violation(
        "guestMemoryKeeps",
        `VM ${vm.handle} wrote ${hex(last)} at ${hex(ipa)} and reads ${hex(value)}`,
      );
  }

  /** The host has read `value`: it is no secret of a private VM. */
  hostSaw(value: bigint, pa: number): void {
    if (this.isPrivate && value >> 48n === SECRET >> 48n)
      throw new Violation("hostReadsNoSecret", `the host reads ${hex(value)} at ${hex(pa)}`);
  }

  get isPrivate(): boolean {
    return this.machine.options.privateVms === true;
  }

  private isBroken(vm: HostVm): boolean {
    const record = this.machine.core.vm(Number(vm.handle) % this.machine.core.maxVms);
    return record.get("handle") !== vm.handle || record.get("broken") !== 0n;
  }

  /** The guest on `cpu` may have left: the host then handles the exit, if `handle` says so. */
  settle(cpu: Cpu, vcpu: HostVcpu | undefined, handle: boolean, mapping: Mapping): void {
    if (cpu.context !== "host") return;
    const code = this.kernel.exitCode(cpu);
    if (vcpu && handle) this.kernel.handleExit(vcpu, code, 0x7d7dn, mapping);
  }
}

type Numbers = Readonly<Record<string, number>>;

interface Kind {
  /** Largest value of each number. */
  readonly ranges: Numbers;
  /** How often it is chosen. */
  readonly weight: number;
  /** Whether it needs a CPU that runs the host, or a guest; it is left out otherwise. */
  readonly on: "host" | "guest" | "any";
  run(world: World, cpu: Cpu, n: Numbers): void;
}

const SEEDS = 2 ** 31 - 1;

function kind(
  weight: number,
  on: Kind["on"],
  ranges: Numbers,
  run: (world: World, cpu: Cpu, n: Numbers) => void,
): Kind {
  return { weight, on, ranges, run };
}

function choice(n: Numbers, name: string): number {
  return n[name] ?? 0;
}

function mappingOf(n: number): Mapping {
  const mappings: readonly Mapping[] = [
    {},
    { writable: false },
    { executable: false },
    { type: "nonCacheable" },
    { level: 2 },
    { level: 2, writable: false },
  ];
  return mappings[n % mappings.length] as Mapping;
}

/** Everything that can happen, by name. */
export const kinds: Readonly<Record<string, Kind>> = {
  createVm: kind(3, "host", { bits: 5 }, ({ kernel }, cpu, n) => {
    if (kernel.vms.length >= 4 || kernel.freePages() < 300) return;
    const most = kernel.machine.core.coreState.number("hostIpaBits");
    kernel.tryCreateVm(cpu, { ipaBits: Math.min([40, 32, 36, 39, 44, 48][choice(n, "bits")] ?? 40, most) });
  }),
  createVcpu: kind(3, "host", { vm: 3, features: 3 }, (world, cpu, n) => {
    const vm = world.vm(choice(n, "vm"));
    if (!vm || vm.vcpus.length >= 3) return;
    const hasSve = hasFeature(cpu.model, "SVE");
    world.kernel.tryCreateVcpu(cpu, vm, {
      pauth: (choice(n, "features") & 1) !== 0,
      ...((choice(n, "features") & 2) !== 0 && hasSve ? { sve: 2 } : {}),
    });
  }),
  destroyVm: kind(1, "host", { vm: 3 }, (world, cpu, n) => {
    const vm = world.vm(choice(n, "vm"));
    if (vm) world.kernel.destroyVm(cpu, vm);
  }),
  run: kind(10, "host", { vcpu: 7 }, (world, cpu, n) => {
    const vcpu = world.vcpu(choice(n, "vcpu"));
    if (vcpu) world.kernel.run(cpu, vcpu);
  }),
  back: kind(6, "host", { vm: 3, frame: 9, mapping: 5, write: 1 }, (world, cpu, n) => {
    const vm = world.vm(choice(n, "vm"));
    if (!vm) return;
    const frame = world.frame(vm, choice(n, "frame"));
    world.kernel.back(vm, frame, mappingOf(choice(n, "mapping")));
    const pa = vm.backing.get(frame);
    if (pa !== undefined && choice(n, "write") === 1) world.kernel.write(cpu, pa, 0x1234n);
  }),
  reclaim: kind(4, "host", { vm: 3, frame: 9, touch: 1 }, (world, cpu, n) => {
    const vm = world.vm(choice(n, "vm"));
    const pa = vm && world.kernel.reclaim(cpu, vm, world.frame(vm, choice(n, "frame")));
    if (pa === undefined || choice(n, "touch") === 0) return;
    const seen = world.kernel.read(cpu, pa);
    if ("value" in seen) world.hostSaw(seen.value, pa);
  }),
  flush: kind(3, "host", { vm: 3, frame: 9, count: 1100, how: 5 }, (world, cpu, n) => {
    const { kernel } = world;
    const vm = world.vm(choice(n, "vm"));
    if (!vm) return;
    const ipa = world.frame(vm, choice(n, "frame")) * PAGE_SIZE;
    const mmu = kernel.mmu(vm);
    [
      () => kernel.call(cpu, "TLB_FLUSH_VMID_IPA", mmu, ipa, 3),
      () => kernel.call(cpu, "TLB_FLUSH_VMID_IPA", mmu, ipa, 2),
      () => kernel.call(cpu, "TLB_FLUSH_VMID_IPA_NSH", mmu, ipa, 0x7fff_ffff),
      () => kernel.call(cpu, "TLB_FLUSH_VMID_RANGE", mmu, ipa, choice(n, "count")),
      () => kernel.call(cpu, "TLB_FLUSH_VMID", mmu),
      () => kernel.call(cpu, "FLUSH_CPU_CONTEXT", mmu),
    ][choice(n, "how")]?.();
  }),
  hostWrites: kind(4, "host", { vm: 3, frame: 9, word: 3, by: 2, cacheable: 1 }, (world, cpu, n) => {
    const vm = world.vm(choice(n, "vm"));
    const pa = vm?.backing.get(world.frame(vm, choice(n, "frame")));
    if (pa === undefined) return;
    const by = (["kernel", "user", "kernel on user memory"] as const)[choice(n, "by")] ?? "kernel";
    if (by !== "kernel") world.kernel.mapUser(0x7000_0000n, pa);
    const offset = BigInt(8 * choice(n, "word"));
    const va = (by === "kernel" ? world.kernel.linear(pa) : 0x7000_0000n) + offset;
    world.kernel.access(cpu, {
      kind: "write",
      va,
      by,
      value: 0x1234n,
      cacheable: choice(n, "cacheable") === 1,
    });
  }),
  hostReads: kind(6, "host", { vm: 3, frame: 9, word: 3, by: 2, cacheable: 1 }, (world, cpu, n) => {
    const vm = world.vm(choice(n, "vm"));
    const pa = vm?.backing.get(world.frame(vm, choice(n, "frame")));
    if (pa === undefined) return;
    const by = (["kernel", "user", "kernel on user memory"] as const)[choice(n, "by")] ?? "kernel";
    if (by !== "kernel") world.kernel.mapUser(0x7000_0000n, pa);
    const offset = BigInt(8 * choice(n, "word"));
    const va = (by === "kernel" ? world.kernel.linear(pa) : 0x7000_0000n) + offset;
    const seen = world.kernel.access(cpu, { kind: "read", va, by, cacheable: choice(n, "cacheable") === 1 });
    if ("value" in seen) world.hostSaw(seen.value, pa);
  }),

  guestAccesses: kind(24, "guest", { frame: 9, word: 3, kind: 5, handle: 3, mapping: 5 }, (world, cpu, n) => {
    const vcpu = world.kernel.running[cpu.index];
    if (!vcpu) return;
    const frame = world.frame(vcpu.vm, choice(n, "frame"));
    const ipa = frame * PAGE_SIZE + 8 * choice(n, "word");
    const kind =
      (["read", "write", "write", "read", "write", "execute"] as const)[choice(n, "kind")] ?? "read";
    // Each frame is used with the same attributes always, or the guest would harm itself.
    const cacheable = frame % 3 !== 0;
    const value = world.secret(vcpu.vm);
    const act = guestAccess(world.machine, cpu, { kind, va: BigInt(ipa), value, cacheable });
    if (typeof act === "object") world.guestSaw(vcpu.vm, ipa, kind, kind === "write" ? value : act.value);
    else world.settle(cpu, vcpu, choice(n, "handle") !== 0, mappingOf(choice(n, "mapping")));
  }),
  guestCalls: kind(4, "guest", { what: 8, seed: SEEDS }, (world, cpu, n) => {
    const vcpu = world.kernel.running[cpu.index];
    const { machine } = world;
    const random = new Random(choice(n, "seed"));
    [
      () => guestHypercall(machine, cpu, random.word(), random.word()),
      () => guestSmc(machine, cpu),
      () => guestWait(machine, cpu),
      () => interrupt(machine, cpu),
      () => systemError(machine, cpu),
      () => guestFp(machine, cpu, random.word()),
      () => guestSve(machine, cpu, random.word()),
      () => guestTraps(machine, cpu, syndrome(Class.SYS64, BigInt(random.below(2 ** 24)))),
      () => guestClobber(cpu, () => random.word()),
    ][choice(n, "what")]?.();
    world.settle(cpu, vcpu, true, {});
  }),
  guestInterrupted: kind(6, "guest", {}, (world, cpu) => {
    interrupt(world.machine, cpu);
    world.settle(cpu, undefined, false, {});
  }),

  hvc: kind(8, "host", { seed: SEEDS }, ({ kernel }, cpu, n) =>
    new Adversary(kernel, choice(n, "seed")).hypercall(cpu),
  ),
  smc: kind(2, "host", { seed: SEEDS }, ({ kernel, machine }, cpu, n) => {
    if (cpu.index === 0) return;
    const off = machine.cpus.filter(({ context }) => context === "off");
    new Adversary(kernel, choice(n, "seed")).firmwareCall(cpu);
    for (const started of off) if (started.context === "host") kernel.bringUp(started);
  }),
  touch: kind(6, "host", { seed: SEEDS }, (world, cpu, n) => {
    const seen = new Adversary(world.kernel, choice(n, "seed")).touch(cpu);
    if ("value" in seen) world.hostSaw(seen.value, 0);
  }),
  scribbleVcpu: kind(4, "host", { vcpu: 7, seed: SEEDS }, (world, _cpu, n) => {
    const vcpu = world.vcpu(choice(n, "vcpu"));
    if (vcpu) new Adversary(world.kernel, choice(n, "seed")).scribbleVcpu(vcpu);
  }),
  scribbleKvm: kind(1, "host", { vm: 3, seed: SEEDS }, (world, _cpu, n) => {
    const vm = world.vm(choice(n, "vm"));
    if (vm) new Adversary(world.kernel, choice(n, "seed")).scribbleKvm(vm);
  }),
  proposeForeign: kind(4, "host", { vm: 3, frame: 9, whose: 8, level: 1, seed: SEEDS }, (world, _cpu, n) => {
    const vm = world.vm(choice(n, "vm"));
    const whose = foreignPages[choice(n, "whose")];
    if (!vm || !whose) return;
    const adversary = new Adversary(world.kernel, choice(n, "seed"));
    adversary.proposeForeign(
      vm,
      world.frame(vm, choice(n, "frame")),
      whose,
      choice(n, "level") === 1 ? 2 : 3,
    );
  }),
  forgeEntry: kind(1, "host", { vm: 3, seed: SEEDS }, (world, _cpu, n) => {
    const vm = world.vm(choice(n, "vm"));
    if (vm) new Adversary(world.kernel, choice(n, "seed")).forgeEntry(vm);
  }),

  cpuOff: kind(1, "host", {}, ({ machine }, cpu) => {
    if (cpu.index !== 0) machine.smcByHost(cpu, Psci.CPU_OFF);
  }),
  suspend: kind(1, "host", {}, ({ machine, kernel }, cpu) => {
    if (cpu.index !== 0)
      machine.smcByHost(cpu, smc64(Psci.CPU_SUSPEND), 1 << 16, kernel.linear(machine.memory.base), 7);
  }),
  cpuOn: kind(2, "any", { which: 3 }, (world, cpu, n) => {
    const { machine, kernel } = world;
    const target = world.cpu(choice(n, "which"));
    if (machine.wake(target.index)) kernel.bringUp(target);
    else if (cpu.context === "host") kernel.startCpu(cpu, target.index);
  }),
  evict: kind(4, "any", { seed: SEEDS }, ({ machine }, cpu, n) => {
    const random = new Random(choice(n, "seed"));
    machine.tlbs.evict(cpu.index, () => random.below(3) === 0);
    machine.caches.evict(machine.memory.base + random.below(machine.memory.pageCount) * PAGE_SIZE);
  }),
};

/** One operation, on a CPU. */
export interface Operation {
  readonly name: string;
  readonly cpu: number;
  readonly numbers: Numbers;
}

/** Operations, each as often as its weight says. */
export function operation(names: readonly string[] = Object.keys(kinds)): fc.Arbitrary<Operation> {
  return fc.oneof(
    ...names.map((name) => {
      const { weight, ranges } = kinds[name] as Kind;
      const numbers = fc.record(
        Object.fromEntries(Object.entries(ranges).map(([number, max]) => [number, fc.nat({ max })])),
      );
      const arbitrary = fc.record({ name: fc.constant(name), cpu: fc.nat({ max: 3 }), numbers });
      return { weight, arbitrary };
    }),
  );
}

/** A sequence of operations of about this length. */
export function sequence(length: number, names?: readonly string[]): fc.Arbitrary<Operation[]> {
  return fc.array(operation(names), { minLength: 1, maxLength: length, size: "max" });
}

/**
 * Carries one operation out, on its CPU or the next one that runs what it is for; not on `busy`, which is in the core.
 * @returns false when there is none
 */
export function perform(world: World, { name, cpu: index, numbers }: Operation, busy?: Cpu): boolean {
  const { on, run } = kinds[name] as Kind;
  for (let n = 0; n < world.machine.cpus.length; n++) {
    const cpu = world.cpu(index + n);
    if (cpu === busy || (on !== "any" && cpu.context !== on)) continue;
    run(world, cpu, numbers);
    return true;
  }
  return false;
}

/** An operation as a line. */
export function describe({ name, cpu, numbers }: Operation): string {
  const text = Object.entries(numbers).map(([number, value]) => `${number}=${value}`);
  return `CPU ${cpu}: ${[name, ...text].join(" ")}`;
}

/** Carries a sequence out. @throws Error with the operations up to the one that failed */
export function play(world: World, operations: readonly Operation[]): void {
  for (const [n, one] of operations.entries()) {
    try {
      perform(world, one);
    } catch (error) {
      const list = operations.slice(0, n + 1).map((done) => `  ${describe(done)}`);
      throw new Error(`${error instanceof Error ? error.message : error}\nafter\n${list.join("\n")}`, {
        cause: error,
      });
    }
  }
  world.lab.invariants.check();
}
