/**
 * The machine: CPUs, memory, TLBs, caches and firmware, with the core at EL2.
 *
 * Host and guests are scripts (`kernel.ts`, `guest.ts`) that use the machine as software uses hardware: they execute HVC and
 * SMC, read and write memory, use registers. Whatever traps to EL2 runs an export of the core's wasm, as the
 * vectors of kcore/native/start.S do: x0..x30 go to the CPU's frame, the export is called, and the context it names
 * goes on. A call of the core is one step; CPUs interleave between steps, and in instrumented cores between its
 * critical sections.
 */
import { Caches } from "./caches.ts";
import { type CoreMemory, type CoreModule, CoreMemory as Memory, PanicReason } from "./core.ts";
import { Cpu } from "./cpu.ts";
import { Firmware, type Start } from "./firmware.ts";
import { type CpuModelName, cpuModel, hasFeature } from "./models.ts";
import { hex, PAGE_SIZE, PhysicalMemory } from "./physical.ts";
import { bindImports, Halted, PowerLoss, Violation } from "./primitives.ts";
import { registerNames, UndefinedInstruction } from "./registers.ts";
import {
  decodeRegime,
  type Fault,
  faultStatus,
  type Leaf,
  memoryType,
  type Regime,
  type Step,
} from "./stage2.ts";
import { Tlbs } from "./tlb.ts";

const MiB = 2 ** 20;

/** Exception classes, ESR_ELx.EC. */
export const Class = {
  UNKNOWN: 0x00,
  WFX: 0x01,
  FP_ASIMD: 0x07,
  HVC64: 0x16,
  SMC64: 0x17,
  SYS64: 0x18,
  SVE: 0x19,
  INSTRUCTION_ABORT_LOWER: 0x20,
  INSTRUCTION_ABORT_SAME: 0x21,
  DATA_ABORT_LOWER: 0x24,
  DATA_ABORT_SAME: 0x25,
} as const;

/** What the core returns, and exit codes of guests by vector. */
const RESUME_GUEST = 1;
export const GuestVector = { IRQ: 0, SERROR: 1, TRAP: 2 } as const;

export const PSTATE_EL0 = 0x0n;
export const PSTATE_EL1 = 0x5n;

const ESR_IL = 1n << 25n;
const ISS_ISV = 1n << 24n;
const ISS_WNR = 1n << 6n;
const HCR_VM = 1n;
const HCR_FWB = 1n << 46n;
const SCTLR_M = 1n;
const KERNEL_HALF = 1n << 55n;
const PAR_F = 1n;
/** What AT reports beside the address: attributes and shareability, which are no part of it. */
const PAR_ATTRIBUTES = 0xff00_0000_0000_0b80n;
/** What a register holds when its CPU comes from reset. */
const UNKNOWN = 0xbad0_bad0_bad0_bad0n;

/** Stage 1 of a translation table base: virtual address to intermediate physical, or undefined for a fault. */
export type Stage1 = (va: bigint) => number | undefined;

/** What may be checked at the moment it happens; see `invariants.ts`. */
export interface Watch {
  tableWrite?(address: number, old: Step, low: number, high: number): void;
  tableZero?(page: number): void;
  ownerWrite?(index: number, old: bigint, now: bigint): void;
  pageZero?(pa: number): void;
  pageClean?(pa: number): void;
  hostAccess?(pa: number, size: number): void;
  /** The core is about to be entered on a CPU, and has been left. */
  enter?(cpu: Cpu): void;
  leave?(cpu: Cpu): void;
}

/** Locks of instrumented cores, see test/variant.ts. */
export interface LockWatch {
  wanted?(cpu: number, lock: number): void;
  taken?(cpu: number, lock: number): void;
  freed?(cpu: number, lock: number): void;
}

export interface MachineOptions {
  /** Number of CPUs. */
  readonly cpus?: number;
  readonly model?: CpuModelName;
  /** Whether VMs are private: pages they map are donated to them. */
  readonly privateVms?: boolean;
  /** First byte of RAM, pages of RAM, and of them first byte and pages of the core. */
  readonly ramBase?: number;
  readonly ramPages?: number;
  readonly coreBase?: number;
  readonly corePages?: number;
  /** Table pages the core is given, at most what its memory has room for. */
  readonly poolPages?: number;
  /** Words of the core's class Profile. */
  readonly profile: Readonly<Record<string, number>>;
  /** Which seeded bug an instrumented core has; 0 for none. */
  readonly mutant?: number;
  /** Words of BootInfo that differ from those that fit the machine. */
  readonly bootInfo?: Readonly<Record<string, number>>;
}

