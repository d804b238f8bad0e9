/**
 * A host kernel: the calls and memory accesses that Linux's KVM makes in protected mode, as a script.
 *
 * It allocates pages of the host's RAM, keeps struct kvm and struct kvm_vcpu where it likes, proposes stage 2 tables in its
 * own memory, and follows KVM's sequences. Its stage 1 is a linear map of all physical addresses in the upper
 * half and one user address space in the lower half. It is well behaved; `adversary.ts` is not.
 */
import { Call } from "./core.ts";
import type { Cpu } from "./cpu.ts";
import { Psci } from "./firmware.ts";
import { type Access, Class, type Machine, PSTATE_EL0, PSTATE_EL1 } from "./machine.ts";
import { hasFeature } from "./models.ts";
import { hex, PAGE_SIZE, pageOf } from "./physical.ts";
import { Violation } from "./primitives.ts";
import type { Structures } from "./structures.ts";

/** Linux's error numbers as the core returns them. */
export const Errno = { ENOENT: -2n, ENOMEM: -12n, EBUSY: -16n, EEXIST: -17n, EINVAL: -22n } as const;

/** Exit codes of `__kvm_vcpu_run`. */
export const Exit = { IRQ: 0n, SERROR: 1n, TRAP: 2n, ILLEGAL: 3n } as const;

/** Virtual address of physical address 0 in the linear map. */
const LINEAR = 0xffff_8000_0000_0000n;
/** Virtual pages that the kernel maps as it likes. */
const VMALLOC = 0xffff_f000_0000_0000n;
const SCTLR_EL1 = 0x3090_180dn;

/** Offsets in struct user_pt_regs. */
const SP = 248;
const PC = 256;
const PSTATE = 264;

const IFLAG_INCREMENT_PC = 2;

/** Descriptor bits of the host's proposals. */
const VALID = 1n;
const TABLE = 2n;
const ATTRIBUTES = {
  read: 1n << 6n,
  write: 1n << 7n,
  shared: 3n << 8n,
  accessed: 1n << 10n,
  noExecute: 1n << 54n,
  normal: 0xfn << 2n,
  nonCacheable: 0x5n << 2n,
  device: 0x1n << 2n,
} as const;

/** A-64 instructions that the host's accesses stand for: `ldr x0, [x1]` and `str x0, [x1]`. */
const LDR = 0xf940_0020n;
const STR = 0xf900_0020n;

/** How an access of the host ended. */
export type Outcome =
  | { readonly value: bigint }
  /** The core carried it out as if the page were zero and read-only. */
  | { readonly emulated: bigint }
  /** The host took an exception: syndrome and fault address at EL1. */
  | { readonly fault: bigint; readonly far: bigint };

/** Who makes an access, and how. */
export interface AccessBy extends Access {
  readonly by?: "kernel" | "user" | "kernel on user memory";
  /** The instruction that makes it, if it is not a plain load or store of x0. */
  readonly instruction?: bigint;
}

/** What the host asks for in a proposal. */
export interface Mapping {
  readonly level?: 1 | 2 | 3;
  readonly writable?: boolean;
  readonly executable?: boolean;
  readonly type?: "normal" | "nonCacheable" | "device";
}

/** A VM as the host sees it. */
export interface HostVm {
  readonly kvm: number;
  readonly kvmVa: bigint;
  readonly hypVm: number;
  readonly pgd: number;
  readonly pgdPages: number;
  readonly vtcr: bigint;
  readonly handle: bigint;
  readonly vcpus: HostVcpu[];
  /** Guest frames that are memory, whether backed or not; others are devices. */
  readonly frames: { readonly first: number; readonly count: number };
  /** Physical page of each guest frame that has one. */
  readonly backing: Map<number, number>;
  /** Table pages below the root. */
  readonly tables: number[];
  alive: boolean;
}

export interface HostVcpu {
  readonly vm: HostVm;
  readonly pa: number;
  readonly va: bigint;
  readonly hypVcpu: number;
  /** SVE state buffer, or 0. */
  readonly sve: number;
}

export interface VmShape {
  readonly ipaBits?: number;
  readonly firstFrame?: number;
  readonly frameCount?: number;
}

export interface VcpuShape {
  readonly pauth?: boolean;
  /** SVE vector length in quadwords. */
  readonly sve?: number;
}

