/**
 * The state of the machine as the specification sees it, and the words it uses for it.
 *
 * Memories of the machine: `linear` (the core's own), `pt` (table memory, by address[47:3]), `owner` (the owner table, by page of RAM)
 * and `registers`. The others are ghosts: they name what is true of the machine and are changed by the specifications of primitives
 * alone. A page number is address[47:12], 36 bits; a RAM index is a page number less that of the first page of RAM.
 */
import {
  add,
  and,
  apply,
  bor,
  bv,
  type Call,
  type Clause,
  concat,
  eq,
  extract,
  FALSE,
  implies,
  initialState,
  ite,
  lshr,
  Memory,
  type MemoryForm,
  ne,
  not,
  or,
  type State,
  shl,
  sub,
  type Term,
  TRUE,
  uge,
  ule,
  ult,
  variable,
  zext,
} from "../microv/index.ts";
import { field, type Layout } from "./layout.ts";

/** Widths in bits of keys and values, by memory. */
const MEMORIES = {
  linear: [29, 64],
  pt: [45, 64],
  owner: [36, 64],
  registers: [10, 64],
  /** What a table page is used for: see `Use`. */
  use: [36, 10],
  /** Level of a table in its tree, and the first page number of input addresses that it translates. */
  level: [36, 2],
  base: [36, 37],
  /** The entry that links a table, as address[47:3]. */
  parent: [36, 45],
  /** The table at a place in a tree: root, level and base, 8 + 2 + 37 bits. */
  position: [47, 36],
  /** Whether a tree of the host or of a private VM maps an input page: root and page number, 8 + 36 bits. */
  mapped: [44, 1],
  /** Whether the host's tree goes down to an entry of level 3 for an input page. Once it does it stays so. */
  paged: [36, 1],
  /** How many entries of ordinary VMs' trees map a page of RAM, and how often it is pinned. */
  refs: [36, 40],
  pins: [36, 40],
  /** Pages known to be zero, and known to be clean in all caches and not mapped by the host. */
  zeroed: [36, 1],
  cleaned: [36, 1],
  /** The leaf that the host's tables propose for a VM's page, with its level, as it was read last under LOCK_S2PAGE. */
  proposed: [44, 64],
  /** Pages that this CPU may access as host memory without LOCK_S2PAGE, by page number: something it holds pins them. */
  accessible: [36, 1],
  /** Pins that no record accounts for yet, by physical address and size. */
  floating: [128, 8],
  /** vCPU records that this CPU holds, and VMs of which it holds a vCPU or that are otherwise kept alive. */
  vcpuHeld: [10, 1],
  vmHeld: [8, 1],
  /** Place of a vCPU record in its VM's list, counted from the end, and the record at a place: VM slot and place. LOCK_VMS. */
  vcpuRank: [10, 16],
  vcpuAtRank: [24, 10],
  /** Whether a root belongs to a private VM, the owner value of its VM's pages, and whether its VM exists. */
  isPrivate: [8, 1],
  handle: [8, 24],
  alive: [8, 1],
  /** Place of a free table page in the pool's list, counted from its end, and the page at a place. */
  rank: [36, 36],
  atRank: [36, 36],
  /** FP/SIMD images in linear memory, by address: which register file they hold. */
  images: [32, 64],
  /** What a walk of the host's tables has read: see hosttables.ts. */
  trail: [3, 64],
  /** What this CPU has read from host memory, and what it has written there: physical address and value. See dialogue.ts. */
  seen: [128, 1],
  told: [128, 1],
  /** What stage 1 gave for a page of virtual addresses: page numbers, of 52 and 36 bits, the second 0 where it gave none. See dialogue.ts. */
  walked: [88, 1],
  /** What was read last there: by physical address and logarithm of the number of bytes. For a function's own code alone. */
  heard: [66, 64],
} as const;

export type MemoryName = keyof typeof MEMORIES;

