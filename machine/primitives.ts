/**
 * The imports of the core, bound to the machine: the counterpart of kcore/native/primitives.h.
 *
 * System registers are bound by name. Everything else is one operation each, and each says to the machine's watch
 * what it does, so that what must hold at that moment can be checked there.
 */
import { type Bytes, FP_IMAGE } from "./cpu.ts";
import type { Machine } from "./machine.ts";
import { hex, PAGE_SIZE } from "./physical.ts";
import { mrs, msr } from "./registers.ts";
import type { Operation } from "./tlb.ts";

/** The core did what it must not do, whatever the host and the guests do. */
export class Violation extends Error {
  readonly rule: string;

  /**
   * @param rule name of the invariant or rule, as in `invariants.ts`
   * @param text what was seen
   */
  constructor(rule: string, text: string) {
    super(`${rule}: ${text}`);
    this.rule = rule;
  }
}

/** Unwinds the core when its CPU loses power in an SMC. */
export class PowerLoss extends Error {}

/** The core called `halt`: it gave up. */
export class Halted extends Error {}

/** An import as WebAssembly calls it. */
type Primitive = (...args: never[]) => unknown;

/**
 * The imports for an instance of `module`.
 * @throws Error when the module imports what no machine has
 */
export function bindImports(
  machine: Machine,
  module: WebAssembly.Module,
): Record<string, Record<string, unknown>> {
  const primitives = makePrimitives(machine);
  const current = () => machine.current.registers;
  const bound: Record<string, unknown> = {};
  let from = "machine";
  for (const { module: namespace, name, kind } of WebAssembly.Module.imports(module)) {
    if (kind !== "function") throw new Error(`the core imports ${name}, a ${kind}`);
    from = namespace;
    const register = name.slice(4);
    if (name in primitives) bound[name] = primitives[name];
    else if (name.startsWith("mrs_")) bound[name] = mrs(register, current);
    else if (name.startsWith("msr_")) bound[name] = msr(register, current);
    else throw new Error(`the core imports ${name}, which this machine does not have`);
  }
  return { [from]: bound };
}

/** An address from the core. Values that are no address become one that no memory has. */
function address(value: bigint): number {
  return Number(BigInt.asUintN(64, value));
}