/** How often a call or access is tried again before that counts as no progress. */
const MAX_TRIES = 20;
const MAX_RESTARTS = 100_000;

export class Kernel {
  readonly machine: Machine;
  readonly structures: Structures;
  readonly vms: HostVm[] = [];
  /** False when something else than these scripts gives its pages away or overwrites its structures. */
  isHonest = true;
  /** The vCPU that each CPU runs, as the kernel believes. */
  readonly running: (HostVcpu | undefined)[] = [];
  private readonly used: Uint8Array;
  private readonly code: number;
  private readonly kernelTable: number;
  private readonly userTable: number;
  private readonly userPages = new Map<bigint, number>();
  private readonly vmallocPages = new Map<bigint, number>();
  private nextVmalloc = VMALLOC;
  /** The CPU on which memory is cleared: the last one that made a call. */
  private allocator: Cpu;

  /** Takes over a machine that was just switched on: CPU 0 runs the host with its MMU off. */
  constructor(machine: Machine, structures: Structures) {
    this.machine = machine;
    this.structures = structures;
    this.allocator = machine.cpu(0);
    const { memory } = machine;
    this.used = new Uint8Array(memory.pageCount);
    for (let n = 0; n < memory.pageCount; n++)
      if (machine.isCore(memory.base + n * PAGE_SIZE)) this.used[n] = 1;
    this.code = this.alloc();
    this.kernelTable = this.alloc();
    this.userTable = this.alloc();
    machine.caches.write(this.code, 4, LDR);
    machine.caches.write(this.code + 4, 4, STR);
    machine.stage1.set(this.kernelTable, (va) => this.kernelStage1(va));
    machine.stage1.set(this.userTable, (va) => {
      const pa = this.userPages.get(va >> 12n);
      return pa === undefined ? undefined : pa + Number(va & 0xfffn);
    });
    this.bringUp(machine.cpu(0));
  }

  /** Sets a CPU that the core handed over to the host up, and makes the calls of KVM's initialisation. */
  bringUp(cpu: Cpu): void {
    const { registers } = cpu;
    registers.set("sctlr_el1", SCTLR_EL1);
    registers.set("ttbr1_el1", BigInt(this.kernelTable));
    registers.set("ttbr0_el1", BigInt(this.userTable));
    registers.set("vbar_el1", this.linear(this.code) + 0x800n);
    if (hasFeature(cpu.model, "SME")) registers.set("tpidr2_el0", 0x7d2n);
    cpu.pstate = PSTATE_EL1;
    cpu.pc = this.linear(this.code) + 0x100n;
    this.running[cpu.index] = undefined;
    for (const call of [0, 2]) this.machine.hvc(cpu, call);
    for (const name of ["HYP_INIT", "PKVM_INIT", "CPU_SET_VECTOR", "GET_MDCR_EL2", "PROT_FINALIZE"])
      this.call(cpu, name);
  }

  /** CPU_ON for CPU `index`, by `cpu`. Returns what PSCI says. */
  startCpu(cpu: Cpu, index: number): bigint {
    const target = this.machine.cpu(index);
    const entry = this.linear(this.code);
    cpu.pc = entry;
    this.machine.smcByHost(cpu, Psci.CPU_ON | 0x4000_0000, target.affinity, entry, 0x1234n + BigInt(index));
    const status = BigInt.asIntN(64, cpu.x[0] as bigint);
    if (status === 0n && target.context === "host") this.bringUp(target);
    return status;
  }

  /** Brings every CPU up. */
  startAll(): void {
    for (const { index } of this.machine.cpus.slice(1)) this.startCpu(this.machine.cpu(0), index);
  }

  // Memory.

  /**
   * Physical address of `count` contiguous free pages, aligned to `alignment` pages.
   * @throws RangeError when there are none
   */
  alloc(count = 1, alignment = 1): number {
    const found = this.tryAlloc(count, alignment);
    if (found === undefined) throw new RangeError(`the host has no ${count} free pages`);
    return found;
  }

  /** As `alloc`, or undefined when there are none. */
  tryAlloc(count = 1, alignment = 1): number | undefined {
    const { used } = this;
    const base = this.machine.memory.base / PAGE_SIZE;
    let first = (alignment - (base % alignment)) % alignment;
    while (first + count <= used.length) {
      const taken = used.subarray(first, first + count).lastIndexOf(1);
      if (taken < 0) {
        used.fill(1, first, first + count);
        return this.machine.memory.base + first * PAGE_SIZE;
      }
      first += Math.ceil((taken + 1) / alignment) * alignment;
    }
    return undefined;
  }