/** Words of the state. Width 0 is a Boolean. */
const GHOSTS = {
  vmsHeld: 0,
  rootHeld: 0,
  /** The root whose lock is held, when one is. */
  root: 8,
  hostmapHeld: 0,
  s2pageHeld: 0,
  poolHeld: 0,
  psciHeld: 0,
  /** What the host named last: its pointer to a guest's debug registers, or the slot of a VM. See dialogue.ts. */
  named: 64,
  /** Address of the struct kvm that was sought last, and where `flushRange` last came to. */
  sought: 64,
  flushedTo: 64,
  /** 1, then the VMID of which TLBs were made to forget everything last, stage 1 of the VM's own included. */
  flushedVmid: 9,
  /** What TLBs and instruction caches are made to forget, and what of that a barrier has waited for: see `Forgotten` in flush.ts. */
  forgetting: 10,
  forgot: 10,
  /** The context in which `adjustPc` was last done with. */
  adjusted: 64,
  /** Whether the host got the page that was last sought for it, and the owner that was found last. */
  obtained: 0,
  lastOwner: 64,
  /** Whether the pool had no page left when it was asked last. */
  exhausted: 0,
  /** The TLB entry of `tlbRoot` and `tlbPage`: see `Stale`. */
  stale: 3,
  /** Level of the entry that went stale; whether more than one leaf did. */
  staleLevel: 2,
  staleTable: 0,
  /** Whether writes to memory may be seen after what follows them. */
  unordered: 0,
  /** Whether VTTBR_EL2 may have been written since the last ISB, so that TLB operations may yet act on the VMID before. */
  unsynchronized: 0,
  /** Whether CPTR_EL2 or ZCR_EL2 may have been written since the last ISB, so that FP and SVE instructions may yet act on what was before. */
  fpUnsynchronized: 0,
  /** Whether the control of a profiling or trace buffer was written, and no ISB came since. */
  bufferUnsynchronized: 0,
  /** Whether the profiling buffer, and the trace buffer, may still write what was recorded before it was stopped. */
  profiling: 0,
  tracing: 0,
  /** Whether the machine is starting: nothing runs yet but the core. */
  booting: 0,
} as const;

/** An arbitrary state of a core that has booted. */
export function arbitraryState(): State {
  const memories = Object.fromEntries(
    Object.entries(MEMORIES).map(([name, [key, value]]) => [name, Memory.arbitrary(name, key, value)]),
  );
  const ghosts = Object.fromEntries(
    Object.entries(GHOSTS).map(([name, width]) => [name, variable(name, width)]),
  );
  return initialState(memories, { ...ghosts, booting: FALSE });
}

export const memory = (state: State, name: MemoryName): Memory => state.memories[name] as Memory;
export const read = (state: State, name: MemoryName, key: Term): Term => memory(state, name).read(key);
export const holds = (state: State, name: MemoryName, key: Term): Term =>
  eq(read(state, name, key), bv(1, 1));
export const ghost = (state: State, name: keyof typeof GHOSTS): Term => state.ghosts[name] as Term;

/** Writes `value` at `key`, if `condition`. */
export function write(state: State, name: MemoryName, key: Term, value: Term, condition?: Term): void {
  if (condition !== FALSE) state.memories[name] = memory(state, name).store(key, value, condition);
}

/** Replaces what the memory holds by `value(key, old)` at every key for which `inside` holds, if `condition`. */
export function rewrite(
  state: State,
  name: MemoryName,
  inside: (key: Term) => Term,
  value: (key: Term, old: Term) => Term,
  condition: Term = TRUE,
): void {
  if (condition === FALSE) return;
  state.memories[name] = memory(state, name).rewrite((key, old) =>
    ite(and(condition, inside(key)), value(key, old), old),
  );
}

/** Of a loop: that it changes the memory `name` only at keys for which `at` holds. */
export function only(name: MemoryName, at: (entry: State) => (key: Term) => Term): MemoryForm {
  return {
    open: (_, entry, rest) => {
      const changes = at(entry);
      return memory(entry, name).rewrite((key, old) => ite(changes(key), rest.read(key), old));
    },
  };
}

/** Sets a ghost, if `condition`. */
export function setGhost(state: State, name: keyof typeof GHOSTS, value: Term, condition?: Term): void {
  state.ghosts[name] = condition ? ite(condition, value, ghost(state, name)) : value;
}

/**
 * Ghost code: shows that `memory` holds `value` at `key`, and from then on knows it, so that what follows is about this case alone.
 */
export function known(call: Pick<Call, "state" | "oblige">, name: MemoryName, key: Term, value: Term): void {
  call.oblige(`${name} is what the proof says`, eq(read(call.state, name, key), value));
  write(call.state, name, key, value);
}

/** Starts a proof where no invalidation is under way; the function's contract asks for that with `requireNothingStale`. */
export function nothingStale(state: State): void {
  state.ghosts.stale = Stale.NO;
}

