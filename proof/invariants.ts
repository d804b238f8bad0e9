/**
 * What holds of the machine whenever no primitive is at work: the invariants of the design, each a fact about one entry.
 *
 * `primitives.ts` proves that every primitive, used as `machine.ts` demands, keeps them, and `boot.ts` that they hold at first. So they
 * may be assumed at any point of the core's code, whatever other CPUs do meanwhile.
 */
import {
  add,
  and,
  bv,
  concat,
  eq,
  extract,
  type Invariant,
  implies,
  ite,
  mul,
  ne,
  not,
  or,
  type State,
  sub,
  type Term,
  uge,
  ugt,
  ule,
  ult,
  zext,
} from "../microv/index.ts";
import { field } from "./layout.ts";
import { frameFits, mayBeLeaf, mayMap, type Registers, vmidOf, vttbrOf } from "./machine.ts";
import { profileInvariant } from "./profile.ts";
import {
  anyPage,
  fitsPhysical,
  ghost,
  goesDown,
  HOST_ROOT,
  hasTableBit,
  holds,
  inRam,
  inTree,
  isAnyRoot,
  isCores,
  isCountedLeaf,
  isDetached,
  isHosts,
  isOrdinary,
  isRootPage,
  isTableEntry,
  isValid,
  isValidLeaf,
  type Machine,
  mappedKey,
  OWNER_CORE,
  OWNER_HOST,
  OWNER_RESERVED,
  ownerOf,
  page,
  pageAt,
  payloadOf,
  placeAt,
  positionKey,
  prefix,
  ramIndex,
  read,
  rootOf,
  rootPage,
  someOffset,
  startLevel,
  tableStart,
  Use,
  vcpuField,
  vmField,
  word,
} from "./state.ts";

/** Level at which a root's tree starts. */
export function rootLevel(state: State, m: Machine, root: Term): Term {
  return read(state, "level", rootPage(m, root));
}

/** What a walk of the tree of `root` finds for input page `x`: 1 for a valid leaf. The walk of the hardware (Arm ARM D8.2). */
export function walkValid(state: State, m: Machine, root: Term, x: Term): Term {
  const start = rootLevel(state, m, root);
  const first = rootPage(m, root);
  const slot0 = concat(first, extract(35, 27, x));
  // Two concatenated tables at level 1 take one more bit of the address.
  const slot1 = concat(extract(35, 1, first), extract(27, 27, x), extract(26, 18, x));
  const at = (key: Term) => read(state, "pt", key);
  const end = (entry: Term) => extract(0, 0, entry);
  const down = (entry: Term, index: Term, rest: (entry: Term) => Term) =>
    ite(and(isValid(entry), hasTableBit(entry)), rest(at(concat(page(entry), index))), end(entry));
  const level2 = (entry: Term) => down(entry, extract(17, 9, x), (e2) => down(e2, extract(8, 0, x), end));
  const fromOne = level2(at(slot1));
  const fromZero = down(at(slot0), extract(26, 18, x), level2);
  return ite(eq(start, bv(0, 2)), fromZero, fromOne);
}

/** A valid or retained table entry links a table one level below that has this entry as its only parent. */
function child(state: State, key: Term): Term {
  const place = placeAt(state, key);
  const { use, level, first, entry } = place;
  const target = page(entry);
  const below = add(level, bv(1, 2));
  return implies(
    and(inTree(use), isTableEntry(entry, level), ne(entry, bv(0, 64))),
    and(
      eq(read(state, "use", target), use),
      eq(read(state, "level", target), below),
      eq(read(state, "base", target), first),
      eq(read(state, "parent", target), key),
      eq(entry, concat(bv(0, 16), target, bv(0, 10), bv(1, 1), extract(0, 0, entry))),
    ),
  );
}

