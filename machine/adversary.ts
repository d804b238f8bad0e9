/**
 * A hostile host: the calls, pointers, proposals and accesses that a host would use to reach what is not its own, or to
 * make the core fail. Each act is one of chance from a seed, so that a test can repeat it; `attacks` are those with a name.
 */
import { Call } from "./core.ts";
import type { Cpu } from "./cpu.ts";
import { Psci, smc64 } from "./firmware.ts";
import type { HostVcpu, HostVm, Kernel, Outcome } from "./kernel.ts";
import { PAGE_SIZE } from "./physical.ts";
import { Random } from "./structures.ts";

/** Function numbers of firmware calls to try. */
const firmwareCalls: readonly number[] = Object.values(Psci);

/** Whose page is proposed to a VM. */
export type ForeignPage =
  | "core"
  | "other VM"
  | "struct kvm"
  | "struct kvm_vcpu"
  | "host table"
  | "donated"
  | "device"
  | "beyond RAM"
  | "same page again";

export const foreignPages: readonly ForeignPage[] = [
  "core",
  "other VM",
  "struct kvm",
  "struct kvm_vcpu",
  "host table",
  "donated",
  "device",
  "beyond RAM",
  "same page again",
];

export class Adversary {
  readonly kernel: Kernel;
  readonly random: Random;

  constructor(kernel: Kernel, seed: number) {
    this.kernel = kernel;
    this.random = new Random(seed);
  }

  /** A page of RAM or beside it: the host's, the core's, a VM's, a device's. */
  page(): number {
    const { kernel, random } = this;
    const { machine } = kernel;
    const { memory } = machine;
    const inCore =
      machine.coreBase + random.below((machine.coreEnd - machine.coreBase) / PAGE_SIZE) * PAGE_SIZE;
    const vm = this.vm();
    return random.pick([
      () => inCore,
      () => machine.core.bootInfo.number("rootsBase") + random.below(4) * PAGE_SIZE,
      () => machine.core.bootInfo.number("poolBase"),
      () => machine.coreBase - PAGE_SIZE,
      () => machine.coreEnd,
      () => memory.base + random.below(memory.pageCount) * PAGE_SIZE,
      () => memory.end - PAGE_SIZE,
      () => memory.end,
      () => random.below(memory.base / PAGE_SIZE) * PAGE_SIZE,
      () => (vm ? random.pick([vm.kvm, vm.pgd, vm.hypVm]) : inCore),
      () => vm?.vcpus[0]?.pa ?? inCore,
      () => random.pick([...(vm?.backing.values() ?? []), inCore]),
    ])();
  }

  /** A word as an argument: small, large, on an edge, or a pointer. */
  word(): bigint {
    const { random } = this;
    return random.pick([
      () => 0n,
      () => 1n,
      () => BigInt(random.below(300)),
      () => BigInt(random.below(2 ** 31)),
      () => -BigInt(random.below(5000)),
      () => random.word(),
      () => 1n << BigInt(random.below(64)),
      () => (1n << BigInt(random.below(64))) - 1n,
      () => BigInt(this.page()),
      () => this.pointer(),
      () => this.pointer(),
      () => this.vm()?.handle ?? 257n,
    ])();
  }

  /** A pointer: into the linear map, with or without an offset, into user space, or to nowhere. */
  pointer(): bigint {
    const { kernel, random } = this;
    const vm = this.vm();
    const vcpu = vm?.vcpus[random.below(vm.vcpus.length || 1)];
    return random.pick([
      () => kernel.linear(this.page()),
      () => kernel.linear(this.page()) + BigInt(random.below(PAGE_SIZE)),
      () => kernel.linear(this.page()) + BigInt(PAGE_SIZE - 8 * random.below(4)),
      () => vm?.kvmVa ?? 0n,
      () => (vm ? kernel.mmu(vm) : 8n),
      () => vcpu?.va ?? 16n,
      () => (vcpu?.va ?? 0n) + BigInt(kernel.structures.profile.vgicV3 as number),
      () => BigInt(random.below(2 ** 31)),
      () => random.word(),
    ])();
  }

  /** An HVC with any function and any arguments. The CPU may run a guest afterwards. */
  hypercall(cpu: Cpu): void {
    const { random } = this;
    const id = random.pick([
      () => 0xc600_0000n + BigInt(random.pick(Object.values(Call))),
      () => 0xc600_0000n + BigInt(random.below(64)),
      () => 0xc601_0000n + BigInt(random.below(26)),
      () => 0xc600_0000n + BigInt(random.below(26)) + (random.word() << 32n),
      () => BigInt(random.below(16)),
      () => random.word(),
    ])();
    this.raw(cpu, id, this.word(), this.word(), this.word(), this.word());
  }