/** The function fails where the pool, asked last, had no page left, and not for want of anything else. */
export function failsExhausted(c: Clause, failed: Term): void {
  c.havocGhost("exhausted");
  c.ensure("it fails only when the pool is empty", implies(failed, ghost(c.state, "exhausted")));
}

/** Demands that FP and SVE instructions act on what CPTR_EL2 and ZCR_EL2 hold, as after an exception (Arm ARM D1.3.1). */
export function requireFpSynchronized(c: Clause): void {
  c.require("FP/SIMD controls are in force", not(ghost(c.before, "fpUnsynchronized")));
}

/** Demands that no invalidation is under way. */
export function requireNothingStale(c: Clause): void {
  c.require("no TLB entry is stale", eq(ghost(c.before, "stale"), Stale.NO));
}

// ------------------------------------------------------------------------------------------------------------------- skolem

/** The CPU that runs, and one arbitrary TLB entry: what is proved of it holds of all. */
export const cpu = variable("cpu", 6);
export const tlbRoot = variable("tlbRoot", 8);
export const tlbPage = variable("tlbPage", 36);
/** An arbitrary page within a block, and an arbitrary entry of a table. */
export const anyOffset = variable("anyOffset", 18);
export const anySlot = variable("anySlot", 9);
export const anyPage = variable("anyPage", 36);

// ------------------------------------------------------------------------------------------------------------ fixed contents

/** A 64-bit word of linear memory that no function changes after boot. */
export function fixed(address: number): Term {
  return apply("linear", 64, bv(address >> 3, 29));
}

/** A word of linear memory in `state`. */
export function word(state: State, address: Term | number): Term {
  const at = typeof address === "number" ? bv(address, 32) : address;
  return read(state, "linear", extract(31, 3, at));
}

/** What boot found and checked, as terms. */
export interface Machine {
  readonly layout: Layout;
  info(name: string): Term;
  core(name: string): Term;
  profile(name: string): Term;
  /** Linear address of this CPU's area. */
  readonly area: Term;
  /** Page number of the first page of RAM, and pages of RAM, 36 bits. */
  readonly ramFirst: Term;
  readonly ramPages: Term;
}

/** Address of the area of CPU `index` (6 bits). */
export const cpuArea = (layout: Layout, index: Term): Term =>
  concat(bv(layout.constant("CPU_AREAS") >> 18, 14), index, bv(0, 12));

export function machineOf(layout: Layout): Machine {
  const at = (area: string, offset: (name: string) => number) => (name: string) =>
    fixed(layout.constant(area) + offset(name));
  const info = at("BOOT_INFO", field.bootInfo);
  return {
    layout,
    info,
    core: at("CORE_STATE", field.core),
    profile: at("PROFILE", field.profile),
    area: cpuArea(layout, cpu),
    ramFirst: extract(47, 12, info("ramBase")),
    ramPages: extract(35, 0, info("ramPages")),
  };
}

/** Address of a field of the VM record of `slot` (8 bits) and of the vCPU record `index` (10 bits). */
export const vmField = (m: Machine, slot: Term, name: string): Term =>
  concat(bv(m.layout.constant("VM_TABLE") >> 15, 17), slot, bv(field.vm(name), 7));
export const vcpuField = (m: Machine, index: Term, name: string): Term =>
  concat(bv(m.layout.constant("VCPU_TABLE") >> 17, 15), index, bv(field.vcpu(name), 7));

// --------------------------------------------------------------------------------------------------------------------- words

export const page = (address: Term): Term => extract(47, 12, address);
export const address = (pageNumber: Term): Term => concat(bv(0, 16), pageNumber, bv(0, 12));
export const isAligned = (address: Term, bits: number): Term =>
  eq(extract(bits - 1, 0, address), bv(0, bits));
export const isPhysical = (address: Term): Term => eq(extract(63, 48, address), bv(0, 16));

/** Whether `size` bytes at `pa`, and the address behind them, are below 2^48. */
export const fitsPhysical = (pa: Term, size: Term): Term => and(isPhysical(pa), isPhysical(add(pa, size)));

/** RAM index of a page number; meaningful when `inRam`. */
export const ramIndex = (m: Machine, pageNumber: Term): Term => sub(pageNumber, m.ramFirst);
export const inRam = (m: Machine, pageNumber: Term): Term => ult(ramIndex(m, pageNumber), m.ramPages);
export const pageAt = (m: Machine, index: Term): Term => add(index, m.ramFirst);