/** An entry that is neither zero nor a table is a leaf of a level that may have one, aligned; only ordinary VMs' are retained. */
function shape(state: State, key: Term): Term {
  const { use, level, entry } = placeAt(state, key);
  const ordinary = isOrdinary(state, rootOf(use));
  const leaf = and(ne(entry, bv(0, 64)), not(isTableEntry(entry, level)));
  const target = page(entry);
  return implies(
    or(inTree(use), isDetached(use)),
    and(
      implies(
        leaf,
        and(
          mayBeLeaf(rootOf(use), level, entry),
          eq(prefix(level, target), target),
          eq(hasTableBit(entry), eq(level, bv(3, 2))),
          or(isValid(entry), and(ordinary, ne(level, bv(3, 2)))),
        ),
      ),
      implies(and(isTableEntry(entry, level), ne(entry, bv(0, 64)), not(isValid(entry))), ordinary),
    ),
  );
}

/** What is counted is counted where it is: the first page that a counted leaf maps has a reference. */
function counted(state: State, m: Machine, key: Term): Term {
  const { use, level, entry } = placeAt(state, key);
  const x = ramIndex(m, page(entry));
  return implies(
    and(or(inTree(use), isDetached(use)), isOrdinary(state, rootOf(use)), isCountedLeaf(entry, level)),
    ne(read(state, "refs", x), bv(0, 40)),
  );
}

/** A leaf of an ordinary VM maps pages of RAM; a private VM's maps its own. */
function leafInRam(state: State, m: Machine, key: Term): Term {
  const { use, level, entry } = placeAt(state, key);
  const root = rootOf(use);
  const leaf = and(ne(entry, bv(0, 64)), not(isTableEntry(entry, level)));
  const last = add(
    page(entry),
    ite(eq(level, bv(3, 2)), bv(0, 36), ite(eq(level, bv(2, 2)), bv(511, 36), bv(0x3ffff, 36))),
  );
  return implies(
    and(or(inTree(use), isDetached(use)), ne(root, HOST_ROOT), leaf),
    and(inRam(m, page(entry)), inRam(m, last), ule(ramIndex(m, page(entry)), ramIndex(m, last))),
  );
}

/**
 * A leaf of the host or of a private VM maps, at each `offset` into it, what its root may map. The second page of a root that starts at
 * level 0 is past all addresses: nothing is said of it.
 */
export function leafOwned(state: State, m: Machine, key: Term, offset: Term): Term {
  const { use, level, first, entry } = placeAt(state, key);
  const root = rootOf(use);
  return implies(
    and(
      inTree(use),
      not(isOrdinary(state, root)),
      isValidLeaf(entry, level),
      eq(extract(36, 36, first), bv(0, 1)),
    ),
    mayMap(state, m, root, first, page(entry), offset),
  );
}

/**
 * Invariant 3 of the design: a VM that maps a page exists; what an ordinary one maps, at each `offset` into a leaf, is the host's and
 * referenced.
 */
export function leafLives(state: State, m: Machine, key: Term, offset: Term): Term {
  const { use, level, entry } = placeAt(state, key);
  const root = rootOf(use);
  const alive = holds(state, "alive", root);
  const some = add(page(entry), offset);
  const isAligned = eq(prefix(level, page(entry)), page(entry));
  const lent = and(isHosts(state, m, some), ne(read(state, "refs", ramIndex(m, some)), bv(0, 40)));
  return and(
    implies(and(inTree(use), ne(root, HOST_ROOT), isValidLeaf(entry, level)), alive),
    implies(
      and(or(inTree(use), isDetached(use)), isOrdinary(state, root), isCountedLeaf(entry, level)),
      and(isAligned, lent),
    ),
  );
}

/** The host's tables go down to a page that is a VM's. */
function given(state: State, m: Machine, index: Term): Term {
  const owner = ownerOf(read(state, "owner", index));
  return implies(
    ult(index, m.ramPages),
    or(eq(owner, OWNER_HOST), eq(owner, OWNER_CORE), holds(state, "paged", pageAt(m, index))),
  );
}

/**
 * Pages that are a VM's are in no other use. They belong to private VMs that exist, at a frame in their range, or to VMs that are gone:
 * no owner is newer than the last VM in its slot.
 */