/** How the core ended in an error: where, and why. */
export class CoreFailure extends Error {
  readonly cpu: number;
  readonly entry: string;
  readonly reason: unknown;

  constructor(cpu: number, entry: string, reason: unknown, where: string) {
    super(
      `the core on CPU ${cpu}, in ${entry}: ${reason instanceof Error ? reason.message : reason}${where}`,
    );
    this.cpu = cpu;
    this.entry = entry;
    this.reason = reason;
    if (reason instanceof Error) this.cause = reason;
  }
}

/** A memory access of software. */
export interface Access {
  readonly kind: "read" | "write" | "execute";
  readonly va: bigint;
  /** For writes: 64 bits. */
  readonly value?: bigint;
  /** Attributes of stage 1; without caches the access sees memory behind them. True when left out. */
  readonly cacheable?: boolean;
}

/** Where an access leads: to a physical address, to a fault of stage 1, or to a fault of stage 2 at an address. */
type Translation =
  | { readonly pa: number; readonly cacheable: boolean }
  | { readonly stage1: true }
  | { readonly fault: Fault; readonly ipa: number };

export class Machine {
  readonly cpus: readonly Cpu[];
  readonly memory: PhysicalMemory;
  readonly caches: Caches;
  readonly tlbs: Tlbs;
  readonly firmware: Firmware;
  readonly core: CoreMemory;
  /** The owner table: entries by page of RAM. */
  readonly owners: BigUint64Array;
  /** First byte of the core's memory, and first byte after it. */
  readonly coreBase: number;
  readonly coreEnd: number;
  /** The CPU that runs the core at the moment. */
  current: Cpu;
  /** Stage 1 tables by their base in TTBRn_EL1. */
  readonly stage1 = new Map<number, Stage1>();
  /** Table pages that were written since an invariant last looked at all of them. */
  readonly dirtyTables = new Set<number>();
  /** Counted up at each change of tables and of the owner table. */
  tableVersion = 0;
  ownerVersion = 0;
  /** Entries of the core so far. */
  entries = 0;
  watch: Watch | undefined;
  locks: LockWatch | undefined;
  mutant: number;
  /** True after the firmware switched the machine off. */
  off = false;
  private readonly exports: Record<string, (...args: number[]) => number>;
  private readonly regimes = new Map<string, Regime | undefined>();
  private readonly starting: { readonly cpu: number; readonly start: Start }[] = [];
  private readonly sleeping = new Map<number, Start>();
  private depth = 0;

  private readonly module: CoreModule;
  readonly options: MachineOptions;

  /**
   * A machine that has not started.
   * @throws Error when the core imports what the machine does not have, or asks for a word nobody gives it
   */
  constructor(module: CoreModule, options: MachineOptions) {
    this.module = module;
    this.options = options;
    const model = cpuModel(options.model ?? "cortex-a76");
    const affinities = Array.from({ length: options.cpus ?? 2 }, (_, n) => affinityOf(n));
    this.cpus = affinities.map((affinity, n) => new Cpu(n, model, affinity));
    this.current = this.cpu(0);
    const ramBase = options.ramBase ?? 0x4000_0000;
    this.memory = new PhysicalMemory(ramBase, options.ramPages ?? (64 * MiB) / PAGE_SIZE);
    this.caches = new Caches(this.memory);
    this.tlbs = new Tlbs(this.cpus.length, (address) => this.descriptor(address));
    this.firmware = new Firmware(affinities);
    this.owners = new BigUint64Array(this.memory.pageCount);
    this.mutant = options.mutant ?? 0;
    this.coreBase = options.coreBase ?? this.memory.base + 4 * MiB;
    this.coreEnd = this.coreBase + (options.corePages ?? (4 * MiB) / PAGE_SIZE) * PAGE_SIZE;
    const instance = new WebAssembly.Instance(module.module, bindImports(this, module.module));
    this.core = new Memory(instance.exports);
    this.exports = instance.exports as Record<string, (...args: number[]) => number>;
    this.fillBootInfo(affinities);
  }