export const OWNER_HOST = bv(0, 24);
export const OWNER_CORE = bv(1, 24);
/** Owner values of VMs are larger. */
export const OWNER_RESERVED = bv(255, 24);
export const ownerOf = (entry: Term): Term => extract(63, 40, entry);
export const payloadOf = (entry: Term): Term => extract(39, 0, entry);
/** Whether page `pageNumber` is RAM and the host's. */
export function isHosts(state: State, m: Machine, pageNumber: Term): Term {
  return and(inRam(m, pageNumber), eq(ownerOf(read(state, "owner", ramIndex(m, pageNumber))), OWNER_HOST));
}

/** Whether page `pageNumber` lies in the core's memory. */
export function isCores(m: Machine, pageNumber: Term): Term {
  const first = page(m.info("coreBase"));
  return ult(sub(pageNumber, first), extract(35, 0, m.info("corePages")));
}

/** What a table page is used for. Values below 256 are roots: the page is part of that root's tree. */
export const Use = {
  FREE: bv(256, 10),
  /** Taken from the pool by this CPU and not linked. */
  TAKEN: bv(257, 10),
  /** No table page, or another CPU's. */
  OTHER: bv(258, 10),
  /** Unlinked from the tree of a root, and not yet given back. */
  detached: (root: Term): Term => concat(bv(2, 2), root),
};
export const inTree = (use: Term): Term => eq(extract(9, 8, use), bv(0, 2));
export const isDetached = (use: Term): Term => eq(extract(9, 8, use), bv(2, 2));
export const rootOf = (use: Term): Term => extract(7, 0, use);
export const tree = (root: Term): Term => concat(bv(0, 2), root);

/** The life of a stale TLB entry: the table was written; walkers see that; stage 2 is invalidated; done; stage 1 is, too. */
export const Stale = {
  NO: bv(0, 3),
  WRITTEN: bv(1, 3),
  VISIBLE: bv(2, 3),
  STAGE2: bv(3, 3),
  STAGE2_DONE: bv(4, 3),
  ALL: bv(5, 3),
};

export const HOST_ROOT = bv(0, 8);

/** Whether this CPU holds the lock of a root. */
export function rootLocked(state: State, root: Term): Term {
  const host = eq(root, HOST_ROOT);
  return ite(
    host,
    ghost(state, "hostmapHeld"),
    and(ghost(state, "rootHeld"), eq(ghost(state, "root"), root)),
  );
}

/** Whether no other CPU reads or writes a table page of this use meanwhile. */
export function isMine(state: State, use: Term): Term {
  return or(
    and(or(inTree(use), isDetached(use)), rootLocked(state, rootOf(use))),
    eq(use, Use.TAKEN),
    and(eq(use, Use.FREE), ghost(state, "poolHeld")),
  );
}

/** Whether a page is no root's and no table page that this CPU holds: the pool may give it out. */
export function isNobodys(state: State, m: Machine, table: Term): Term {
  return and(not(isAnyRoot(m, table)), not(isMine(state, read(state, "use", table))));
}

// -------------------------------------------------------------------------------------------------------------------- entries

export const isValid = (entry: Term): Term => eq(extract(0, 0, entry), bv(1, 1));
export const hasTableBit = (entry: Term): Term => eq(extract(1, 1, entry), bv(1, 1));
/** Whether an entry of `level` is or was a table: retained ones count. */
export const isTableEntry = (entry: Term, level: Term): Term => and(ne(level, bv(3, 2)), hasTableBit(entry));
export const isValidLeaf = (entry: Term, level: Term): Term =>
  and(isValid(entry), not(isTableEntry(entry, level)));
/** A leaf that counts as a use: valid, or a block that is retained. */
export const isCountedLeaf = (entry: Term, level: Term): Term =>
  ite(eq(level, bv(3, 2)), isValid(entry), and(ne(entry, bv(0, 64)), not(hasTableBit(entry))));

/** Bits of a page number below an entry of `level`: 27, 18, 9 or 0. `width` bits. */
export function shift(level: Term, width: number): Term {
  const at = (l: number, rest: Term) => ite(eq(level, bv(l, 2)), bv(27 - 9 * l, width), rest);
  return at(0, at(1, at(2, bv(0, width))));
}