  /** Gives pages back. */
  free(pa: number, count = 1): void {
    const first = this.machine.memory.indexOf(pa);
    this.used.fill(0, first, first + count);
  }

  /** Pages that nothing uses. */
  freePages(): number {
    return this.used.reduce((sum, use) => sum + 1 - use, 0);
  }

  /** Virtual address of `pa` in the linear map. */
  linear(pa: number): bigint {
    return LINEAR + BigInt(pa);
  }

  /** Maps pages one after the other in kernel virtual memory, wherever they are. Returns the first virtual address. */
  vmap(pages: readonly number[]): bigint {
    const va = this.nextVmalloc;
    for (const [n, pa] of pages.entries()) this.vmallocPages.set((va >> 12n) + BigInt(n), pa);
    this.nextVmalloc += BigInt((pages.length + 1) * PAGE_SIZE);
    return va;
  }

  /** Maps the page at `pa` at `va` in user space. */
  mapUser(va: bigint, pa: number): void {
    this.userPages.set(va >> 12n, pa);
    for (const { index } of this.machine.cpus)
      this.machine.tlbs.evict(index, ({ virtual }) => virtual?.endsWith(hex(va >> 12n)) ?? false);
  }

  private kernelStage1(va: bigint): number | undefined {
    if (va >= VMALLOC) {
      const pa = this.vmallocPages.get(va >> 12n);
      return pa === undefined ? undefined : pa + Number(va & 0xfffn);
    }
    return va >= LINEAR ? Number(va - LINEAR) : undefined;
  }