  /** The CPU with this number. */
  cpu(index: number): Cpu {
    const cpu = this.cpus[index];
    if (cpu === undefined) throw new RangeError(`there is no CPU ${index}`);
    return cpu;
  }

  /** Power on: the core boots, and CPU 0 runs the host. */
  powerOn(): void {
    this.enter(this.cpu(0), "boot", []);
  }

  /** True while some CPU is in the middle of an entry and another one runs. */
  get isNested(): boolean {
    return this.depth > 0;
  }

  /** True when `pa` lies in the core's memory. */
  isCore(pa: number): boolean {
    return pa >= this.coreBase && pa < this.coreEnd;
  }

  /** Owner of the page at `pa`, which is RAM: 0 the host, 1 the core, else a VM's handle. */
  ownerOf(pa: number): number {
    return Number((this.owners[this.memory.indexOf(pa)] as bigint) >> 40n);
  }

  /** What the owner table keeps of the page at `pa` beside its owner: a count or a guest frame. */
  payloadOf(pa: number): number {
    return Number((this.owners[this.memory.indexOf(pa)] as bigint) & 0xff_ffff_ffffn);
  }

  /** The descriptor at `address`, as two halves. Memory that was never written, or is none, reads as zeroes. */
  descriptor(address: number): Step {
    const halves = this.memory.touched(address)?.memory.halves;
    const at = (address % PAGE_SIZE) / 4;
    return { address, low: halves?.[at] ?? 0, high: halves?.[at + 1] ?? 0 };
  }

  /** The translation regime in force on a CPU, or undefined when its registers make none. */
  regimeOf(cpu: Cpu): Regime | undefined {
    const vttbr = cpu.registers.get("vttbr_el2");
    const vtcr = cpu.registers.get("vtcr_el2");
    const key = `${vttbr} ${vtcr}`;
    if (!this.regimes.has(key)) this.regimes.set(key, decodeRegime(vttbr, vtcr));
    return this.regimes.get(key);
  }

  // What software does.

  /**
   * HVC by the host on `cpu`, with the arguments in x0 and on; once. A call that the core wants repeated leaves the program
   * counter where it was.
   */
  hvc(cpu: Cpu, ...args: readonly (bigint | number)[]): void {
    requireContext(cpu, "host");
    for (const [n, value] of args.entries()) cpu.x[n] = BigInt.asUintN(64, BigInt(value));
    this.trapFromHost(cpu, syndrome(Class.HVC64), cpu.pc + 4n);
  }

  /** SMC by the host on `cpu`. */
  smcByHost(cpu: Cpu, ...args: readonly (bigint | number)[]): void {
    requireContext(cpu, "host");
    for (const [n, value] of args.entries()) cpu.x[n] = BigInt.asUintN(64, BigInt(value));
    this.trapFromHost(cpu, syndrome(Class.SMC64), cpu.pc);
  }

  /** An instruction of the host that traps with this syndrome. */
  trapFromHost(cpu: Cpu, esr: bigint, elr: bigint, far = 0n, ipa = 0): void {
    requireContext(cpu, "host");
    this.takeException(cpu, esr, elr, far, ipa);
    this.core.frame(cpu.index, "host").set(cpu.x);
    this.resume(cpu, this.enter(cpu, "host_trap", [cpu.index]));
  }

  /** An exception of the guest on `cpu`: `vector` is one of GuestVector. */
  trapFromGuest(cpu: Cpu, vector: number, esr: bigint, elr: bigint, far = 0n, ipa = 0): void {
    requireContext(cpu, "guest");
    this.takeException(cpu, esr, elr, far, ipa);
    this.core.frame(cpu.index, "guest").set(cpu.x);
    this.resume(cpu, this.enter(cpu, "guest_trap", [cpu.index, vector]));
  }