/** `word` without the bits of a page number below an entry of `level`. */
export function prefix(level: Term, word: Term): Term {
  const cut = (bits: number) =>
    bits === 0 ? word : concat(extract(word.width - 1, bits, word), bv(0, bits));
  const at = (l: number, rest: Term) => ite(eq(level, bv(l, 2)), cut(27 - 9 * l), rest);
  return at(0, at(1, at(2, cut(0))));
}

/** First input page of a table of `level`, cut to a multiple of what the whole table translates. */
export function tableStart(level: Term, base: Term): Term {
  const cut = (bits: number) => concat(extract(36, bits, base), bv(0, bits));
  const at = (l: number, rest: Term) => ite(eq(level, bv(l, 2)), cut(36 - 9 * l), rest);
  return at(0, at(1, at(2, cut(9))));
}

/** The key of the entry of `level` (0 to 3) that translates page `x` by the tables of `root`, where the ghosts say that its table stands. */
export function entryKey(state: State, root: Term, level: number, x: Term): Term {
  const at = bv(level, 2);
  const table = read(state, "position", positionKey(root, at, tableStart(at, zext(x, 37))));
  return concat(table, extract(35 - 9 * level, 27 - 9 * level, x));
}

/** A place in table memory: the entry at `key`, and where it stands in its tree. */
export interface Place {
  readonly key: Term;
  readonly table: Term;
  readonly slot: Term;
  readonly use: Term;
  readonly level: Term;
  /** First input page that the entry translates, 37 bits. */
  readonly first: Term;
  readonly entry: Term;
}

export function placeAt(state: State, key: Term): Place {
  const table = extract(44, 9, key);
  const slot = extract(8, 0, key);
  const level = read(state, "level", table);
  const at = (l: number, rest: Term) =>
    ite(eq(level, bv(l, 2)), shl(zext(slot, 37), bv(27 - 9 * l, 37)), rest);
  const offset = at(0, at(1, at(2, zext(slot, 37))));
  return {
    key,
    table,
    slot,
    use: read(state, "use", table),
    level,
    first: bor(read(state, "base", table), offset),
    entry: read(state, "pt", key),
  };
}

/** Whether the entry at `place` translates input page `pageNumber` (36 bits). */
export function covers(place: Pick<Place, "level" | "first">, pageNumber: Term): Term {
  return eq(prefix(place.level, place.first), prefix(place.level, zext(pageNumber, 37)));
}

/** Whether page `x` lies in the memory that a leaf of `level` at `first` maps. */
export function within(level: Term, first: Term, x: Term): Term {
  return eq(prefix(level, first), prefix(level, x));
}

/** `anyOffset`, cut to the pages of a leaf of `level`. */
export function someOffset(level: Term): Term {
  const at = (l: number, rest: Term) =>
    ite(
      eq(level, bv(l, 2)),
      l === 3 ? bv(0, 36) : zext(l === 1 ? anyOffset : extract(8, 0, anyOffset), 36),
      rest,
    );
  return at(1, at(2, bv(0, 36)));
}

export const mappedKey = (root: Term, pageNumber: Term): Term => concat(root, pageNumber);
export const positionKey = (root: Term, level: Term, base: Term): Term => concat(root, level, base);

/** Page number of the first page of a root; the roots start at a multiple of 2 MiB. */
export function rootPage(m: Machine, root: Term): Term {
  return concat(extract(47, 21, m.info("rootsBase")), root, bv(0, 1));
}
/** Whether a page is one of any root's. */
export function isAnyRoot(m: Machine, pageNumber: Term): Term {
  return eq(extract(35, 9, pageNumber), extract(47, 21, m.info("rootsBase")));
}
/** Whether a page is one of the two of a root. */
export function isRootPage(m: Machine, root: Term, pageNumber: Term): Term {
  return eq(extract(35, 1, pageNumber), extract(35, 1, rootPage(m, root)));
}

/** Whether the entries of a root's tree may be retained and are counted: it belongs to an ordinary VM. */
export function isOrdinary(state: State, root: Term): Term {
  return and(ne(root, HOST_ROOT), not(holds(state, "isPrivate", root)));
}

/**
 * The invariant that ties `mapped` to the tables: where an entry of the tree of the host or of a private VM is invalid, the pages that
 * it translates are not mapped, and where it is a leaf, they are.
 */
export function agrees(state: State, key: Term, x: Term): Term {
  const place = placeAt(state, key);
  const root = rootOf(place.use);
  const isMapped = holds(state, "mapped", mappedKey(root, x));
  return implies(
    and(inTree(place.use), not(isOrdinary(state, root)), covers(place, x)),
    and(
      implies(not(isValid(place.entry)), not(isMapped)),
      implies(isValidLeaf(place.entry, place.level), isMapped),
    ),
  );
}