export function ownedByVm(state: State, m: Machine, index: Term): Term {
  const entry = read(state, "owner", index);
  const owner = ownerOf(entry);
  const root = extract(7, 0, owner);
  const last = read(state, "handle", root);
  const exists = and(holds(state, "alive", root), eq(last, owner));
  return implies(
    and(ult(index, m.ramPages), ugt(owner, OWNER_RESERVED)),
    and(
      ne(root, HOST_ROOT),
      eq(read(state, "refs", index), bv(0, 40)),
      eq(read(state, "pins", index), bv(0, 40)),
      ule(extract(23, 8, owner), extract(23, 8, last)),
      implies(exists, and(holds(state, "isPrivate", root), frameFits(state, m, root, payloadOf(entry)))),
    ),
  );
}

/** The owner value of a VM that exists is no other principal's: it ends in the VM's slot and is past those of the host and the core. */
export function handleNames(state: State, root: Term): Term {
  const handle = read(state, "handle", root);
  return implies(
    holds(state, "alive", root),
    and(eq(extract(7, 0, handle), root), ugt(handle, OWNER_RESERVED)),
  );
}

/** A table below a root is linked by its parent, stands where its ghosts say, and no other table does. */
export function linked(state: State, m: Machine, table: Term): Term {
  const use = read(state, "use", table);
  const root = rootOf(use);
  const level = read(state, "level", table);
  const base = read(state, "base", table);
  const parent = placeAt(state, read(state, "parent", table));
  const isRoot = isRootPage(m, root, table);
  const up = and(
    eq(parent.use, use),
    ne(parent.level, bv(3, 2)),
    eq(add(parent.level, bv(1, 2)), level),
    eq(parent.first, base),
    hasTableBit(parent.entry),
    eq(page(parent.entry), table),
  );
  return implies(
    inTree(use),
    and(or(isRoot, up), eq(read(state, "position", positionKey(root, level, base)), table)),
  );
}

/** A table translates a range of its size, at a multiple of it. */
function aligned(state: State, table: Term): Term {
  const base = read(state, "base", table);
  return implies(inTree(read(state, "use", table)), eq(tableStart(read(state, "level", table), base), base));
}

/** Both pages of a root belong to its tree, at its start, for good. */
export function roots(state: State, m: Machine, table: Term): Term {
  const isRoot = isAnyRoot(m, table);
  const root = extract(8, 1, table);
  const second = extract(0, 0, table);
  const level = read(state, "level", table);
  const start = read(state, "level", rootPage(m, root));
  const base = ite(eq(start, bv(0, 2)), concat(second, bv(0, 36)), concat(bv(0, 9), second, bv(0, 27)));
  return implies(
    isRoot,
    and(
      eq(read(state, "use", table), concat(bv(0, 2), root)),
      or(eq(level, bv(0, 2)), eq(level, bv(1, 2))),
      eq(level, start),
      eq(read(state, "base", table), base),
      implies(eq(root, HOST_ROOT), eq(level, startLevel(m.core("hostIpaBits")))),
    ),
  );
}

/** Table pages lie in the pool, but for roots; so they are the core's. */
function inPool(state: State, m: Machine, table: Term): Term {
  const use = read(state, "use", table);
  const pool = page(m.info("poolBase"));
  const isRoot = isAnyRoot(m, table);
  return or(eq(use, Use.OTHER), isRoot, ult(sub(table, pool), extract(35, 0, m.info("poolPages"))));
}

/** Free pages form a list without repetition, and are zero but for its links. */
export function poolList(state: State, table: Term): Term {
  const rank = read(state, "rank", table);
  const first = read(state, "pt", concat(table, bv(0, 9)));
  const next = page(first);
  return implies(
    eq(read(state, "use", table), Use.FREE),
    and(
      ne(rank, bv(0, 36)),
      eq(read(state, "atRank", rank), table),
      ne(table, bv(0, 36)),
      ite(
        eq(rank, bv(1, 36)),
        eq(first, bv(0, 64)),
        and(
          eq(first, concat(bv(0, 16), next, bv(0, 12))),
          eq(read(state, "use", next), Use.FREE),
          eq(add(read(state, "rank", next), bv(1, 36)), rank),
        ),
      ),
    ),
  );
}

