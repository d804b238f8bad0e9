/**
 * Locks, as the rest of the proof sees them: what taking one grants, and what giving one back demands.
 *
 * Other CPUs run meanwhile. Taking a lock therefore gives arbitrary values to everything that this CPU does not hold, and grants the
 * invariants of what it holds now; before that, nothing of it may be read (`linear.ts`, `machine.ts`). Locks are taken in one order only.
 */
import {
  add,
  and,
  bv,
  type Clause,
  type Contract,
  copyState,
  eq,
  extract,
  FALSE,
  implies,
  type LoopContract,
  Memory,
  ne,
  not,
  or,
  type State,
  sub,
  type Term,
  TRUE,
  ule,
  ult,
  zext,
} from "../microv/index.ts";
import {
  countsAgree,
  countsFit,
  heldIsPinned,
  poolFits,
  poolHead,
  poolList,
  poolRank,
  RECORDS,
  sveBytes,
  tablesFit,
  vcpuField,
  vcpuListed,
  vcpuRecord,
  vmField,
  vmList,
  vmRecord,
  vmStays,
} from "./invariants.ts";
import { staysAs, vcpuIndex, vmIndex } from "./linear.ts";
import { noneLent } from "./machine.ts";
import {
  ghost,
  HOST_ROOT,
  holds,
  isAnyRoot,
  isMine,
  type Machine,
  memory,
  only,
  page,
  read,
  requireNothingStale,
  rewrite,
  rootLocked,
  Stale,
  setGhost,
  tlbRoot,
  Use,
  word,
  write,
} from "./state.ts";

/** Numbers of the locks, as in kcore/lock.ts. Smaller ones are roots' locks. */
export const Lock = { VMS: 256, HOSTMAP: 257, S2PAGE: 258, POOL: 259, PSCI: 260 } as const;

type GhostName = Parameters<typeof ghost>[1];

interface Class {
  readonly flag: GhostName;
  readonly is: (lock: Term) => Term;
  /** Locks that may not be held when this one is taken: those that come after it, and itself. */
  readonly before: readonly GhostName[];
}

/** Whether a lock is a root's. Of a slot that is 8 bits wide this is so without further proof. */
const isRoots = (lock: Term): Term => eq(extract(31, 8, lock), bv(0, 24));
const named = (n: number) => (lock: Term) => eq(lock, bv(n, 32));
const CLASSES: readonly Class[] = [
  {
    flag: "vmsHeld",
    is: named(Lock.VMS),
    before: ["vmsHeld", "rootHeld", "hostmapHeld", "s2pageHeld", "poolHeld"],
  },
  {
    flag: "rootHeld",
    is: isRoots,
    before: ["rootHeld", "hostmapHeld", "s2pageHeld", "poolHeld"],
  },
  { flag: "hostmapHeld", is: named(Lock.HOSTMAP), before: ["hostmapHeld", "s2pageHeld", "poolHeld"] },
  { flag: "s2pageHeld", is: named(Lock.S2PAGE), before: ["s2pageHeld", "poolHeld"] },
  { flag: "poolHeld", is: named(Lock.POOL), before: ["poolHeld"] },
  {
    flag: "psciHeld",
    is: named(Lock.PSCI),
    before: ["psciHeld", "vmsHeld", "rootHeld", "hostmapHeld", "s2pageHeld", "poolHeld"],
  },
];

/** Memories that describe table pages, by page. */
const BY_TABLE = ["use", "level", "base", "parent", "rank"] as const;
/** Memories that LOCK_S2PAGE guards. */
const BY_OWNER = ["owner", "refs", "pins", "zeroed", "cleaned", "proposed"] as const;