  /**
   * One attempt of whatever runs on `cpu` to access memory: a load, store or fetch at its program counter. Register x0
   * is what is loaded.
   * @returns the value when it is done; "trapped" when it came to the core, with the CPU in whatever state the core left;
   * "own fault" when stage 1 maps nothing there, which is between the software and its own tables
   */
  attempt(cpu: Cpu, access: Access): { readonly value: bigint } | "trapped" | "own fault" {
    const to = this.translate(cpu, access);
    if ("stage1" in to) return "own fault";
    if ("pa" in to) {
      if (!this.memory.has(to.pa)) return { value: 0n };
      const at = to.pa - (to.pa % 8);
      if (access.kind === "write") this.caches.write(at, 8, access.value ?? 0n, to.cacheable);
      return { value: this.caches.read(at, 8, to.cacheable) };
    }
    const esr = abortSyndrome(access.kind, to.fault);
    if (cpu.context === "host") this.trapFromHost(cpu, esr, cpu.pc, access.va, to.ipa);
    else this.trapFromGuest(cpu, GuestVector.TRAP, esr, cpu.pc, access.va, to.ipa);
    return "trapped";
  }

  /** AT S1E1R: the result goes to PAR_EL1. */
  translateStage1(va: bigint): void {
    const cpu = this.current;
    const found = this.stage1Of(cpu, va);
    const par =
      found === undefined
        ? PAR_F | (0x07n << 1n)
        : BigInt(found.ipa - (found.ipa % PAGE_SIZE)) | PAR_ATTRIBUTES;
    cpu.registers.set("par_el1", par);
  }

  /** SMC by the core, with x0..x30 of the frame. */
  smc(frame: BigUint64Array): void {
    const outcome = this.firmware.call(this.current.index, [...frame.subarray(0, 8)]);
    for (const [n, value] of outcome.results.entries()) frame[n] = BigInt.asUintN(64, value);
    if (outcome.starts) this.starting.push({ cpu: outcome.starts.cpu, start: outcome.starts });
    if (outcome.powerOff) this.off = true;
    if (outcome.off?.resume) this.sleeping.set(this.current.index, outcome.off.resume);
    if (outcome.off || outcome.powerOff) throw new PowerLoss("the CPU lost power");
  }

  /** An interrupt wakes a CPU that suspended itself. False when it does not sleep. */
  wake(index: number): boolean {
    const start = this.sleeping.get(index);
    if (start === undefined || this.off) return false;
    this.sleeping.delete(index);
    this.firmware.on[index] = true;
    this.start(index, start);
    return true;
  }

  /**
   * Fails as the CPU would when the core uses SVE on a CPU without it. In streaming mode the registers have another
   * length, and FFR is undefined.
   */
  requireSve(): void {
    const { model, registers } = this.current;
    if (!hasFeature(model, "SVE")) throw new UndefinedInstruction("SVE registers", model.name);
    if ((registers.get("svcr") & 1n) !== 0n)
      throw new UndefinedInstruction("FFR in streaming mode", model.name);
  }

  /** The translation of an access by what runs on `cpu`. */
  private translate(cpu: Cpu, access: Access): Translation {
    const first = this.stage1Of(cpu, access.va);
    if (first === undefined) return { stage1: true };
    const cacheable = access.cacheable ?? true;
    const { ipa } = first;
    const hcr = cpu.registers.get("hcr_el2");
    if ((hcr & HCR_VM) === 0n) return { pa: ipa, cacheable };
    const regime = this.regimeOf(cpu);
    if (regime === undefined) return { fault: { type: "translation", level: 0 }, ipa };
    const found = this.tlbs.translate(cpu.index, regime, ipa, `${first.table} ${hex(access.va >> 12n)}`);
    if ("fault" in found) return { fault: found.fault, ipa };
    const { leaf } = found;
    if (!permits(leaf, access.kind)) return { fault: { type: "permission", level: leaf.level }, ipa };
    const type = memoryType(leaf.memAttr, (hcr & HCR_FWB) !== 0n);
    return { pa: leaf.output + (ipa % leaf.size), cacheable: cacheable && type === "normal" };
  }

  /** Stage 1 on `cpu`: SCTLR_EL1.M and the tables that TTBRn_EL1 names. */
  private stage1Of(cpu: Cpu, va: bigint): { readonly ipa: number; readonly table: number } | undefined {
    const { registers } = cpu;
    if ((registers.get("sctlr_el1") & SCTLR_M) === 0n) {
      return va >> 48n === 0n ? { ipa: Number(va), table: 0 } : undefined;
    }
    const base = registers.get((va & KERNEL_HALF) !== 0n ? "ttbr1_el1" : "ttbr0_el1");
    const table = Number(base & 0xffff_ffff_fffen);
    const ipa = this.stage1.get(table)?.(va);
    return ipa === undefined ? undefined : { ipa, table };
  }

