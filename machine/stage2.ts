/**
 * Stage 2 translation as hardware does it: 4 KiB granule, VMSAv8-64 without LPA2 (Arm ARM D8.2, D8.3). Written from
 * the architecture and not from the core, so that the two check each other.
 */
import { hex } from "./physical.ts";

/** What VTTBR_EL2 and VTCR_EL2 together say. */
export interface Regime {
  readonly vmid: number;
  /** Address of the first table; concatenated tables follow. */
  readonly root: number;
  /** Bits of input address. */
  readonly inputBits: number;
  readonly startLevel: number;
  /** Tables concatenated at the start level. */
  readonly rootTables: number;
  /** Bits of output address. */
  readonly outputBits: number;
}

/** Why there is no translation; the fault status code is that of the fault type plus the level. */
export type FaultType = "address size" | "translation" | "access flag" | "permission";

export interface Fault {
  readonly type: FaultType;
  readonly level: number;
}

/** A step of a walk: the descriptor at an address, as two halves. */
export interface Step {
  readonly address: number;
  readonly low: number;
  readonly high: number;
}

/** Memory type of a leaf. */
export type MemoryType = "normal" | "normal non-cacheable" | "device" | "reserved";

/** A block or page: what it maps, and how. */
export interface Leaf {
  readonly level: number;
  /** First input address, and bytes. */
  readonly base: number;
  readonly size: number;
  /** First output address. */
  readonly output: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly executable: boolean;
  /** MemAttr[3:0]: what it means depends on HCR_EL2.FWB. */
  readonly memAttr: number;
}

export type Walk =
  | { readonly leaf: Leaf; readonly steps: readonly Step[] }
  | { readonly fault: Fault; readonly steps: readonly Step[] };

const PS_BITS = [32, 36, 40, 42, 44, 48, 52, 52];
const TWO_32 = 2 ** 32;

/** Decodes VTTBR_EL2 and VTCR_EL2. Undefined when hardware would fault at level 0 whatever the address. */
export function decodeRegime(vttbr: bigint, vtcr: bigint): Regime | undefined {
  const inputBits = 64 - Number(vtcr & 63n);
  const sl0 = Number((vtcr >> 6n) & 3n);
  const granule = Number((vtcr >> 14n) & 3n);
  if (sl0 === 3 || granule !== 0 || inputBits > 48 || inputBits < 25) return undefined;
  const startLevel = 2 - sl0;
  const indexBits = inputBits - levelShift(startLevel);
  if (indexBits < 1 || indexBits > 13) return undefined;
  const rootTables = indexBits > 9 ? 2 ** (indexBits - 9) : 1;
  const root = Number(vttbr & 0xffff_ffff_fffen);
  const size = Math.max(rootTables * 4096, 2 ** (indexBits + 3));
  return {
    vmid: Number((vttbr >> 48n) & 0xffffn),
    root: root - (root % size),
    inputBits,
    startLevel,
    rootTables,
    outputBits: PS_BITS[Number((vtcr >> 16n) & 7n)] as number,
  };
}

/** Bits of an address below the index into a table of `level`. */
export function levelShift(level: number): number {
  return 39 - 9 * level;
}

/** Bytes that an entry of a table of `level` translates. */
export function levelSize(level: number): number {
  return 2 ** levelShift(level);
}

/** Output address bits of a descriptor. */
export function descriptorAddress(low: number, high: number): number {
  return (high & 0xffff) * TWO_32 + ((low & 0xffff_f000) >>> 0);
}

export function isValid(low: number): boolean {
  return (low & 1) !== 0;
}

/** True when a descriptor of `level` points to another table. */
export function isTable(low: number, level: number): boolean {
  return level < 3 && (low & 3) === 3;
}

/** Address of the entry for `ipa` in the table of `level` at `table`; roots are given whole. */
export function entryAddress(regime: Regime, table: number, level: number, ipa: number): number {
  const index = Math.floor(ipa / levelSize(level));
  const entries = level === regime.startLevel ? regime.rootTables * 512 : 512;
  return table + (index % entries) * 8;
}

/**
 * Walks the tables for `ipa`.
 * @param read the descriptor at an address, as two halves
 * @param from where to start instead of the root: a table that a CPU remembers, with the steps that led there
 */
export function walk(
  regime: Regime,
  ipa: number,
  read: (address: number) => Step,
  from?: { readonly level: number; readonly table: number; readonly steps: readonly Step[] },
): Walk {
  const steps: Step[] = from ? [...from.steps] : [];
  let level = from?.level ?? regime.startLevel;
  let table = from?.table ?? regime.root;
  if (ipa >= 2 ** regime.inputBits) return { fault: { type: "translation", level: 0 }, steps };
  for (;;) {
    const step = read(entryAddress(regime, table, level, ipa));
    steps.push(step);
    const { low, high } = step;
    if (!isValid(low)) return { fault: { type: "translation", level }, steps };
    const output = descriptorAddress(low, high);
    if (isTable(low, level)) {
      if (output >= 2 ** regime.outputBits) return { fault: { type: "address size", level }, steps };
      table = output;
      level++;
      continue;
    }
    // A page is 0b11 at level 3, a block 0b01 at levels 1 and 2; everything else is reserved.
    if (level === 0 || (level === 3) !== ((low & 2) !== 0))
      return { fault: { type: "translation", level }, steps };
    if (output >= 2 ** regime.outputBits) return { fault: { type: "address size", level }, steps };
    if ((low & (1 << 10)) === 0) return { fault: { type: "access flag", level }, steps };
    return { leaf: decodeLeaf(low, high, level, ipa), steps };
  }
}

/** What a block or page descriptor of `level` says about the region around `ipa`. */
export function decodeLeaf(low: number, high: number, level: number, ipa: number): Leaf {
  const size = levelSize(level);
  const output = descriptorAddress(low, high);
  // XN[1:0] (FEAT_XNX): 00 all may execute, 01 EL0 alone, 10 nobody, 11 EL1 alone.
  const executeNever = (high >>> 21) & 3;
  return {
    level,
    base: ipa - (ipa % size),
    size,
    output: output - (output % size),
    readable: (low & (1 << 6)) !== 0,
    writable: (low & (1 << 7)) !== 0,
    executable: executeNever === 0 || executeNever === 3,
    memAttr: (low >>> 2) & 15,
  };
}

/** Memory type of MemAttr[3:0], with or without HCR_EL2.FWB (Arm ARM D8.6.5, D8.6.6). */
export function memoryType(memAttr: number, forceWriteBack: boolean): MemoryType {
  if (memAttr < 4) return "device";
  if (forceWriteBack) {
    if (memAttr === 6 || memAttr === 7) return "normal";
    return memAttr === 5 ? "normal non-cacheable" : "reserved";
  }
  const [outer, inner] = [memAttr >> 2, memAttr & 3];
  if (inner === 0) return "reserved";
  return outer === 1 && inner === 1 ? "normal non-cacheable" : "normal";
}

/** Status code of a fault in ESR_EL2 (Arm ARM, ISS encoding for aborts). */
export function faultStatus({ type, level }: Fault): number {
  const base = { "address size": 0x00, translation: 0x04, "access flag": 0x08, permission: 0x0c }[type];
  return base | level;
}

/** A walk's end in words, for messages. */
export function describeWalk(result: Walk): string {
  if ("fault" in result) return `${result.fault.type} fault at level ${result.fault.level}`;
  const { leaf } = result;
  return `${hex(leaf.base)} to ${hex(leaf.output)} at level ${leaf.level}`;
}