function makePrimitives(machine: Machine): Record<string, Primitive> {
  const { memory, caches, tlbs } = machine;

  /** The core's own table memory at `pa`. */
  const checkTable = (pa: number, alignment: number) => {
    if (!machine.isCore(pa) || pa % alignment !== 0)
      throw new Violation("tableMemoryIsCore", `a table access at ${hex(pa)}`);
  };
  const table = (pa: number, alignment: number) => {
    checkTable(pa, alignment);
    return memory.pageAt(pa).memory;
  };
  const store = (pa: number, low: number, high: number) => {
    const { halves } = table(pa, 8);
    const at = (pa % PAGE_SIZE) / 4;
    const old = { address: pa, low: halves[at] as number, high: halves[at + 1] as number };
    machine.watch?.tableWrite?.(pa, old, low, high);
    tlbs.store(machine.current.index, pa, old, low, high);
    halves[at] = low;
    halves[at + 1] = high;
    machine.dirtyTables.add(pa - (pa % PAGE_SIZE));
    machine.tableVersion++;
  };

  const owner = (value: bigint) => {
    const index = address(value);
    if (index >= machine.owners.length) throw new Violation("ownerTableInRange", `entry ${hex(index)}`);
    return index;
  };

  const wholePage = (pa: number) => {
    if (pa % PAGE_SIZE !== 0 || !memory.has(pa) || machine.isCore(pa))
      throw new Violation("pageContentsAreRam", `a page operation at ${hex(pa)}`);
    return pa;
  };

  /** Bytes of host memory: EL2 reaches them through the caches. */
  const host: Bytes = {
    read: (at, size) => {
      checkHost(at, size);
      return caches.read(at, size);
    },
    write: (at, size, value) => {
      checkHost(at, size);
      caches.write(at, size, value);
    },
    readByte: (at) => {
      checkHost(at, 1);
      return Number(caches.read(at, 1));
    },
    writeByte: (at, value) => {
      checkHost(at, 1);
      caches.write(at, 1, BigInt(value));
    },
  };
  const checkHost = (pa: number, size: number) => {
    for (const at of [pa, pa + size - 1]) {
      if (!memory.has(at))
        throw new Violation("hostMemoryIsHosts", `access at ${hex(at)}, where there is no RAM`);
      if (machine.ownerOf(at) !== 0)
        throw new Violation("hostMemoryIsHosts", `access at ${hex(at)}, owned by ${machine.ownerOf(at)}`);
    }
    machine.watch?.hostAccess?.(pa, size);
  };
  const linear: Bytes = {
    read: (at, size) =>
      size === 8 ? (machine.core.words[at / 8] as bigint) : BigInt(machine.core.halves[at / 4] as number),
    write: (at, size, value) => {
      if (size === 8) machine.core.words[at / 8] = value;
      else machine.core.halves[at / 4] = Number(value & 0xffff_ffffn);
    },
    readByte: () => 0,
    writeByte: () => {},
  };

  const tlbi = (operation: Operation) => (page?: bigint) => {
    const cpu = machine.current;
    const ipa = page === undefined ? 0 : (address(page) % 2 ** 36) * PAGE_SIZE;
    tlbs.issue(cpu.index, operation, Number(cpu.vttbr >> 48n), ipa);
  };

  return {
    pt_read: (pa: bigint) => table(address(pa), 8).words[(address(pa) % PAGE_SIZE) / 8],
    pt_write: (pa: bigint, descriptor: bigint) => {
      const value = BigInt.asUintN(64, descriptor);
      store(address(pa), Number(value & 0xffff_ffffn), Number(value >> 32n));
    },
    pt_zero: (pa: bigint) => {
      const at = address(pa);
      checkTable(at, PAGE_SIZE);
      machine.watch?.tableZero?.(at);
      const words = memory.touched(at)?.memory.words ?? [];
      for (let i = 0; i < words.length; i++) if (words[i] !== 0n) store(at + 8 * i, 0, 0);
      machine.tableVersion++;
    },

    s2page_read: (index: bigint) => machine.owners[owner(index)],
    s2page_write: (index: bigint, entry: bigint) => {
      const at = owner(index);
      const value = BigInt.asUintN(64, entry);
      machine.watch?.ownerWrite?.(at, machine.owners[at] as bigint, value);
      machine.owners[at] = value;
      machine.ownerVersion++;
    },

    page_zero: (pa: bigint) => {
      const at = wholePage(address(pa));
      machine.watch?.pageZero?.(at);
      caches.zero(at);
    },
    page_clean: (pa: bigint) => {
      const at = wholePage(address(pa));
      machine.watch?.pageClean?.(at);
      caches.clean(at);
    },

    host_read8: (pa: bigint) => host.readByte(address(pa)),
    host_read32: (pa: bigint) => Number(host.read(address(pa), 4)),
    host_read64: (pa: bigint) => host.read(address(pa), 8),
    host_write8: (pa: bigint, value: number) => host.writeByte(address(pa), value & 0xff),
    host_write32: (pa: bigint, value: number) => host.write(address(pa), 4, BigInt(value >>> 0)),
    host_write64: (pa: bigint, value: bigint) => host.write(address(pa), 8, BigInt.asUintN(64, value)),
    host_read_frame: (frame: number, pa: bigint) => {
      for (let n = 0; n < 31; n++) linear.write(frame + 8 * n, 8, host.read(address(pa) + 8 * n, 8));
    },
    host_write_frame: (pa: bigint, frame: number) => {
      for (let n = 0; n < 31; n++) host.write(address(pa) + 8 * n, 8, linear.read(frame + 8 * n, 8));
    },

    fp_save: (image: number) => {
      if (image + FP_IMAGE > machine.core.words.byteLength) throw new RangeError("no room for an FP image");
      machine.current.saveFp(linear, image);
    },
    fp_load: (image: number) => machine.current.loadFp(linear, image),
    fp_save_host: (pa: bigint) => machine.current.saveFp(host, address(pa)),
    fp_load_host: (pa: bigint) => machine.current.loadFp(host, address(pa)),
    sve_save_host: (pa: bigint, fpsr: bigint) => {
      machine.requireSve();
      machine.current.saveSve(host, address(pa), address(fpsr));
    },
    sve_load_host: (pa: bigint, fpsr: bigint) => {
      machine.requireSve();
      machine.current.loadSve(host, address(pa), address(fpsr));
    },

    isb: () => machine.current.synchronize(),
    dsb_nsh: () => tlbs.dsb(machine.current.index, "local", true),
    dsb_ish: () => tlbs.dsb(machine.current.index, "inner", true),
    dsb_ishst: () => tlbs.dsb(machine.current.index, "inner", false),
    tlbi_ipas2e1is: tlbi("ipas2e1is"),
    tlbi_vmalle1is: tlbi("vmalle1is"),
    tlbi_vmalls12e1is: tlbi("vmalls12e1is"),
    tlbi_vmalle1: tlbi("vmalle1"),
    tlbi_alle1is: tlbi("alle1is"),
    ic_iallu: () => {},
    ic_ialluis: () => {},
    psb_csync: () => {},
    tsb_csync: () => {},

    at_s1e1r: (va: bigint) => machine.translateStage1(BigInt.asUintN(64, va)),

    smc: (frame: number) => machine.smc(machine.core.words.subarray(frame / 8, frame / 8 + 31)),
    halt: () => {
      throw new Halted("the core halted");
    },

    // Imports of instrumented variants of the core, see test/variant.ts.
    mutant: () => machine.mutant,
    lock_wanted: (lock: number) => machine.locks?.wanted?.(machine.current.index, lock),
    lock_taken: (lock: number) => machine.locks?.taken?.(machine.current.index, lock),
    lock_freed: (lock: number) => machine.locks?.freed?.(machine.current.index, lock),
  };
}