/** Whether an entry of a memory stays what it is while this CPU holds what it holds in `state`. */
export function stays(m: Machine): (state: State, name: string, key: Term) => Term {
  const linear = staysAs(m);
  return (state, name, key) => {
    switch (name) {
      case "linear":
        return linear(state, key);
      case "pt":
        return isMine(state, read(state, "use", extract(44, 9, key)));
      case "use":
        return or(isAnyRoot(m, key), isMine(state, read(state, "use", key)));
      case "level":
      case "base":
      case "parent": {
        const use = read(state, "use", key);
        const root = extract(8, 1, key);
        const fixed = and(isAnyRoot(m, key), or(eq(root, HOST_ROOT), vmStays(state, root)));
        return or(fixed, and(ne(use, Use.TAKEN), isMine(state, use)));
      }
      case "rank":
        return and(eq(read(state, "use", key), Use.FREE), ghost(state, "poolHeld"));
      case "atRank":
        return ghost(state, "poolHeld");
      case "position":
        return rootLocked(state, extract(46, 39, key));
      case "mapped":
        return rootLocked(state, extract(43, 36, key));
      case "paged":
        return ghost(state, "hostmapHeld");
      case "owner":
      case "refs":
      case "pins":
      case "zeroed":
      case "cleaned":
      case "proposed":
        return ghost(state, "s2pageHeld");
      case "vcpuRank":
      case "vcpuAtRank":
        return ghost(state, "vmsHeld");
      case "isPrivate":
      case "handle":
      case "alive":
        return vmStays(state, key);
      default:
        return TRUE;
    }
  };
}

/** Gives arbitrary values to what others may change, but for memories in `except`. */
export function othersRun(c: Clause, m: Machine, names: readonly string[]): void {
  const before = c.before;
  const keep = stays(m);
  for (const name of names) c.havoc(name, (key) => not(keep(before, name, key)));
  // No other CPU makes a table page this CPU's.
  c.ensureAll("others keep to their own tables", "use", (table, state) =>
    implies(not(isMine(before, read(before, "use", table))), not(isMine(before, read(state, "use", table)))),
  );
}

/**
 * What a loop changes that takes and gives back LOCK_S2PAGE: what this CPU does not hold. With LOCK_VMS held (`vms`) the VMs stay.
 */
export function whileOthersRun(
  m: Machine,
  vms: boolean,
): Pick<LoopContract, "memories"> & { everywhere: NonNullable<LoopContract["everywhere"]> } {
  const keep = stays(m);
  const who = ["isPrivate", "handle", "alive"] as const;
  const names = ["linear", "pt", ...BY_TABLE, "atRank", "position", "mapped", "paged", ...BY_OWNER] as const;
  const chosen = vms ? names : [...names, ...who];
  return {
    everywhere: (now, entry) => ({
      "others keep to their own tables": {
        memory: "use",
        at: (table: Term) =>
          implies(not(isMine(entry, read(entry, "use", table))), not(isMine(now, read(now, "use", table)))),
      },
    }),
    memories: {
      // What is held stays.
      ...Object.fromEntries(
        chosen.map((name) => [name, only(name, (entry) => (key) => not(keep(entry, name, key)))]),
      ),
      ...(vms &&
        Object.fromEntries(
          who.map((name) => [name, (_: State, entry: State) => entry.memories[name] as Memory]),
        )),
    },
  };
}