function poolZero(state: State, key: Term): Term {
  return implies(
    and(eq(read(state, "use", extract(44, 9, key)), Use.FREE), ne(extract(8, 0, key), bv(0, 9))),
    eq(read(state, "pt", key), bv(0, 64)),
  );
}

/** `mapped` says what a walk finds. */
export function walked(state: State, m: Machine, key: Term): Term {
  const root = extract(43, 36, key);
  const x = extract(35, 0, key);
  const inside = or(eq(rootLevel(state, m, root), bv(0, 2)), eq(extract(35, 28, x), bv(0, 8)));
  return implies(
    and(not(isOrdinary(state, root)), inside),
    eq(read(state, "mapped", key), walkValid(state, m, root, x)),
  );
}

/** Invariant 1 and 2 of the design: core pages are the core's; the host maps no RAM but its own; held pages are the host's. */
export function owners(state: State, m: Machine, index: Term): Term {
  const x = pageAt(m, index);
  const owner = ownerOf(read(state, "owner", index));
  return implies(
    ult(index, m.ramPages),
    and(
      eq(isCores(m, x), eq(owner, OWNER_CORE)),
      implies(holds(state, "mapped", mappedKey(HOST_ROOT, x)), eq(owner, OWNER_HOST)),
      implies(holds(state, "accessible", x), eq(owner, OWNER_HOST)),
    ),
  );
}

function held(state: State, m: Machine, x: Term): Term {
  return implies(holds(state, "accessible", x), inRam(m, x));
}

/** The use count of a page of the host: references and pins. Holds while LOCK_S2PAGE is free. */
export function countsAgree(state: State, m: Machine, index: Term): Term {
  const entry = read(state, "owner", index);
  return implies(
    and(ult(index, m.ramPages), eq(ownerOf(entry), OWNER_HOST)),
    eq(payloadOf(entry), add(read(state, "refs", index), read(state, "pins", index))),
  );
}

/** What this CPU may access as host memory is pinned by something it holds. Granted and demanded with LOCK_S2PAGE. */
export function heldIsPinned(state: State, m: Machine, index: Term): Term {
  return implies(
    and(ult(index, m.ramPages), holds(state, "accessible", pageAt(m, index))),
    ne(read(state, "pins", index), bv(0, 40)),
  );
}

/**
 * A count holds all that it counts: an entry refers to a page at most once and there are at most 2^39 + 2^18 entries (boot takes no pool
 * of more than 2^30 pages, and there are 512 pages of roots), and records pin a page less often than 2^38 times.
 */
export function countsFit(state: State, index: Term): Term {
  return and(
    ult(read(state, "refs", index), bv(3n << 38n, 40)),
    ult(read(state, "pins", index), bv(1n << 38n, 40)),
  );
}

/** Whether what a VM record says of a root stays: LOCK_VMS or a vCPU of the VM is held. */
export function vmStays(state: State, root: Term): Term {
  return or(ghost(state, "vmsHeld"), holds(state, "vmHeld", root));
}

export { vcpuField, vmField };

/** What the record of VM slot `slot` says. Holds while LOCK_VMS is free. */
export function vmRecord(state: State, m: Machine, slot: Term): Term {
  const at = (name: string) => word(state, vmField(m, slot, name));
  const bits = at("ipaBits");
  const alive = holds(state, "alive", slot);
  return and(
    // Its state changes under LOCK_VMS although a vCPU is held.
    implies(ghost(state, "vmsHeld"), and(eq(alive, ne(at("state"), bv(0, 64))), ule(at("state"), bv(2, 64)))),
    implies(
      alive,
      and(
        ne(slot, bv(0, 8)),
        eq(at("slot"), zext(slot, 64)),
        ne(at("handle"), bv(0, 64)),
        uge(bits, bv(32, 64)),
        ule(bits, m.core("hostIpaBits")),
        eq(rootLevel(state, m, slot), startLevel(bits)),
        eq(at("privateMemory"), zext(read(state, "isPrivate", slot), 64)),
        fitsPhysical(at("kvmPa"), m.profile("kvmSize")),
      ),
    ),
    eq(at("handle"), zext(read(state, "handle", slot), 64)),
    eq(extract(7, 0, at("handle")), ite(eq(at("handle"), bv(0, 64)), bv(0, 8), slot)),
    ult(at("handle"), bv(1 << 24, 64)),
    or(eq(at("handle"), bv(0, 64)), ult(bv(255, 64), at("handle"))),
  );
}