  /** An access by the host, until it is done, emulated or refused. */
  access(cpu: Cpu, access: AccessBy): Outcome {
    const by = access.by ?? "kernel";
    let pc = this.linear(this.code) + (access.kind === "write" ? 4n : 0n);
    if (access.kind === "execute") pc = access.va;
    if (access.instruction !== undefined) {
      pc = this.linear(this.code) + 8n;
      this.machine.caches.write(this.code + 8, 4, access.instruction);
    }
    const mode = by === "user" ? PSTATE_EL0 : PSTATE_EL1;
    if (access.kind === "write") cpu.x[0] = access.value ?? 0n;
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      cpu.pc = pc;
      cpu.pstate = mode;
      const done = this.machine.attempt(cpu, access);
      if (done === "own fault") throw new Error(`the host's stage 1 maps nothing at ${hex(access.va)}`);
      if (done !== "trapped") return done;
      if (cpu.pc === pc) continue;
      if (cpu.pc === pc + 4n) return { emulated: cpu.x[0] as bigint };
      return this.exception(cpu, pc, mode);
    }
    throw new Violation("hostMakesProgress", `an access of the host to ${hex(access.va)} never ends`);
  }

  /** Reads 64 bits at a physical address through the linear map. */
  read(cpu: Cpu, pa: number, cacheable = true): Outcome {
    return this.access(cpu, { kind: "read", va: this.linear(pa), cacheable });
  }

  /** Writes 64 bits at a physical address through the linear map. */
  write(cpu: Cpu, pa: number, value: bigint, cacheable = true): Outcome {
    return this.access(cpu, { kind: "write", va: this.linear(pa), value, cacheable });
  }

  /** The exception that the core made the host take at `pc`: checks its form and goes on behind it. */
  private exception(cpu: Cpu, pc: bigint, mode: bigint): Outcome {
    const { registers } = cpu;
    const vector = registers.get("vbar_el1") + (mode === PSTATE_EL0 ? 0x400n : 0x200n);
    if (cpu.pc !== vector || registers.get("elr_el1") !== pc || registers.get("spsr_el1") !== mode)
      throw new Violation("injectionsAreExceptions", `the host continues at ${hex(cpu.pc)} after ${hex(pc)}`);
    cpu.pc = pc + 4n;
    cpu.pstate = mode;
    return { fault: registers.get("esr_el1"), far: registers.get("far_el1") };
  }

  // Structures. These accesses of the host to its own memory are shortened: they go to memory directly, where the page is
  // the host's and an access through the tables would come to the same, and nowhere else.

  peek(pa: number, size = 8): bigint {
    return this.mayReach(pa) ? this.machine.caches.read(pa, size) : 0n;
  }

  poke(pa: number, value: bigint | number, size = 8): void {
    if (this.mayReach(pa)) this.machine.caches.write(pa, size, BigInt.asUintN(64, BigInt(value)));
  }

  private mayReach(pa: number): boolean {
    return this.machine.memory.has(pa) && this.machine.ownerOf(pa) === 0;
  }

  /** Address of a member of kvm_vcpu or kvm. */
  member(structure: number, name: string): number {
    const offset = this.structures.profile[name];
    if (offset === undefined) throw new Error(`the kernel has no member ${name}`);
    return structure + offset;
  }

  // Calls.

  /**
   * One of the calls in the core's `Call`, made again as long as the core wants it so.
   * @returns x0 and x1 as signed numbers; or undefined when the CPU now runs a guest
   */
  call(
    cpu: Cpu,
    name: string,
    ...args: readonly (bigint | number)[]
  ): { status: bigint; result: bigint } | undefined {
    const number = Call[name];
    if (number === undefined) throw new Error(`the core has no call ${name}`);
    const pc = this.linear(this.code) + 0x40n;
    this.allocator = cpu;
    cpu.pstate = PSTATE_EL1;
    cpu.pc = pc;
    this.machine.hvc(cpu, 0xc600_0000 + number, ...args);
    for (let tries = 0; cpu.context === "host" && cpu.pc === pc; tries++) {
      if (tries > MAX_RESTARTS) throw new Violation("hostMakesProgress", `call ${name} never ends`);
      this.machine.hvc(cpu);
    }
    if (cpu.context !== "host") return undefined;
    return { status: BigInt.asIntN(64, cpu.x[0] as bigint), result: BigInt.asIntN(64, cpu.x[1] as bigint) };
  }

  /** As `call`, for calls that answer with a number. */
  ask(cpu: Cpu, name: string, ...args: readonly (bigint | number)[]): bigint {
    const answer = this.call(cpu, name, ...args);
    if (answer === undefined || answer.status !== 0n) throw new Error(`${name} is not answered`);
    return answer.result;
  }

  // VMs.

  /**
   * Creates a VM as KVM does at its first run: shares struct kvm, and announces it with the pages that it donates.
   * @throws Error when the core refuses it
   */
  createVm(cpu: Cpu, shape: VmShape = {}): HostVm {
    const vm = this.tryCreateVm(cpu, shape);
    if (vm.handle <= 0n) throw new Error(`the core refuses a VM: ${vm.handle}`);
    return vm;
  }

  /** As `createVm`; the handle of a refused VM is the error number, and its pages are free again. */
  tryCreateVm(cpu: Cpu, shape: VmShape = {}): HostVm {
    const ipaBits = shape.ipaBits ?? 40;
    const { profile } = this.structures;
    const startLevel = ipaBits >= 44 ? 0 : ipaBits >= 35 ? 1 : 2;
    const pgdPages = 2 ** Math.max(0, ipaBits - (48 - 9 * startLevel));
    const kvm = this.allocBytes(profile.kvmSize as number);
    const pgd = this.alloc(pgdPages, pgdPages);
    const hypVm = this.alloc(profile.hypVmPages);
    const vtcr = BigInt(64 - ipaBits) | (BigInt(2 - startLevel) << 6n);
    const kvmVa = this.linear(kvm);
    this.allocator = cpu;
    for (let n = 0; n < pgdPages; n++) this.clearPage(pgd + n * PAGE_SIZE);
    for (let n = 0; n < (profile.kvmSize as number); n += PAGE_SIZE) this.clearPage(kvm + n);
    for (let n = 0; n < (profile.hypVmPages as number); n++) this.clearPage(hypVm + n * PAGE_SIZE);
    this.call(cpu, "HOST_SHARE_HYP", Math.floor(kvm / PAGE_SIZE));
    this.poke(this.member(kvm, "mmuVtcr"), vtcr);
    this.poke(this.member(kvm, "mmuPgdPhys"), pgd);
    const handle = this.ask(cpu, "INIT_VM", kvmVa, this.linear(hypVm), this.linear(pgd));
    const frames = { first: shape.firstFrame ?? 0x4_0000, count: shape.frameCount ?? 2048 };
    const vm: HostVm = {
      ...{ kvm, kvmVa, hypVm, pgd, pgdPages, vtcr, handle, frames },
      ...{ vcpus: [], backing: new Map(), tables: [], alive: handle > 0n },
    };
    if (vm.alive) this.vms.push(vm);
    else this.freeVmPages(vm);
    return vm;
  }

  /**
   * Creates a vCPU and announces it.
   * @throws Error when the core refuses it
   */
  createVcpu(cpu: Cpu, vm: HostVm, shape: VcpuShape = {}): HostVcpu {
    const vcpu = this.tryCreateVcpu(cpu, vm, shape);
    if (typeof vcpu === "bigint") throw new Error(`the core refuses a vCPU: ${vcpu}`);
    return vcpu;
  }

  /** As `createVcpu`, or the error number when the core refuses. */
  tryCreateVcpu(cpu: Cpu, vm: HostVm, shape: VcpuShape = {}): HostVcpu | bigint {
    const { profile, debugRegisters } = this.structures;
    const size = profile.vcpuSize as number;
    const pa = this.allocBytes(size);
    const va = this.linear(pa);
    this.allocator = cpu;
    for (let n = 0; n < size; n += PAGE_SIZE) this.clearPage(pa + n);
    const hypVcpu = this.alloc(profile.hypVcpuPages);
    for (let n = 0; n < (profile.hypVcpuPages as number); n++) this.clearPage(hypVcpu + n * PAGE_SIZE);
    const sve = shape.sve ? this.alloc(3) : 0;
    for (let n = 0; shape.sve && n < 3; n++) this.clearPage(sve + n * PAGE_SIZE);
    const vcpu: HostVcpu = { vm, pa, va, hypVcpu, sve };
    this.poke(this.member(pa, "vcpuKvm"), vm.kvmVa);
    this.poke(this.member(pa, "cflags"), (shape.pauth ? 4 : 0) | (shape.sve ? 1 : 0), 1);
    this.poke(this.member(pa, "sveState"), sve === 0 ? 0n : this.linear(sve));
    this.poke(this.member(pa, "sveMaxVl"), 16 * (shape.sve ?? 0), 4);
    this.poke(this.member(pa, "debugPtr"), va + BigInt(debugRegisters));
    this.poke(this.member(pa, "mpidrEl1"), BigInt(vm.vcpus.length) | (1n << 31n));
    this.poke(this.member(pa, "vgicSre"), 7, 4);
    this.poke(this.member(pa, "vgicHcr"), 1, 4);
    this.poke(this.member(pa, "hcrEl2"), 0x8002_603fn);
    this.setContext(vcpu, { pc: BigInt(vm.frames.first * PAGE_SIZE), pstate: 0x3c5n });
    this.call(cpu, "HOST_SHARE_HYP", Math.floor(pa / PAGE_SIZE));
    const result = this.ask(cpu, "INIT_VCPU", vm.handle, va, this.linear(hypVcpu));
    if (result !== 0n) {
      this.freeVcpuPages(vcpu);
      return result;
    }
    vm.vcpus.push(vcpu);
    return vcpu;
  }

  /** Sets where a vCPU goes on. */
  setContext(
    vcpu: HostVcpu,
    context: { pc?: bigint; pstate?: bigint; x?: readonly bigint[]; sp?: bigint },
  ): void {
    const regs = this.member(vcpu.pa, "regs");
    for (const [n, value] of (context.x ?? []).entries()) this.poke(regs + 8 * n, value);
    if (context.sp !== undefined) this.poke(regs + SP, context.sp);
    if (context.pc !== undefined) this.poke(regs + PC, context.pc);
    if (context.pstate !== undefined) this.poke(regs + PSTATE, context.pstate);
  }

  /** x`n`, or one of the other registers of struct user_pt_regs, of a vCPU that does not run. */
  guestRegister(vcpu: HostVcpu, which: number | "sp" | "pc" | "pstate"): bigint {
    const offset = typeof which === "number" ? 8 * which : { sp: SP, pc: PC, pstate: PSTATE }[which];
    return this.peek(this.member(vcpu.pa, "regs") + offset);
  }

  /** `__kvm_vcpu_run` on `cpu`: "guest" when it runs now, else the exit code. */
  run(cpu: Cpu, vcpu: HostVcpu): "guest" | bigint {
    const answer = this.call(cpu, "VCPU_RUN", vcpu.va);
    this.running[cpu.index] = answer === undefined ? vcpu : undefined;
    return answer === undefined ? "guest" : answer.result;
  }

  /** The exit code with which the guest of `cpu` has left; the CPU runs the host again. */
  exitCode(cpu: Cpu): bigint {
    this.running[cpu.index] = undefined;
    return cpu.x[1] as bigint;
  }

  /**
   * Handles an exit as KVM and its VMM do: memory that faulted is backed and mapped, accesses to devices are
   * emulated with the value `device`, and other instructions that trapped are skipped.
   * @returns what was done
   */
  handleExit(vcpu: HostVcpu, code: bigint, device = 0x7d7dn, mapping: Mapping = {}): string {
    if (code !== Exit.TRAP) return "nothing";
    const esr = this.peek(this.member(vcpu.pa, "faultEsrEl2"));
    const kind = Number((esr >> 26n) & 0x3fn);
    if (kind === Class.HVC64) return "hypercall";
    if (kind !== Class.DATA_ABORT_LOWER && kind !== Class.INSTRUCTION_ABORT_LOWER) {
      this.skip(vcpu);
      return "skipped";
    }
    const hpfar = this.peek(this.member(vcpu.pa, "faultHpfarEl2"));
    const frame = Number(hpfar >> 4n);
    const { first, count } = vcpu.vm.frames;
    if (frame >= first && frame < first + count) {
      this.back(vcpu.vm, frame, mapping);
      return "mapped";
    }
    if ((esr & (1n << 6n)) === 0n) this.poke(this.member(vcpu.pa, "regs"), device);
    this.skip(vcpu);
    return "emulated";
  }

  /** Lets the core skip the instruction that the host emulated. */
  skip(vcpu: HostVcpu): void {
    this.poke(this.member(vcpu.pa, "iflags"), IFLAG_INCREMENT_PC, 1);
  }

  // Stage 2 proposals.

  /** Gives guest frame `frame` memory, if it has none, and proposes it. False when the host has no memory left. */
  back(vm: HostVm, frame: number, mapping: Mapping = {}): boolean {
    const pages = mapping.level === 2 ? 512 : 1;
    const start = frame - (frame % pages);
    let pa = vm.backing.get(frame);
    if (pa === undefined || (pages > 1 && vm.backing.get(start) === undefined)) {
      const fresh = this.tryAlloc(pages, pages);
      if (fresh === undefined) return false;
      for (let n = 0; n < pages; n++)
        if (!vm.backing.has(start + n)) vm.backing.set(start + n, fresh + n * PAGE_SIZE);
      pa = vm.backing.get(start) as number;
    }
    return this.propose(vm, start * PAGE_SIZE, pages > 1 ? (vm.backing.get(start) as number) : pa, mapping);
  }

  /** Writes a leaf for `ipa` to `pa` into the VM's stage 2 tables, with the tables above it. False without memory. */
  propose(vm: HostVm, ipa: number, pa: number, mapping: Mapping = {}): boolean {
    const level = mapping.level ?? 3;
    const slot = this.slot(vm, ipa, level, true);
    if (slot === undefined) return false;
    const type = ATTRIBUTES[mapping.type ?? "normal"];
    let leaf = BigInt(pageOf(pa)) | VALID | ATTRIBUTES.read | ATTRIBUTES.accessed | ATTRIBUTES.shared | type;
    if (mapping.writable ?? true) leaf |= ATTRIBUTES.write;
    if (!(mapping.executable ?? true)) leaf |= ATTRIBUTES.noExecute;
    this.poke(slot, level === 3 ? leaf | TABLE : leaf);
    return true;
  }

  /** Takes the proposal for `ipa` away, as KVM does before it flushes. */
  unpropose(vm: HostVm, ipa: number): void {
    for (const level of [3, 2, 1] as const) {
      const slot = this.slot(vm, ipa, level, false);
      if (slot !== undefined && (this.peek(slot) & VALID) !== 0n) {
        this.poke(slot, 0);
        return;
      }
    }
  }

  /** Address of the VM's entry for `ipa` at `level`; with `make`, with the tables above it. */
  slot(vm: HostVm, ipa: number, level: number, make: boolean): number | undefined {
    const start = 2 - Number((vm.vtcr >> 6n) & 3n);
    let table = vm.pgd;
    for (let at = start; ; at++) {
      const entries = at === start ? vm.pgdPages * 512 : 512;
      const slot = table + (Math.floor(ipa / 2 ** (39 - 9 * at)) % entries) * 8;
      if (at === level) return slot;
      let entry = this.peek(slot);
      if ((entry & 3n) !== 3n) {
        if (!make) return undefined;
        const fresh = this.tryAlloc();
        if (fresh === undefined) return undefined;
        this.clearPage(fresh);
        vm.tables.push(fresh);
        entry = BigInt(fresh) | TABLE | VALID;
        this.poke(slot, entry);
      }
      table = Number(entry & 0xffff_ffff_f000n);
      if (!this.machine.memory.has(table)) return undefined;
    }
  }

  /** The MMU notifier: the host takes guest frame `frame` away from the VM. Its page is free afterwards. */
  reclaim(cpu: Cpu, vm: HostVm, frame: number): number | undefined {
    const pa = vm.backing.get(frame);
    this.unpropose(vm, frame * PAGE_SIZE);
    this.flush(cpu, vm, frame);
    if (pa === undefined) return undefined;
    vm.backing.delete(frame);
    this.free(pa);
    return pa;
  }

  /** `__kvm_tlb_flush_vmid_ipa` for one guest frame. */
  flush(cpu: Cpu, vm: HostVm, frame: number, level = 3): void {
    this.call(cpu, "TLB_FLUSH_VMID_IPA", this.mmu(vm), frame * PAGE_SIZE, level);
  }

  /** Virtual address of the VM's struct kvm_s2_mmu. */
  mmu(vm: HostVm): bigint {
    return vm.kvmVa + BigInt(this.structures.profile.mmu as number);
  }

  /**
   * Ends a VM: tears it down, takes back the pages that the core returns on struct kvm's list, and frees its memory.
   * @returns the error number if the core refuses, else 0
   */
  destroyVm(cpu: Cpu, vm: HostVm): bigint {
    const result = this.ask(cpu, "TEARDOWN_VM", vm.handle);
    if (result !== 0n) return result;
    const { profile } = this.structures;
    const donated =
      vm.pgdPages + (profile.hypVmPages as number) + vm.vcpus.length * (profile.hypVcpuPages as number);
    const returned = this.teardownList(vm);
    if (this.isHonest && returned.length !== donated)
      throw new Violation("donatedPagesComeBack", `${returned.length} of ${donated} pages are on the list`);
    for (const vcpu of vm.vcpus) {
      this.call(cpu, "HOST_UNSHARE_HYP", Math.floor(vcpu.pa / PAGE_SIZE));
      this.freeVcpuPages(vcpu);
    }
    for (const pa of vm.backing.values()) this.free(pa);
    for (const pa of vm.tables) this.free(pa);
    this.freeVmPages(vm);
    vm.alive = false;
    this.vms.splice(this.vms.indexOf(vm), 1);
    return 0n;
  }

  /** The pages on the list in struct kvm: a stack linked by first words. */
  teardownList(vm: HostVm): number[] {
    const count = Number(this.peek(this.member(vm.kvm, "teardownPages")));
    const pages: number[] = [];
    let next = Number(this.peek(this.member(vm.kvm, "teardownHead")));
    while (pages.length < count && this.machine.memory.has(next)) {
      pages.push(next);
      next = Number(this.peek(next));
    }
    return pages;
  }

  private allocBytes(size: number): number {
    return this.alloc(Math.ceil(size / PAGE_SIZE));
  }

  /** Clears a page that was just allocated. It may be one that a private VM had: touching it brings it back. */
  private clearPage(pa: number): void {
    if (!this.mayReach(pa)) this.write(this.allocator, pa, 0n);
    if (this.mayReach(pa)) this.machine.caches.zero(pageOf(pa));
  }

  private freeVmPages(vm: HostVm): void {
    const { profile } = this.structures;
    this.free(vm.kvm, Math.ceil((profile.kvmSize as number) / PAGE_SIZE));
    this.free(vm.pgd, vm.pgdPages);
    this.free(vm.hypVm, profile.hypVmPages);
  }

  private freeVcpuPages(vcpu: HostVcpu): void {
    const { profile } = this.structures;
    this.free(vcpu.pa, Math.ceil((profile.vcpuSize as number) / PAGE_SIZE));
    this.free(vcpu.hypVcpu, profile.hypVcpuPages);
    if (vcpu.sve !== 0) this.free(vcpu.sve, 3);
  }
}