/** `acquire`. */
function acquire(m: Machine): Contract {
  return {
    function: "lock/acquire",
    without: RECORDS,
    spec(c) {
      const [lock] = c.args as [Term];
      c.require("the lock exists", ult(lock, bv(261, 32)));
      for (const { is, before } of CLASSES) {
        if (is(lock) === FALSE) continue;
        const free = and(...before.map((other) => not(ghost(c.before, other))));
        c.require("locks are taken in order", implies(is(lock), free));
      }
      const slot = extract(7, 0, lock);
      c.require(
        "a VM's tables are locked while it exists, and is kept",
        implies(ult(lock, bv(256, 32)), and(vmStays(c.before, slot), holds(c.before, "alive", slot))),
      );
      const isVms = named(Lock.VMS)(lock);
      const isPool = named(Lock.POOL)(lock);
      const isPsci = named(Lock.PSCI)(lock);
      const narrow = isPool === TRUE || isPsci === TRUE;
      othersRun(
        c,
        m,
        isPsci === TRUE
          ? ["linear"]
          : [
              "linear",
              "pt",
              ...BY_TABLE,
              "atRank",
              ...(narrow ? [] : ["position", "mapped", "paged", ...BY_OWNER, "isPrivate", "handle", "alive"]),
              ...(isVms === FALSE ? [] : ["vcpuRank", "vcpuAtRank"]),
            ],
      );
      const { state } = c;
      for (const { flag, is } of CLASSES) setGhost(state, flag, TRUE, is(lock));
      const isRoot = isRoots(lock);
      setGhost(state, "root", extract(7, 0, lock), isRoot);
      const mine = or(
        and(isRoot, eq(extract(7, 0, lock), tlbRoot)),
        and(named(Lock.HOSTMAP)(lock), eq(tlbRoot, HOST_ROOT)),
      );
      setGhost(state, "stale", Stale.NO, mine);
      if (isPool !== FALSE) c.ensure("the pool's list is whole", implies(isPool, poolHead(state, m)));
      if (isPool !== FALSE) c.ensure("the pool's list fits the pool", implies(isPool, poolFits(state, m)));
      if (isPool !== FALSE)
        c.ensureAll("free pages form a list", "rank", (table, now) =>
          implies(isPool, and(poolRank(now, m, table), poolList(now, table))),
        );
      if (isVms !== FALSE)
        c.ensure("the tables are as long as they say", implies(isVms, tablesFit(state, m)));
      if (isVms !== FALSE) {
        c.ensureAll("VM records agree", "alive", (slot, now) => implies(isVms, vmRecord(now, m, slot)));
        c.ensureAll("vCPU records and lists agree", "vcpuRank", (index, now) =>
          implies(isVms, and(vcpuListed(now, m, index), vcpuRecord(now, m, index))),
        );
        c.ensureAll("VM lists agree", "vcpuAtRank", (key, now) =>
          implies(isVms, vmList(now, m, extract(23, 16, key))),
        );
      }
      const isOwner = named(Lock.S2PAGE)(lock);
      if (isOwner !== FALSE)
        c.ensureAll("counts agree", "owner", (index, now) =>
          implies(isOwner, and(countsAgree(now, m, index), countsFit(now, index))),
        );
      if (isOwner !== FALSE)
        c.ensureAll("what is held in place is pinned", "pins", (index, now) =>
          implies(isOwner, and(heldIsPinned(now, m, index), countsFit(now, index))),
        );
    },
  };
}

/** `release`. */
function release(m: Machine): Contract {
  return {
    function: "lock/release",
    without: RECORDS,
    spec(c) {
      const [lock] = c.args as [Term];
      const { state, before } = c;
      for (const { flag, is } of CLASSES) {
        if (is(lock) === FALSE) continue;
        const own = flag === "rootHeld" ? eq(ghost(before, "root"), extract(7, 0, lock)) : TRUE;
        c.require("only a lock that is held is released", implies(is(lock), and(ghost(before, flag), own)));
      }
      const isRoot = isRoots(lock);
      const mine = or(
        and(isRoot, eq(extract(7, 0, lock), tlbRoot)),
        and(named(Lock.HOSTMAP)(lock), eq(tlbRoot, HOST_ROOT)),
      );
      c.require(
        "no TLB entry is stale when its root's lock is released",
        implies(mine, eq(ghost(before, "stale"), Stale.NO)),
      );
      const isPool = named(Lock.POOL)(lock);
      if (isPool !== FALSE) {
        c.require("the pool's list is whole", implies(isPool, poolHead(before, m)));
        c.requireAll("free pages form a list", "rank", (table) =>
          implies(isPool, and(poolRank(before, m, table), poolList(before, table))),
        );
      }
      const isOwner = named(Lock.S2PAGE)(lock);
      if (isOwner !== FALSE)
        c.require("no TLB holds what an ordinary VM no longer maps", implies(isOwner, noneLent(before)));
      if (isOwner !== FALSE)
        c.requireAll("counts agree", "owner", (index) => implies(isOwner, countsAgree(before, m, index)));
      if (isOwner !== FALSE)
        c.requireAll("what is held in place is pinned", "pins", (index) =>
          implies(isOwner, heldIsPinned(before, m, index)),
        );
      const isVms = named(Lock.VMS)(lock);
      if (isVms !== FALSE) {
        c.require("the tables are as long as they say", implies(isVms, tablesFit(before, m)));
        c.requireAll("VM lists agree", "vcpuAtRank", (key) =>
          implies(isVms, vmList(before, m, extract(23, 16, key))),
        );
        c.requireAll("VM records agree", "alive", (slot) => implies(isVms, vmRecord(before, m, slot)));
        c.requireAll("vCPU records and lists agree", "vcpuRank", (index) =>
          implies(isVms, and(vcpuListed(before, m, index), vcpuRecord(before, m, index))),
        );
      }
      for (const { flag, is } of CLASSES) setGhost(state, flag, FALSE, is(lock));
    },
  };
}