/** Bytes of SVE state for a vector length of `vq` quadwords: z0..z31, p0..p15, FFR. */
export const sveBytes = (vq: Term): Term => mul(vq, bv(32 * 16 + 17 * 2, 64));

/** What vCPU record `index` says of a vCPU that exists. */
export function vcpuRecord(state: State, m: Machine, index: Term): Term {
  const at = (name: string) => word(state, vcpuField(m, index, name));
  const vm = at("vm");
  const slot = extract(14, 7, vm);
  return implies(
    ne(at("hva"), bv(0, 64)),
    and(
      eq(vm, zext(vmField(m, slot, "slot"), 64)),
      holds(state, "alive", slot),
      implies(holds(state, "vcpuHeld", index), holds(state, "vmHeld", slot)),
      ne(slot, bv(0, 8)),
      eq(at("vttbr"), vttbrOf(m, slot)),
      eq(at("vtcr"), word(state, vmField(m, slot, "vtcr"))),
      eq(extract(63, 42, at("hcr")), bv(0, 22)),
      eq(extract(39, 0, at("hcr")), bv(0, 40)),
      ule(at("sveVq"), bv(16, 64)),
      fitsPhysical(at("pa"), m.profile("vcpuSize")),
      implies(ne(at("sveVq"), bv(0, 64)), fitsPhysical(at("svePa"), sveBytes(at("sveVq")))),
    ),
  );
}

/** How many records have been used fits the tables. Holds while LOCK_VMS is free. */
export function tablesFit(state: State, m: Machine): Term {
  const at = (name: string) => word(state, m.layout.constant("CORE_STATE") + field.core(name));
  return and(
    uge(at("vmSlots"), bv(1, 64)),
    ule(at("vmSlots"), bv(256, 64)),
    ule(at("vcpuSlots"), bv(1024, 64)),
  );
}

/** Whether `address` is that of a vCPU record of VM `slot` that exists and stands at place `rank` (16 bits) of its list. */
export function leadsTo(state: State, m: Machine, slot: Term, rank: Term, address: Term): Term {
  const index = extract(16, 7, address);
  return and(
    eq(address, zext(vcpuField(m, index, "lock"), 64)),
    ne(word(state, vcpuField(m, index, "hva")), bv(0, 64)),
    eq(word(state, vcpuField(m, index, "vm")), zext(vmField(m, slot, "slot"), 64)),
    eq(read(state, "vcpuRank", index), rank),
    eq(read(state, "vcpuAtRank", concat(slot, rank)), index),
  );
}

/** The list of a VM's vCPUs starts at the last place; a VM that is torn down has none. Holds while LOCK_VMS is free. */
export function vmList(state: State, m: Machine, slot: Term): Term {
  const at = (name: string) => word(state, vmField(m, slot, name));
  const [first, count] = [at("firstVcpu"), at("vcpus")];
  return implies(
    holds(state, "alive", slot),
    and(
      eq(extract(63, 16, count), bv(0, 48)),
      ite(eq(count, bv(0, 64)), eq(first, bv(0, 64)), leadsTo(state, m, slot, extract(15, 0, count), first)),
      implies(eq(at("state"), bv(2, 64)), eq(count, bv(0, 64))),
    ),
  );
}