  private takeException(cpu: Cpu, esr: bigint, elr: bigint, far: bigint, ipa: number): void {
    const { registers } = cpu;
    registers.set("esr_el2", esr);
    registers.set("elr_el2", elr);
    registers.set("spsr_el2", cpu.pstate);
    registers.set("far_el2", far);
    // For permission faults HPFAR_EL2 is unknown (Arm ARM D24.2.63).
    const permission = (esr & 0x3cn) === 0x0cn && isAbort(esr);
    registers.set("hpfar_el2", permission ? UNKNOWN : BigInt(Math.floor(ipa / PAGE_SIZE)) << 4n);
  }

  /** Runs an export of the core on `cpu`, and then the CPUs that it started. Returns the export's result. */
  private enter(cpu: Cpu, entry: string, args: readonly number[]): number | undefined {
    const call = this.exports[entry];
    if (call === undefined) throw new Error(`the core has no ${entry}`);
    const interrupted = this.current;
    this.current = cpu;
    this.entries++;
    this.depth++;
    let result: number | undefined;
    try {
      cpu.synchronize();
      this.watch?.enter?.(cpu);
      result = call(...args) ?? 0;
    } catch (error) {
      if (!(error instanceof PowerLoss)) throw this.failure(cpu, entry, error);
      cpu.context = "off";
    } finally {
      this.depth--;
      this.current = interrupted;
    }
    cpu.synchronize();
    this.tlbs.settle(cpu.index);
    if (entry === "boot" || entry === "cpu_on") this.resume(cpu, result);
    return result;
  }

  private failure(cpu: Cpu, entry: string, error: unknown): Error {
    if (error instanceof CoreFailure) return error;
    const lines = wasmLines(error, this.module);
    const where = lines.length > 0 ? `\n    at ${lines.join("\n    at ")}` : "";
    if (error instanceof Halted) {
      const reason = this.core.panic.number("reason");
      const name = [...PanicReason].find(([, value]) => value === reason)?.[0] ?? `reason ${reason}`;
      const panic = new Violation(
        "noPanic",
        `the core panicked: ${name}, detail ${this.core.panic.get("detail")}`,
      );
      return new CoreFailure(cpu.index, entry, panic, where);
    }
    if (
      error instanceof Violation ||
      error instanceof WebAssembly.RuntimeError ||
      error instanceof UndefinedInstruction
    )
      return new CoreFailure(cpu.index, entry, error, where);
    return error instanceof Error ? error : new Error(String(error));
  }

  /** The vectors resume the context that the core names: 0 the host, 1 the guest. */
  private resume(cpu: Cpu, result: number | undefined): void {
    if (result !== undefined) {
      const context = result === RESUME_GUEST ? "guest" : "host";
      const { registers } = cpu;
      const vectors = registers.get("vbar_el2");
      if (vectors !== (context === "guest" ? 1n : 0n))
        throw new Violation("vectorsFitContext", `the ${context} goes on with vectors ${vectors}`);
      cpu.x.set(this.core.frame(cpu.index, context));
      cpu.pc = registers.get("elr_el2");
      cpu.pstate = registers.get("spsr_el2");
      checkReturn(cpu);
      cpu.context = context;
      const regime = this.regimeOf(cpu);
      if (regime) this.tlbs.run(cpu.index, regime);
    }
    this.watch?.leave?.(cpu);
    while (this.depth === 0) {
      const next = this.starting.shift();
      if (next === undefined) break;
      this.start(next.cpu, next.start);
    }
  }

  /** The firmware starts a CPU. */
  private start(index: number, { entry, context }: Start): void {
    const cpu = this.cpu(index);
    const expected = this.core.bootInfo.get("secondaryEntry");
    if (entry !== expected)
      throw new Violation(
        "everyCpuStartsInTheCore",
        `CPU ${index} starts at EL2 at ${hex(entry)}, the host's choice`,
      );
    for (const name of registerNames()) {
      if (
        /_el[12]$/.test(name) &&
        !/^(id_|midr|mpidr|ich_vtr|icc_|pmbidr|trbidr|pmblimitr|trblimitr)/.test(name)
      )
        cpu.registers.set(name, UNKNOWN);
    }
    cpu.x.fill(UNKNOWN);
    cpu.pstate = 0x3c9n;
    this.enter(cpu, "cpu_on", [Number(context)]);
  }