/** Number of pages that `size` bytes at `address` touch, 36 bits. */
export const pagesOf = (address: Term, size: Term): Term =>
  extract(47, 12, add(zext(extract(11, 0, address), 64), size, bv(0xfff, 64)));

/** Whether page `x` is touched by `size` bytes at the physical address `pa`. */
export const touches = (pa: Term, size: Term, x: Term): Term => ult(sub(x, page(pa)), pagesOf(pa, size));

/** Whether holding vCPU record `index` keeps page `x` in place: its struct kvm_vcpu, its SVE state, its struct kvm. */
export function heldPage(state: State, m: Machine, index: Term, x: Term): Term {
  const vcpu = (name: string) => word(state, vcpuField(m, index, name));
  const slot = vmIndex(extract(31, 0, vcpu("vm")));
  const kvm = word(state, vmField(m, slot, "kvmPa"));
  return or(
    touches(vcpu("pa"), m.profile("vcpuSize"), x),
    and(ne(vcpu("sveVq"), bv(0, 64)), touches(vcpu("svePa"), sveBytes(vcpu("sveVq")), x)),
    touches(kvm, m.profile("kvmSize"), x),
  );
}

/**
 * What becomes of the state when this CPU comes to hold vCPU record `index`, if `taken`: what is in it and in its VM's record is what
 * others left, and stays from now on; what they pin is held in place.
 */
export function holdRecord(c: Clause, m: Machine, index: Term, taken: Term): void {
  const { before, state } = c;
  const keep = staysAs(m);
  const inRecord = (key: Term) => eq(extract(28, 4, key), extract(31, 7, vcpuField(m, index, "lock")));
  c.havoc("linear", (key) => and(taken, inRecord(key), not(keep(before, key))));
  write(state, "vcpuHeld", index, bv(1, 1), taken);
  const exists = ne(word(state, vcpuField(m, index, "hva")), bv(0, 64));
  const slot = vmIndex(extract(31, 0, word(state, vcpuField(m, index, "vm"))));
  const wakes = and(taken, exists);
  const fresh = (root: Term) => and(wakes, eq(root, slot), not(vmStays(before, root)));
  const inVm = (key: Term) => eq(extract(28, 4, key), extract(31, 7, vmField(m, slot, "slot")));
  c.havoc("linear", (key) => and(wakes, inVm(key), not(keep(before, key))));
  for (const name of ["isPrivate", "handle", "alive"] as const) c.havoc(name, fresh);
  for (const name of ["level", "base", "parent"] as const)
    c.havoc(name, (table) => and(isAnyRoot(m, table), fresh(extract(8, 1, table))));
  write(state, "vmHeld", slot, bv(1, 1), wakes);
  const now = copyState(state);
  rewrite(
    state,
    "accessible",
    (x) => heldPage(now, m, index, x),
    () => bv(1, 1),
    wakes,
  );
  c.ensure("its record agrees", implies(taken, vcpuRecord(state, m, index)));
  c.ensure("its VM's record agrees", implies(wakes, vmRecord(state, m, slot)));
}