/** A list of vCPU records without repetition is no longer than their table (the pigeonhole principle). */
export function listFits(state: State, m: Machine, slot: Term): Term {
  return implies(holds(state, "alive", slot), ule(word(state, vmField(m, slot, "vcpus")), bv(1024, 64)));
}

/** A vCPU that exists stands in its VM's list, at a place of its own; records never used are free. Holds while LOCK_VMS is free. */
export function vcpuListed(state: State, m: Machine, index: Term): Term {
  const at = (name: string) => word(state, vcpuField(m, index, name));
  const slot = extract(14, 7, at("vm"));
  const rank = read(state, "vcpuRank", index);
  const used = word(state, m.layout.constant("CORE_STATE") + field.core("vcpuSlots"));
  return implies(
    ne(at("hva"), bv(0, 64)),
    and(
      ult(zext(index, 64), used),
      ne(rank, bv(0, 16)),
      ule(zext(rank, 64), word(state, vmField(m, slot, "vcpus"))),
      eq(read(state, "vcpuAtRank", concat(slot, rank)), index),
      ite(
        eq(rank, bv(1, 16)),
        eq(at("next"), bv(0, 64)),
        leadsTo(state, m, slot, sub(rank, bv(1, 16)), at("next")),
      ),
    ),
  );
}

/**
 * A VM that exists pins its struct kvm: page `x` of it is the host's and in use. Pins are conserved: each pin of a page floats or is
 * that of a record. Assumed under LOCK_VMS, or while a vCPU of the VM is held, with LOCK_S2PAGE.
 */
export function kvmHeld(state: State, m: Machine, slot: Term, x: Term): Term {
  const kvm = word(state, vmField(m, slot, "kvmPa"));
  const index = ramIndex(m, x);
  const last = page(sub(add(kvm, m.profile("kvmSize")), bv(1, 64)));
  return implies(
    and(
      holds(state, "alive", slot),
      vmStays(state, slot),
      ghost(state, "s2pageHeld"),
      uge(x, page(kvm)),
      ule(x, last),
    ),
    and(
      inRam(m, x),
      eq(ownerOf(read(state, "owner", index)), OWNER_HOST),
      ne(read(state, "pins", index), bv(0, 40)),
    ),
  );
}

/** A free slot's tree is its two root pages, and they are empty: no walk finds anything. */
export function emptyTree(state: State, m: Machine, key: Term): Term {
  const table = extract(44, 9, key);
  const use = read(state, "use", table);
  const root = rootOf(use);
  return implies(
    and(or(inTree(use), isDetached(use)), ne(root, HOST_ROOT), not(holds(state, "alive", root))),
    and(inTree(use), isRootPage(m, root, table), eq(read(state, "pt", key), bv(0, 64))),
  );
}

/** The pool's head, in the core's state. */
export function poolHead(state: State, m: Machine): Term {
  const at = (name: string) => word(state, m.layout.constant("CORE_STATE") + field.core(name));
  const [head, free] = [at("poolHead"), at("poolFree")];
  return and(
    eq(extract(63, 36, free), bv(0, 28)),
    ite(
      eq(free, bv(0, 64)),
      eq(head, bv(0, 64)),
      and(
        eq(head, concat(bv(0, 16), page(head), bv(0, 12))),
        eq(read(state, "use", page(head)), Use.FREE),
        eq(read(state, "rank", page(head)), extract(35, 0, free)),
      ),
    ),
  );
}

/** A list of pool pages without repetition is no longer than the pool (the pigeonhole principle). */
export function poolFits(state: State, m: Machine): Term {
  return ule(word(state, m.layout.constant("CORE_STATE") + field.core("poolFree")), m.info("poolPages"));
}

/** Free pages have places up to the length of the list. */
export function poolRank(state: State, m: Machine, table: Term): Term {
  const free = word(state, m.layout.constant("CORE_STATE") + field.core("poolFree"));
  return implies(
    eq(read(state, "use", table), Use.FREE),
    ule(read(state, "rank", table), extract(35, 0, free)),
  );
}