  private fillBootInfo(affinities: readonly bigint[]): void {
    const { options, core, memory, coreBase } = this;
    const corePages = (this.coreEnd - coreBase) / PAGE_SIZE;
    const s2pageBase = coreBase + core.maxVms * 2 * PAGE_SIZE;
    const poolBase = s2pageBase + Math.ceil((memory.pageCount * 8) / PAGE_SIZE) * PAGE_SIZE;
    const room = (coreBase + corePages * PAGE_SIZE - poolBase) / PAGE_SIZE;
    const words: Record<string, number> = {
      cpus: affinities.length,
      ramBase: memory.base,
      ramPages: memory.pageCount,
      coreBase,
      corePages,
      rootsBase: coreBase,
      s2pageBase,
      poolBase,
      poolPages: Math.min(options.poolPages ?? room, room),
      hostEntry: memory.base + 0x8_0000,
      hostDtb: memory.base + 0x10_0000,
      secondaryEntry: coreBase + 0x123_4560,
      privateVms: options.privateVms ? 1 : 0,
      traceExits: 0,
      ...options.bootInfo,
    };
    for (const [name, value] of Object.entries(words)) core.bootInfo.set(name, value);
    for (const [name, value] of Object.entries(options.profile)) core.profile.set(name, value);
    for (const [n, affinity] of affinities.entries()) core.setAffinity(n, affinity);
  }
}

/** MPIDR_EL1 affinity of CPU `n`: clusters of four. */
export function affinityOf(n: number): bigint {
  return (BigInt(Math.floor(n / 4)) << 8n) | BigInt(n % 4);
}

/** A syndrome of this class. */
export function syndrome(kind: number, iss = 0n): bigint {
  return (BigInt(kind) << 26n) | ESR_IL | iss;
}

function isAbort(esr: bigint): boolean {
  const kind = Number((esr >> 26n) & 0x3fn);
  return kind === Class.DATA_ABORT_LOWER || kind === Class.INSTRUCTION_ABORT_LOWER;
}

/** The syndrome of a stage 2 abort: loads and stores are of 64 bits, to or from x0. */
function abortSyndrome(kind: Access["kind"], fault: Fault): bigint {
  const status = BigInt(faultStatus(fault));
  if (kind === "execute") return syndrome(Class.INSTRUCTION_ABORT_LOWER, status);
  const size = 3n << 22n;
  return syndrome(Class.DATA_ABORT_LOWER, ISS_ISV | size | (kind === "write" ? ISS_WNR : 0n) | status);
}

function permits(leaf: Leaf, kind: Access["kind"]): boolean {
  if (kind === "write") return leaf.writable;
  return kind === "read" ? leaf.readable : leaf.executable;
}

function requireContext(cpu: Cpu, context: "host" | "guest"): void {
  if (cpu.context !== context)
    throw new Error(`CPU ${cpu.index} runs the ${cpu.context}, not the ${context}`);
}

/** An exception return to anything but EL0 or EL1 would stay at EL2 (Arm ARM, illegal exception returns). */
function checkReturn(cpu: Cpu): void {
  const mode = Number(cpu.pstate & 0x1fn);
  const aarch32User = mode === 0x10 && hasFeature(cpu.model, "A32_EL0");
  if (mode !== 0 && mode !== 4 && mode !== 5 && !aarch32User)
    throw new Violation("returnsAreLegal", `an exception return to PSTATE ${hex(cpu.pstate)}`);
}

/** Lines of the core's source in the stack of an error that came through it, innermost first. */
function wasmLines(error: unknown, module: CoreModule): string[] {
  const stack = error instanceof Error ? (error.stack ?? "") : "";
  const lines: string[] = [];
  for (const match of stack.matchAll(/at (\S+) \(wasm:[^)]*:0x([0-9a-f]+)\)/g)) {
    lines.push(`${match[1]} (kcore/${module.lineAt(Number.parseInt(match[2] as string, 16)) ?? "?"})`);
  }
  return lines;
}