/** `tryAcquire`: takes the try-lock of a vCPU record if it is free. */
function tryAcquire(m: Machine): Contract {
  return {
    function: "lock/tryAcquire",
    without: RECORDS,
    spec(c) {
      const [lock] = c.args as [Term];
      const { before } = c;
      const index = vcpuIndex(lock);
      c.require("it is the lock of a vCPU record", eq(lock, vcpuField(m, index, "lock")));
      const result = c.result(32);
      const taken = eq(result, bv(1, 32));
      c.ensure("it says whether the lock is taken now", ule(result, bv(1, 32)));
      c.ensure("the record was not held", implies(taken, not(holds(before, "vcpuHeld", index))));
      holdRecord(c, m, index, taken);
      return result;
    },
  };
}

/** vCPU record `index` is no longer held, nor what holding it kept in place. */
export function letGo(state: State, m: Machine, index: Term): void {
  const before = copyState(state);
  const exists = ne(word(before, vcpuField(m, index, "hva")), bv(0, 64));
  const slot = vmIndex(extract(31, 0, word(before, vcpuField(m, index, "vm"))));
  write(state, "vcpuHeld", index, bv(0, 1));
  write(state, "vmHeld", slot, bv(0, 1), exists);
  rewrite(
    state,
    "accessible",
    (x) => heldPage(before, m, index, x),
    () => bv(0, 1),
    exists,
  );
}

/** `tryRelease`. */
function tryRelease(m: Machine): Contract {
  return {
    function: "lock/tryRelease",
    without: RECORDS,
    spec(c) {
      const [lock] = c.args as [Term];
      const { before, state } = c;
      const index = vcpuIndex(lock);
      c.require("it is the lock of a vCPU record", eq(lock, vcpuField(m, index, "lock")));
      c.require("the record is held", holds(before, "vcpuHeld", index));
      c.require("its record agrees", vcpuRecord(before, m, index));
      letGo(state, m, index);
    },
  };
}

/** A state as it is when the core is entered: this CPU holds nothing and no invalidation is under way. */
export function holdingNothing(state: State): void {
  for (const { flag } of CLASSES) state.ghosts[flag] = FALSE;
  state.ghosts.stale = Stale.NO;
  for (const name of ["vcpuHeld", "vmHeld", "accessible", "floating"] as const) {
    const old = memory(state, name);
    state.memories[name] = Memory.filled(old.keyWidth, bv(0, old.valueWidth));
  }
}

/** Demands a state as `holdingNothing` makes it. */
export function requireNothingHeld(c: Clause): void {
  requireFree(c, "psciHeld");
  requireNothingStale(c);
  for (const name of ["vcpuHeld", "vmHeld", "accessible"] as const)
    c.requireAll(`no ${name} record or page is held`, name, (key) => not(holds(c.before, name, key)));
  c.requireAll("no pin floats", "floating", (key) => eq(read(c.before, "floating", key), bv(0, 8)));
}

/** What words about roots and invalidation say once a function has let go of every root and no invalidation is under way: nothing. */
export function letsGo(c: Clause): void {
  for (const name of ["root", "staleLevel", "staleTable", "unordered"] as const) c.havocGhost(name);
}

/** Demands that the lock with this flag may be taken: neither it nor one that comes after it is held. */
export function requireFree(c: Clause, flag: GhostName): void {
  const before = CLASSES.find((one) => one.flag === flag)?.before ?? [];
  c.require("its locks may be taken", and(...before.map((other) => not(ghost(c.before, other)))));
  if (flag === "s2pageHeld" || flag === "rootHeld") requireNothingStale(c);
}

/** Starts a proof where the lock with this flag may be taken; the function's contract asks for that with `requireFree`. */
export function lockFree(flag: GhostName): (state: State) => void {
  const before = CLASSES.find((one) => one.flag === flag)?.before ?? [];
  return (state) => {
    for (const other of before) state.ghosts[other] = FALSE;
  };
}

/** Contracts of the locks, for the functions that use them. */
export function lockContracts(m: Machine): Contract[] {
  return [acquire(m), release(m), tryAcquire(m), tryRelease(m)];
}