/** Invariants of lists of records, by name. */
export const LISTS = ["vCPU lists agree", "VM lists agree"] as const;
/** Invariants of records, by name: functions that read no record do without them, for they are called while records change. */
export const RECORDS = ["VM records agree", "vCPU records agree", ...LISTS] as const;

/** The invariants that are instantiated wherever their memory is read, by name. */
export function invariantsOf(m: Machine, registers: Registers): Invariant[] {
  const on = (
    memory: string,
    name: string,
    at: (state: State, m: Machine, key: Term) => Term,
  ): Invariant => ({
    name,
    memory,
    at: (state, key) => at(state, m, key),
  });
  // Records of several words are written by functions, under LOCK_VMS.
  const byFunctions: typeof on = (memory, name, at) => ({ ...on(memory, name, at), byFunctions: true });
  return [
    on("pt", "a table entry links a table of the next level", (state, _, key) => child(state, key)),
    on("pt", "a leaf is well formed", (state, _, key) => shape(state, key)),
    on("pt", "a VM's leaf maps RAM", leafInRam),
    on("pt", "a counted leaf is referenced", counted),
    on("pt", "a free table page is zero", (state, _, key) => poolZero(state, key)),
    on("use", "a table translates an aligned range", (state, _, table) => aligned(state, table)),
    on("use", "roots stay roots", roots),
    on("level", "roots start at their level", roots),
    on("use", "table pages lie in the pool", inPool),
    on("owner", "the host maps and lends only what it owns", owners),
    on("owner", "the host's tables go down to what it gave away", given),
    on("accessible", "what is held in place is RAM", held),
    on("handle", "a VM's owner value names its slot", (state, _, root) => handleNames(state, root)),
    byFunctions("alive", "VM records agree", (state, m, slot) =>
      implies(vmStays(state, slot), vmRecord(state, m, slot)),
    ),
    on("vcpuHeld", "vCPU records agree", (state, m, index) =>
      implies(or(ghost(state, "vmsHeld"), holds(state, "vcpuHeld", index)), vcpuRecord(state, m, index)),
    ),
    byFunctions("vcpuRank", "vCPU lists agree", (state, m, index) =>
      implies(ghost(state, "vmsHeld"), and(vcpuListed(state, m, index), vcpuRecord(state, m, index))),
    ),
    byFunctions("vcpuAtRank", "VM lists agree", (state, m, key) =>
      implies(ghost(state, "vmsHeld"), vmList(state, m, extract(23, 16, key))),
    ),
    profileInvariant(m),
    on("registers", "VTTBR_EL2 names a root and its VMID", (state, m, key) => {
      const value = read(state, "registers", key);
      return implies(eq(key, registers.key("vttbr_el2")), eq(value, vttbrOf(m, vmidOf(value))));
    }),
  ];
}

/** Invariants that are used at chosen keys only, because each instance leads to others. */
export function structureOf(m: Machine): Invariant[] {
  return [
    {
      name: "a table is linked once, at its place",
      memory: "use",
      at: (state, key) => linked(state, m, key),
    },
    {
      name: "a VM that maps a page exists, and what an ordinary VM maps is lent",
      memory: "pt",
      at: (state, key) => leafLives(state, m, key, someOffset(placeAt(state, key).level)),
    },
    {
      name: "a VM's pages are a private VM's, in its range",
      memory: "owner",
      at: (state, key) => ownedByVm(state, m, key),
    },
    {
      name: "what is mapped is what a walk finds",
      memory: "mapped",
      at: (state, key) => walked(state, m, key),
    },
    {
      name: "the tree of a free slot is empty",
      memory: "pt",
      at: (state, key) => emptyTree(state, m, key),
    },
    {
      name: "a leaf maps what its root may map",
      memory: "pt",
      at: (state, key) => leafOwned(state, m, key, someOffset(placeAt(state, key).level)),
    },
    {
      name: "the host's tables go down as far as noted",
      memory: "pt",
      at: (state, key) => goesDown(state, key, anyPage),
    },
  ];
}