/** The key of the entry at which tables are compared with what a contract says of them. */
export const comparedEntry = variable("any pt", 45);

/** The page of the key at which `mapped` is compared with what a contract says of it. */
export const comparedPage = extract(35, 0, variable("any mapped", 44));

/**
 * The invariant that ties `paged` to the tables: the host's tree is at level 3 for the pages that an entry of level 3, or a table entry
 * of level 2, translates, and is not where an entry above ends the walk.
 */
export function goesDown(state: State, key: Term, x: Term): Term {
  const place = placeAt(state, key);
  const { level, entry } = place;
  const isTable = isTableEntry(entry, level);
  const down = or(eq(level, bv(3, 2)), and(eq(level, bv(2, 2)), isTable));
  return implies(
    and(eq(place.use, tree(HOST_ROOT)), covers(place, x)),
    and(
      implies(down, holds(state, "paged", x)),
      implies(not(or(down, isTable)), not(holds(state, "paged", x))),
    ),
  );
}

/** Level at which a root for `ipaBits` (64 bits) starts. */
export const startLevel = (ipaBits: Term): Term => ite(ult(bv(40, 64), ipaBits), bv(0, 2), bv(1, 2));

// --------------------------------------------------------------------------------------------------------------------- facts

/** What `boot` establishes of the boot tool's information and the state of the core that never changes again. */
export const bootFacts = (m: Machine): Term[] => [...infoFacts(m), ...coreFacts(m, m.core)];

/** What `boot` establishes of the core's own state, given by field. */
export function coreFacts(m: Machine, core: (name: string) => Term): Term[] {
  const bits = core("hostIpaBits");
  const end = add(m.info("ramBase"), shl(m.info("ramPages"), bv(12, 64)));
  return [
    or(...[32, 36, 40, 44, 48].map((n) => eq(bits, bv(n, 64)))),
    ule(core("forceWriteBack"), bv(1, 64)),
    // All of RAM is in the range of the host's tables.
    eq(lshr(sub(end, bv(1, 64)), bits), bv(0, 64)),
  ];
}

/** What the boot tool's information says when `checkBootInfo` accepts it. */
export function infoFacts(m: Machine): Term[] {
  const { info } = m;
  const [ramBase, ramPages] = [info("ramBase"), info("ramPages")];
  const end = (base: Term, pages: Term) => add(base, shl(pages, bv(12, 64)));
  const inCore = (base: Term, pages: Term) => {
    const first = lshr(sub(base, info("coreBase")), bv(12, 64));
    return and(isAligned(base, 12), ult(first, info("corePages")), ule(pages, sub(info("corePages"), first)));
  };
  const rootPages = bv(512, 64);
  const tablePages = lshr(add(ramPages, bv(511, 64)), bv(9, 64));
  return [
    and(uge(info("cpus"), bv(1, 64)), ule(info("cpus"), bv(64, 64))),
    isAligned(ramBase, 12),
    eq(extract(63, 36, ramPages), bv(0, 28)),
    isPhysical(end(ramBase, ramPages)),
    isPhysical(ramBase),
    and(isAligned(info("coreBase"), 21), isAligned(info("corePages"), 9)),
    uge(info("coreBase"), ramBase),
    ule(lshr(sub(info("coreBase"), ramBase), bv(12, 64)), ramPages),
    ule(info("corePages"), sub(ramPages, lshr(sub(info("coreBase"), ramBase), bv(12, 64)))),
    ne(info("rootsBase"), bv(0, 64)),
    isAligned(info("rootsBase"), 21),
    // Follows from what is below, at some length.
    and(...["coreBase", "rootsBase", "s2pageBase", "poolBase"].map((name) => isPhysical(info(name)))),
    not(ult(sub(bv(0, 36), page(info("poolBase"))), extract(35, 0, info("poolPages")))),
    inCore(info("rootsBase"), rootPages),
    inCore(info("s2pageBase"), tablePages),
    inCore(info("poolBase"), info("poolPages")),
    ule(end(info("rootsBase"), rootPages), info("s2pageBase")),
    ule(end(info("s2pageBase"), tablePages), info("poolBase")),
    ule(info("privateVms"), bv(1, 64)),
  ];
}

export { and, eq, implies, not, or };