  /** An HVC with these registers, once: a call that the core would repeat is left. */
  raw(cpu: Cpu, id: bigint, ...args: readonly bigint[]): void {
    const pc = cpu.pc;
    this.kernel.machine.hvc(cpu, id, ...args);
    if (cpu.context === "host") cpu.pc = pc;
    else
      this.kernel.running[cpu.index] = this.kernel.vms
        .flatMap(({ vcpus }) => vcpus)
        .find(({ va }) => va === args[0]);
  }

  /** An SMC with any function and any arguments, but those that end the machine. */
  firmwareCall(cpu: Cpu): void {
    const { random } = this;
    const { machine } = this.kernel;
    const last: readonly number[] = [Psci.SYSTEM_OFF, Psci.SYSTEM_RESET, Psci.SYSTEM_RESET2];
    const known = random.pick(firmwareCalls.filter((id) => !last.includes(id)));
    const id = random.pick([known, smc64(known), 0x8400_0000 + random.below(32), random.below(2 ** 31) * 2]);
    if (last.includes((id & ~0x4000_0000) >>> 0)) return;
    const target = random.pick(machine.cpus).affinity;
    const args = [random.pick([target, this.word()]), this.word(), this.word(), this.word()];
    machine.smcByHost(cpu, id, ...args);
  }

  /** Garbage in one field of struct kvm_vcpu, or of the guest's registers in it. */
  scribbleVcpu(vcpu: HostVcpu): void {
    const { kernel, random } = this;
    const offset = random.below((kernel.structures.profile.vcpuSize as number) / 8) * 8;
    const members = Object.entries(kernel.structures.profile).filter(([name]) => !/Size$|Pages$/.test(name));
    const [, member] = random.pick(members);
    kernel.poke(vcpu.pa + random.pick([offset, member]), this.word());
  }

  /** Garbage in the field of struct kvm that the core reads. */
  scribbleKvm(vm: HostVm): void {
    const { kernel, random } = this;
    const member = random.pick(["mmuPgdPhys", "mmuVtcr", "teardownHead", "teardownPages", "createdVcpus"]);
    kernel.poke(kernel.member(vm.kvm, member), this.word());
  }

  /** A descriptor of any kind somewhere in the VM's tables. */
  forgeEntry(vm: HostVm): void {
    const { kernel, random } = this;
    const table = random.pick([vm.pgd, ...vm.tables]);
    const bits = random.pick([0n, 1n, 3n, 0x7fdn, 0x7ffn, random.word() & 0xfffn]);
    kernel.poke(
      table + random.below(512) * 8,
      BigInt(this.page()) | bits | (random.word() & (0x7ffn << 52n)),
    );
  }

  /** Proposes a page to a VM that it must not have, or may not. Returns its address. */
  proposeForeign(vm: HostVm, frame: number, whose: ForeignPage, level: 2 | 3 = 3): number {
    const pa = this.foreignPage(vm, whose);
    this.kernel.propose(vm, frame * PAGE_SIZE, pa, { level });
    return pa;
  }

  /** A page of this kind. */
  foreignPage(vm: HostVm, whose: ForeignPage): number {
    const { kernel, random } = this;
    const { machine } = kernel;
    const other = kernel.vms.find((one) => one !== vm) ?? vm;
    const core =
      machine.coreBase + random.below((machine.coreEnd - machine.coreBase) / PAGE_SIZE) * PAGE_SIZE;
    switch (whose) {
      case "core":
        return core;
      case "other VM":
        return random.pick([...other.backing.values(), core]);
      case "struct kvm":
        return vm.kvm;
      case "struct kvm_vcpu":
        return vm.vcpus[0]?.pa ?? vm.kvm;
      case "host table":
        return random.pick([vm.pgd, ...vm.tables]);
      case "donated":
        return random.pick([vm.hypVm, vm.vcpus[0]?.hypVcpu ?? vm.hypVm]);
      case "device":
        return 0x0900_0000;
      case "beyond RAM":
        return machine.memory.end;
      case "same page again":
        return random.pick([...vm.backing.values(), core]);
    }
  }

  /** The host touches a page of any kind in any way. */
  touch(cpu: Cpu): Outcome {
    const { kernel, random } = this;
    const pa = this.page() + 8 * random.below(512);
    const by = random.pick(["kernel", "kernel", "user", "kernel on user memory"] as const);
    const kind = random.pick(["read", "read", "write", "execute"] as const);
    const user = 0x7000_0000n + BigInt(pa % PAGE_SIZE);
    if (by !== "kernel") kernel.mapUser(user, pa - (pa % PAGE_SIZE));
    const va = by === "kernel" ? kernel.linear(pa) : user;
    return kernel.access(cpu, { kind, va, by, value: random.word(), cacheable: random.below(4) !== 0 });
  }

  private vm(): HostVm | undefined {
    const { vms } = this.kernel;
    return vms.length === 0 ? undefined : this.random.pick(vms);
  }
}
