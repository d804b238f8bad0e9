/**
 * The compiled core and its state in linear memory, by the names that its sources give: addresses of areas are
 * exports of the module, offsets of fields come from the classes.
 */
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { constantsOf, fieldsOf } from "../kcore/build/structs.ts";
import { buildWasm, LINEAR_MEMORY_SIZE } from "../kcore/build/wasm.ts";
import { lineFinder } from "./lines.ts";

/** The core, ready to be given a machine. */
export interface CoreModule {
  readonly module: WebAssembly.Module;
  readonly sha256: string;
  /** The line of the core's source that byte `offset` of the module comes from, as `file:line`. */
  readonly lineAt: (offset: number) => string | undefined;
}

/** The folder where compiled cores are kept: `COREVISOR_CACHE`, or `.cache/` at the root of the repository. */
export function cacheFolder(): string {
  const chosen = process.env.COREVISOR_CACHE;
  return chosen ? resolve(chosen) : join(dirname(dirname(fileURLToPath(import.meta.url))), ".cache");
}

/**
 * Compiles the core, or takes it from the cache.
 * @throws Error with the compiler's messages when the sources are wrong
 */
export async function loadCore(): Promise<CoreModule> {
  return coreModule(await buildWasm(cacheFolder()));
}

/** A core from its bytes. */
export function coreModule(wasm: {
  readonly bytes: Uint8Array;
  readonly sourceMap: string;
  readonly sha256: string;
}): CoreModule {
  return {
    module: new WebAssembly.Module(wasm.bytes),
    sha256: wasm.sha256,
    lineAt: lineFinder(wasm.sourceMap),
  };
}

/** Fields of the core's classes: byte offsets by name. */
export const layouts = {
  bootInfo: fieldsOf("bootinfo.ts", "BootInfo"),
  coreState: fieldsOf("bootinfo.ts", "CoreState"),
  profile: fieldsOf("profile.ts", "Profile"),
  vm: fieldsOf("records.ts", "Vm"),
  vcpu: fieldsOf("records.ts", "Vcpu"),
  cpu: fieldsOf("percpu.ts", "Cpu"),
  panic: fieldsOf("trace.ts", "PanicRecord"),
} as const;

/** Numbers that the core gives names. */
export const VmState = Object.fromEntries(constantsOf("records.ts", "VmState")) as Record<
  "FREE" | "ACTIVE" | "DYING",
  number
>;
export const Call = Object.fromEntries(constantsOf("hostcall.ts", "Call"));
export const PanicReason = constantsOf("trace.ts", "Panic");

/** BOOT_INFO_MPIDR of bootinfo.ts: affinities follow the fields. */
const MPIDRS = 0x100;

/** One structure of the core's state. */
export class Structure {
  private readonly words: BigUint64Array;
  readonly address: number;
  private readonly fields: ReadonlyMap<string, number>;

  constructor(words: BigUint64Array, address: number, fields: ReadonlyMap<string, number>) {
    this.words = words;
    this.address = address;
    this.fields = fields;
  }

  /** @throws Error when the core's class has no such field */
  get(field: string): bigint {
    return this.words[this.index(field)] as bigint;
  }

  /** The field as a number; exact below 2^53. */
  number(field: string): number {
    return Number(this.words[this.index(field)]);
  }

  set(field: string, value: bigint | number): void {
    this.words[this.index(field)] = BigInt.asUintN(64, BigInt(value));
  }

  private index(field: string): number {
    const offset = this.fields.get(field);
    if (offset === undefined) throw new Error(`the core keeps no ${field} here`);
    return (this.address + offset) / 8;
  }
}

/** The state of an instance of the core. */
export class CoreMemory {
  readonly words: BigUint64Array;
  readonly halves: Uint32Array;
  readonly bootInfo: Structure;
  readonly coreState: Structure;
  readonly profile: Structure;
  readonly panic: Structure;
  readonly maxVms: number;
  readonly maxVcpus: number;
  private readonly constants: Readonly<Record<string, unknown>>;
  private readonly vms: Structure[] = [];
  private readonly vcpus: Structure[] = [];

  constructor(exports: Readonly<Record<string, unknown>>) {
    this.constants = exports;
    const { buffer } = exports.memory as WebAssembly.Memory;
    if (buffer.byteLength !== LINEAR_MEMORY_SIZE)
      throw new Error("the core's memory has another size than it says");
    this.words = new BigUint64Array(buffer);
    this.halves = new Uint32Array(buffer);
    this.bootInfo = this.structure(this.area("BOOT_INFO"), layouts.bootInfo);
    this.coreState = this.structure(this.area("CORE_STATE"), layouts.coreState);
    this.profile = this.structure(this.area("PROFILE"), layouts.profile);
    this.panic = this.structure(this.area("PANIC_RECORD"), layouts.panic);
    this.maxVms = this.area("MAX_VMS");
    this.maxVcpus = this.area("MAX_VCPUS");
  }

  /** The value of an exported constant: an address in linear memory or a number. */
  area(name: string): number {
    const value = this.constants[name];
    if (!(value instanceof WebAssembly.Global)) throw new Error(`the core exports no constant ${name}`);
    return Number(value.value);
  }

  /** The record of VM slot `slot`. */
  vm(slot: number): Structure {
    this.vms[slot] ??= this.structure(this.area("VM_TABLE") + slot * this.area("VM_RECORD_SIZE"), layouts.vm);
    return this.vms[slot];
  }

  /** vCPU record number `index`. */
  vcpu(index: number): Structure {
    this.vcpus[index] ??= this.structure(
      this.area("VCPU_TABLE") + index * this.area("VCPU_RECORD_SIZE"),
      layouts.vcpu,
    );
    return this.vcpus[index];
  }

  /** The per-CPU area of CPU `index`. */
  cpu(index: number): Structure {
    return this.structure(this.cpuArea(index), layouts.cpu);
  }

  /** The 31 words of x0..x30 of the host or of the guest on CPU `index`. */
  frame(index: number, context: "host" | "guest"): BigUint64Array {
    const offset = this.area(context === "host" ? "HOST_FRAME" : "GUEST_FRAME");
    const start = (this.cpuArea(index) + offset) / 8;
    return this.words.subarray(start, start + 31);
  }

  /** Tickets given and served of lock `number`: equal when nobody holds it. */
  lock(number: number): { readonly next: number; readonly serving: number } {
    const at = this.area("LOCKS") / 4 + number * 2;
    return { next: this.halves[at] as number, serving: this.halves[at + 1] as number };
  }

  /** Sets the affinity of CPU `index` in what the boot tool tells the core. */
  setAffinity(index: number, mpidr: bigint): void {
    this.words[(this.area("BOOT_INFO") + MPIDRS) / 8 + index] = mpidr;
  }

  private cpuArea(index: number): number {
    return this.area("CPU_AREAS") + index * this.area("CPU_AREA_SIZE");
  }

  private structure(address: number, fields: ReadonlyMap<string, number>): Structure {
    return new Structure(this.words, address, fields);
  }
}
