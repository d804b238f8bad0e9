/**
 * The specification of the machine: what each primitive of `kcore/machine.ts` does, and what it may only be asked to do.
 *
 * The demands are the security policy. They are made where hardware is touched, so that no path of the core gets around them:
 * a table entry that would show a principal what is not its own, an owner that changes while somebody still maps the page, a page that
 * goes to the host unscrubbed, a write to what another CPU may be writing, each is an obligation that fails. `invariants.ts` proves
 * that primitives used as demanded keep the invariants.
 */
import {
  add,
  and,
  bor,
  bv,
  type Call,
  type CallModel,
  type Clause,
  concat,
  eq,
  extract,
  FALSE,
  implies,
  ite,
  type Module,
  ne,
  not,
  or,
  type State,
  sub,
  type Term,
  TRUE,
  uge,
  ugt,
  ule,
  ult,
  zext,
} from "../microv/index.ts";
import { BUFFER_CONTROLS, FP_CONTROLS, sees, tells, walks } from "./dialogue.ts";
import { bootFields, isOwnArea } from "./linear.ts";
import { areaField } from "./percpu.ts";
import {
  agrees,
  anySlot,
  comparedPage,
  covers,
  cpuArea,
  ghost,
  HOST_ROOT,
  hasTableBit,
  holds,
  inRam,
  inTree,
  isAligned,
  isCores,
  isCountedLeaf,
  isDetached,
  isHosts,
  isMine,
  isOrdinary,
  isPhysical,
  isTableEntry,
  isValid,
  isValidLeaf,
  type Machine,
  mappedKey,
  memory,
  OWNER_CORE,
  OWNER_HOST,
  OWNER_RESERVED,
  ownerOf,
  type Place,
  page,
  pageAt,
  payloadOf,
  placeAt,
  positionKey,
  prefix,
  ramIndex,
  read,
  rewrite,
  rootLocked,
  rootOf,
  rootPage,
  Stale,
  setGhost,
  someOffset,
  tlbPage,
  tlbRoot,
  Use,
  vmField,
  within,
  word,
  write,
} from "./state.ts";

const ONE = bv(1, 1);
const ZERO = bv(0, 1);

// -------------------------------------------------------------------------------------------------------------- table memory

/** Demands that `pa` is the address of an entry. */
function entryAddress({ oblige }: Pick<Call, "oblige">, pa: Term): void {
  oblige("a table entry is addressed by a multiple of 8 below 2^48", and(isAligned(pa, 3), isPhysical(pa)));
}

/** What a valid leaf of `level` that translates input pages from `first` on may be, in the tree of `root`. */
export function leafAllowed(
  state: State,
  m: Machine,
  root: Term,
  level: Term,
  first: Term,
  entry: Term,
): Term {
  const target = page(entry);
  return and(
    ghost(state, "s2pageHeld"),
    isValid(entry),
    or(eq(root, HOST_ROOT), holds(state, "alive", root)),
    mayBeLeaf(root, level, entry),
    eq(prefix(level, target), target),
    eq(hasTableBit(entry), eq(level, bv(3, 2))),
    mayMap(state, m, root, first, target, someOffset(level)),
  );
}

/** Whether a leaf may stand at `level`: the host's down from level 1, a VM's from level 2. Its access flag is set, so it is not zero when invalid. */
export function mayBeLeaf(root: Term, level: Term, entry: Term): Term {
  const low = or(eq(root, HOST_ROOT), ne(level, bv(1, 2)));
  return and(ne(level, bv(0, 2)), low, eq(extract(10, 10, entry), ONE));
}

/** Whether `root` may map, at `offset` pages from input page `first` on, the page that far from `target`. */
export function mayMap(state: State, m: Machine, root: Term, first: Term, target: Term, offset: Term): Term {
  const some = add(target, offset);
  const owned = read(state, "owner", ramIndex(m, some));
  const identity = eq(zext(target, 37), first);
  const own = and(
    inRam(m, some),
    eq(ownerOf(owned), read(state, "handle", root)),
    ugt(ownerOf(owned), OWNER_RESERVED),
    eq(payloadOf(owned), zext(add(extract(35, 0, first), offset), 40)),
  );
  return ite(
    eq(root, HOST_ROOT),
    and(identity, implies(inRam(m, some), isHosts(state, m, some))),
    ite(holds(state, "isPrivate", root), own, isHosts(state, m, some)),
  );
}

/** Ghost: the TLB may hold what an entry said that is no longer there. */
export function goesStale(state: State, place: Place, condition: Term): void {
  const hit = and(condition, eq(rootOf(place.use), tlbRoot), covers(place, tlbPage));
  const again = ne(ghost(state, "stale"), Stale.NO);
  const many = or(
    isTableEntry(place.entry, place.level),
    and(again, or(ghost(state, "staleTable"), ne(ghost(state, "staleLevel"), place.level))),
  );
  setGhost(state, "staleTable", many, hit);
  setGhost(state, "staleLevel", place.level, hit);
  setGhost(state, "stale", Stale.WRITTEN, hit);
}

/** Ghost: the references of `entry`, a leaf of `level`, come or go. */
function refer(state: State, m: Machine, level: Term, entry: Term, condition: Term, change: Term): void {
  rewrite(
    state,
    "refs",
    (x) => within(level, page(entry), pageAt(m, x)),
    (_, old) => add(old, change),
    condition,
  );
}

/** Lets a contract do what a primitive does: its callers owe what the primitive demands. */
export function perform(
  c: Clause,
  primitive: (call: Pick<Call, "state" | "args" | "oblige" | "assume">) => void,
  ...args: Term[]
): void {
  primitive({
    state: c.state,
    args,
    oblige: (name, fact) => c.require(name, fact),
    assume: (fact) => c.ensure("the invariants hold", fact),
  });
}

/** `pt_write`. */
export function ptWrite(m: Machine): (call: Pick<Call, "state" | "args" | "oblige" | "assume">) => void {
  return (call) => {
    const { state, oblige } = call;
    const [pa, value] = call.args as [Term, Term];
    entryAddress(call, pa);
    const place = placeAt(state, extract(47, 3, pa));
    call.assume(agrees(state, place.key, comparedPage));
    const { key, use, level, first, entry: old } = place;
    const root = rootOf(use);
    const live = inTree(use);
    const child = page(value);
    const oldChild = page(old);
    const below = add(level, bv(1, 2));
    const valid = isValid(value);
    const changes = ne(value, old);
    const ordinary = isOrdinary(state, root);
    const relink = and(
      isTableEntry(old, level),
      not(isValid(old)),
      eq(concat(extract(63, 1, old), ONE), value),
    );
    const link = and(live, valid, isTableEntry(value, level), changes);
    const fresh = and(link, not(relink));
    const leaf = and(live, isValidLeaf(value, level), changes);
    const retains = and(live, not(valid), ne(value, bv(0, 64)));
    const unlink = and(live, eq(value, bv(0, 64)), isTableEntry(old, level), ne(old, bv(0, 64)));
    const childEntry = read(state, "pt", concat(child, anySlot));

    oblige("a table entry is written under its root's lock", isMine(state, use));
    oblige(
      "a valid entry is replaced by an invalid one only",
      implies(and(live, isValid(old)), or(not(valid), not(changes))),
    );
    const cached = and(eq(root, tlbRoot), covers(place, tlbPage), ne(ghost(state, "stale"), Stale.NO));
    oblige("an entry is gone from every TLB before another is made", implies(or(link, leaf), not(cached)));
    oblige(
      "what an entry points to is written before the entry",
      implies(or(link, leaf), not(ghost(state, "unordered"))),
    );
    oblige(
      "a table is linked once, fresh from the pool",
      implies(fresh, and(eq(read(state, "use", child), Use.TAKEN), eq(old, bv(0, 64)))),
    );
    oblige(
      "a table is linked only for the host or a VM that exists",
      implies(fresh, or(eq(root, HOST_ROOT), holds(state, "alive", root))),
    );
    oblige(
      "a table entry holds an address and nothing else",
      implies(link, eq(value, concat(bv(0, 16), child, bv(3, 12)))),
    );
    const childPlace = { level: below, first: shifted(first, below) };
    oblige(
      "a table that is linked maps nothing, or what its root may map",
      implies(
        fresh,
        or(
          eq(childEntry, bv(0, 64)),
          leafAllowed(state, m, root, childPlace.level, childPlace.first, childEntry),
        ),
      ),
    );
    oblige(
      "a leaf of an ordinary VM is counted where it is linked",
      implies(and(fresh, ordinary), eq(childEntry, bv(0, 64))),
    );
    oblige(
      "a leaf maps what its root may map",
      implies(leaf, leafAllowed(state, m, root, level, first, value)),
    );
    oblige(
      "only an ordinary VM's entries are retained, and only as they were",
      implies(retains, and(ordinary, ne(level, bv(3, 2)), eq(concat(extract(63, 1, old), ZERO), value))),
    );
    oblige(
      "a table is unlinked only from a VM's tree, and only when no table is below",
      implies(
        unlink,
        and(
          ne(root, HOST_ROOT),
          or(eq(level, bv(2, 2)), eq(read(state, "pt", concat(oldChild, anySlot)), bv(0, 64))),
        ),
      ),
    );
    oblige(
      "a leaf takes no retained table's place",
      implies(leaf, or(eq(old, bv(0, 64)), not(isTableEntry(old, level)))),
    );
    oblige("an unlinked table is only emptied", implies(isDetached(use), eq(value, bv(0, 64))));
    oblige(
      "a free table page holds its link and nothing else",
      implies(eq(use, Use.FREE), or(eq(value, bv(0, 64)), eq(extract(8, 0, key), bv(0, 9)))),
    );
    oblige(
      "a table page that is not linked holds no table",
      implies(eq(use, Use.TAKEN), or(eq(value, bv(0, 64)), isValid(value))),
    );

    goesStale(state, place, and(live, isValid(old), changes));
    const counts = and(or(live, isDetached(use)), ordinary, changes);
    const [lost, gained] = [old, value].map((entry) => and(counts, isCountedLeaf(entry, level))) as [
      Term,
      Term,
    ];
    oblige(
      "references come and go under LOCK_S2PAGE",
      implies(and(or(lost, gained), not(retains)), ghost(state, "s2pageHeld")),
    );
    refer(state, m, level, old, lost, bv(-1, 40));
    refer(state, m, level, value, gained, bv(1, 40));
    const table = memory(state, "pt");
    const exact = and(live, not(ordinary), changes);
    rewrite(
      state,
      "mapped",
      (k) => and(eq(extract(43, 36, k), root), covers(place, extract(35, 0, k))),
      (k) => {
        const through = concat(child, below3(level, extract(35, 0, k)));
        return ite(isTableEntry(value, level), extract(0, 0, table.read(through)), extract(0, 0, value));
      },
      exact,
    );
    rewrite(
      state,
      "paged",
      (x) => covers(place, x),
      () => ONE,
      and(fresh, eq(root, HOST_ROOT), eq(level, bv(2, 2))),
    );
    write(state, "use", child, use, fresh);
    write(state, "level", child, below, fresh);
    write(state, "base", child, first, fresh);
    write(state, "parent", child, key, fresh);
    write(state, "position", positionKey(root, below, first), child, fresh);
    write(state, "use", oldChild, Use.detached(root), unlink);
    setGhost(state, "unordered", TRUE, or(eq(use, Use.TAKEN), eq(use, Use.FREE)));
    write(state, "pt", key, value);
  };
}

/** First page of entry `anySlot` in a table whose first page is `first` and whose entries are of `level`. */
function shifted(first: Term, level: Term): Term {
  const step = (bits: number) => concat(bv(0, 28 - bits), anySlot, ...(bits === 0 ? [] : [bv(0, bits)]));
  const offset = ite(eq(level, bv(1, 2)), step(18), ite(eq(level, bv(2, 2)), step(9), step(0)));
  return bor(first, offset);
}

/** Index of input page `x` in the table below an entry of `level`. */
function below3(level: Term, x: Term): Term {
  return ite(
    eq(level, bv(0, 2)),
    extract(26, 18, x),
    ite(eq(level, bv(1, 2)), extract(17, 9, x), extract(8, 0, x)),
  );
}

function ptZero(): CallModel {
  return (call) => {
    const { state, oblige } = call;
    const [pa] = call.args as [Term];
    oblige(
      "a table page is addressed by a multiple of 4096 below 2^48",
      and(isAligned(pa, 12), isPhysical(pa)),
    );
    const table = page(pa);
    const use = read(state, "use", table);
    const place = placeAt(state, concat(table, anySlot));
    const root = rootOf(use);
    const starting = ghost(state, "booting");
    oblige(
      "a table page is emptied under its root's lock",
      or(starting, isMine(state, use), eq(use, Use.TAKEN)),
    );
    oblige(
      "only a table of pages is emptied at once",
      or(starting, implies(inTree(use), eq(place.level, bv(3, 2)))),
    );
    oblige(
      "every leaf of an ordinary VM is counted down before it goes",
      or(
        starting,
        implies(and(or(inTree(use), isDetached(use)), isOrdinary(state, root)), eq(place.entry, bv(0, 64))),
      ),
    );
    const live = and(not(starting), inTree(use));
    const entry = read(state, "pt", concat(table, extract(8, 0, tlbPage)));
    const base = read(state, "base", table);
    const spans = eq(extract(36, 9, base), concat(ZERO, extract(35, 9, tlbPage)));
    const hit = and(live, eq(root, tlbRoot), spans, isValid(entry));
    setGhost(state, "staleTable", ne(ghost(state, "stale"), Stale.NO), hit);
    setGhost(state, "staleLevel", bv(3, 2), hit);
    setGhost(state, "stale", Stale.WRITTEN, hit);
    rewrite(
      state,
      "mapped",
      (k) => and(eq(extract(43, 36, k), root), eq(concat(ZERO, extract(35, 9, k)), extract(36, 9, base))),
      () => ZERO,
      live,
    );
    rewrite(
      state,
      "pt",
      (k) => eq(extract(44, 9, k), table),
      () => bv(0, 64),
    );
    setGhost(state, "unordered", TRUE);
  };
}

// --------------------------------------------------------------------------------------------------------------- owner table

function ownerIndex(call: Call, m: Machine): Term {
  const index = call.args[0] as Term;
  call.oblige("the owner table is indexed by a page of RAM", ult(index, m.info("ramPages")));
  return extract(35, 0, index);
}

/**
 * Whether no TLB entry of an ordinary VM is stale. A page's references go when its entries do; so TLBs must have forgotten it before it can
 * be donated, by this CPU or, when LOCK_S2PAGE is given back, by another.
 */
export function noneLent(state: State): Term {
  return or(eq(ghost(state, "stale"), Stale.NO), not(isOrdinary(state, tlbRoot)));
}

function s2pageWrite(m: Machine): CallModel {
  return (call) => {
    const { state, oblige } = call;
    const value = call.args[1] as Term;
    const index = ownerIndex(call, m);
    const x = pageAt(m, index);
    const old = read(state, "owner", index);
    const starting = ghost(state, "booting");
    const [from, to] = [ownerOf(old), ownerOf(value)];
    const changes = ne(from, to);
    const fromHost = and(changes, eq(from, OWNER_HOST));
    const toHost = and(changes, eq(to, OWNER_HOST));
    const demand = (name: string, fact: Term) => oblige(name, or(starting, fact));
    demand("an owner is written under LOCK_S2PAGE", ghost(state, "s2pageHeld"));
    demand(
      "the core's pages stay the core's, and no others become so",
      and(not(isCores(m, x)), ne(to, OWNER_CORE)),
    );
    demand("an owner changes under LOCK_HOSTMAP", implies(changes, ghost(state, "hostmapHeld")));
    demand("a page goes from the host to a VM or back", implies(changes, or(fromHost, toHost)));
    const unused = (count: Term) => eq(count, bv(0, 40));
    demand(
      "a page in use is not donated",
      implies(
        fromHost,
        and(unused(payloadOf(old)), unused(read(state, "refs", index)), unused(read(state, "pins", index))),
      ),
    );
    demand("no TLB may hold a donated page for an ordinary VM", implies(fromHost, noneLent(state)));
    demand(
      "a donated page is not mapped by the host",
      implies(fromHost, not(holds(state, "mapped", mappedKey(HOST_ROOT, x)))),
    );
    const cached = (root: Term, ipa: Term) =>
      and(eq(tlbRoot, root), eq(tlbPage, ipa), ne(ghost(state, "stale"), Stale.NO));
    // So an empty entry above level 3 says that every page which it translates is the host's, or the core's.
    demand("the host's tables go down to a donated page", implies(fromHost, holds(state, "paged", x)));
    demand("no TLB holds a donated page for the host", implies(fromHost, not(cached(HOST_ROOT, x))));
    demand(
      "a page is clean in all caches when it changes owner",
      implies(changes, holds(state, "cleaned", x)),
    );
    const newRoot = extract(7, 0, to);
    demand(
      "a page is donated to the private VM whose lock is held",
      implies(
        fromHost,
        and(
          ne(newRoot, HOST_ROOT),
          rootLocked(state, newRoot),
          holds(state, "isPrivate", newRoot),
          eq(to, read(state, "handle", newRoot)),
          ugt(to, OWNER_RESERVED),
        ),
      ),
    );
    demand(
      "a page is donated at a guest frame in the VM's range",
      implies(fromHost, frameFits(state, m, newRoot, payloadOf(value))),
    );
    // A page that is taken from a private VM takes its data with it: the VM must not run on with another in its place.
    const isBroken = (root: Term) => ne(word(state, vmField(m, root, "broken")), bv(0, 64));
    demand("a VM that lost a page is given no more", implies(fromHost, not(isBroken(newRoot))));
    demand("a page returns to the host zeroed", implies(toHost, holds(state, "zeroed", x)));
    demand("a page returns to the host unused", implies(toHost, eq(payloadOf(value), bv(0, 40))));
    const oldRoot = extract(7, 0, from);
    const frame = extract(35, 0, payloadOf(old));
    const exists = and(holds(state, "alive", oldRoot), eq(read(state, "handle", oldRoot), from));
    demand("a page returns to the host only from a VM", implies(toHost, ugt(from, OWNER_RESERVED)));
    demand("a VM that loses a page is broken", implies(and(toHost, exists), isBroken(oldRoot)));
    demand(
      "nobody maps a page that returns to the host",
      implies(
        and(toHost, exists),
        and(rootLocked(state, oldRoot), not(holds(state, "mapped", mappedKey(oldRoot, frame)))),
      ),
    );
    demand("no TLB holds a page that returns to the host", implies(toHost, not(cached(oldRoot, frame))));
    demand(
      "a private page keeps its guest frame",
      implies(and(not(changes), ne(from, OWNER_HOST)), eq(value, old)),
    );
    write(state, "owner", index, value);
  };
}

/** Whether a guest frame, 40 bits, is in the range of a root, which may have two concatenated tables at level 1. */
export function frameFits(state: State, m: Machine, root: Term, frame: Term): Term {
  const wide = eq(read(state, "level", rootPage(m, root)), bv(0, 2));
  return and(eq(extract(39, 36, frame), bv(0, 4)), or(wide, eq(extract(35, 28, frame), bv(0, 8))));
}

// --------------------------------------------------------------------------------------------------------------- page contents

function ramPage(call: Call, m: Machine): Term {
  const [pa] = call.args as [Term];
  call.oblige(
    "a page is addressed by a multiple of 4096 in RAM",
    and(isAligned(pa, 12), isPhysical(pa), inRam(m, page(pa))),
  );
  return page(pa);
}

function pageZero(m: Machine): CallModel {
  return (call) => {
    const { state, oblige } = call;
    const x = ramPage(call, m);
    const entry = read(state, "owner", ramIndex(m, x));
    const owner = ownerOf(entry);
    const root = extract(7, 0, owner);
    const frame = extract(35, 0, payloadOf(entry));
    const exists = and(holds(state, "alive", root), eq(read(state, "handle", root), owner));
    const stillMapped = and(
      exists,
      or(not(rootLocked(state, root)), holds(state, "mapped", mappedKey(root, frame))),
    );
    const stillCached = and(eq(tlbRoot, root), eq(tlbPage, frame), ne(ghost(state, "stale"), Stale.NO));
    oblige(
      "only a VM's page is zeroed, under LOCK_S2PAGE",
      and(ghost(state, "s2pageHeld"), ugt(owner, OWNER_RESERVED)),
    );
    oblige("a page is zeroed when nobody can write to it any more", and(not(stillMapped), not(stillCached)));
    write(state, "zeroed", x, ONE);
    write(state, "cleaned", x, ZERO);
    setGhost(state, "unordered", TRUE);
  };
}

function pageClean(m: Machine): CallModel {
  return (call) => {
    const { state, oblige } = call;
    const x = ramPage(call, m);
    oblige(
      "a page is cleaned under LOCK_HOSTMAP and LOCK_S2PAGE",
      and(ghost(state, "hostmapHeld"), ghost(state, "s2pageHeld")),
    );
    const cached = and(eq(tlbRoot, HOST_ROOT), eq(tlbPage, x), ne(ghost(state, "stale"), Stale.NO));
    const quiet = and(not(holds(state, "mapped", mappedKey(HOST_ROOT, x))), not(cached));
    write(state, "cleaned", x, ite(quiet, ONE, ZERO));
  };
}

// ---------------------------------------------------------------------------------------------------------------- host memory

/** Whether the `bytes` bytes at `pa` are the host's, and stay so during an access now. */
export function accessAllowed(state: State, m: Machine, pa: Term, bytes: Term): Term {
  const may = (x: Term) =>
    or(and(ghost(state, "s2pageHeld"), isHosts(state, m, x)), holds(state, "accessible", x));
  const last = sub(add(pa, bytes), bv(1, 64));
  const fits = and(isPhysical(pa), isPhysical(last), uge(last, pa));
  return and(fits, may(page(pa)), may(page(last)));
}

/** Demands that `bytes` bytes at `pa` are the host's, and stay so during the access. */
export function hostAccess(
  call: Pick<Call, "state" | "oblige">,
  m: Machine,
  pa: Term,
  bytes: number | Term,
): void {
  const length = typeof bytes === "number" ? bv(bytes, 64) : bytes;
  call.oblige(
    "host memory is accessed only in pages of the host, held in place",
    accessAllowed(call.state, m, pa, length),
  );
}

function hostRead(m: Machine, bytes: number): CallModel {
  return (call) => {
    const [pa] = call.args as [Term];
    hostAccess(call, m, pa, bytes);
    const value = call.fresh("host memory", bytes * 8);
    sees(call.state, pa, value);
    return zext(value, bytes === 8 ? 64 : 32);
  };
}

function hostWrite(m: Machine, bytes: number): CallModel {
  return (call) => {
    const [pa, value] = call.args as [Term, Term];
    hostAccess(call, m, pa, bytes);
    tells(call.state, pa, extract(bytes * 8 - 1, 0, value));
  };
}

export const FRAME_BYTES = 248;

/** Demands that `bytes` bytes of linear memory at `start` lie in this CPU's area, and gives the test for its words. */
function ownRange(call: Call, m: Machine, start: Term, bytes: number): (key: Term) => Term {
  const end = add(zext(start, 33), bv(bytes - 1, 33));
  call.oblige(
    "registers are kept in this CPU's area",
    and(
      isAligned(start, 3),
      eq(extract(32, 32, end), ZERO),
      isOwnArea(m, start),
      isOwnArea(m, extract(31, 0, end)),
    ),
  );
  const from = extract(11, 3, start);
  const inside = (key: Term) =>
    and(
      eq(extract(28, 9, key), extract(31, 12, m.area)),
      ult(sub(extract(8, 0, key), from), bv(Math.ceil(bytes / 8), 9)),
    );
  call.oblige(
    "registers are kept apart from the fields of a CPU's start",
    not(or(...bootFields(m).map((at) => inside(extract(31, 3, at))))),
  );
  return inside;
}

/** The words of the registers at `frame` in linear memory, each with its place in host memory when they begin at `pa`. */
function frameWords(state: State, frame: Term, pa: Term): { place: Term; value: Term }[] {
  return Array.from({ length: FRAME_BYTES / 8 }, (_, n) => ({
    place: add(pa, bv(8 * n, 64)),
    value: word(state, add(frame, bv(8 * n, 32))),
  }));
}

function hostReadFrame(m: Machine): CallModel {
  return (call) => {
    const [frame, pa] = call.args as [Term, Term];
    hostAccess(call, m, pa, FRAME_BYTES);
    const inside = ownRange(call, m, frame, FRAME_BYTES);
    const fresh = call.freshMemory("frame", 29, 64);
    rewrite(call.state, "linear", inside, (key) => fresh.read(key));
    for (const { place, value } of frameWords(call.state, frame, pa)) sees(call.state, place, value);
  };
}

function hostWriteFrame(m: Machine): CallModel {
  return (call) => {
    const [pa, frame] = call.args as [Term, Term];
    hostAccess(call, m, pa, FRAME_BYTES);
    ownRange(call, m, frame, FRAME_BYTES);
    for (const { place, value } of frameWords(call.state, frame, pa)) tells(call.state, place, value);
  };
}

// ------------------------------------------------------------------------------------------------------------------ registers

/** Numbers of the registers, by name: those of the imports, then the FP/SIMD registers as one, in alphabetical order. */
export class Registers {
  private readonly numbers: Map<string, number>;

  constructor(module: Module) {
    const names = module.functions.flatMap(({ imported }) => {
      const name = /^(?:mrs|msr)_(\w+)$/.exec(imported?.field ?? "")?.[1];
      return name ? [name] : [];
    });
    this.numbers = new Map(
      [...new Set([...names, "fp", "zcr_el1", "zcr_el2", "par_el1"])].sort().map((name, n) => [name, n]),
    );
  }

  /** Every register. */
  get names(): string[] {
    return [...this.numbers.keys()];
  }

  /** @throws Error when the core has no such register */
  key(name: string): Term {
    const number = this.numbers.get(name);
    if (number === undefined) throw new Error(`the core uses no register ${name}`);
    return bv(number, 10);
  }

  has(name: string): boolean {
    return this.numbers.has(name);
  }

  get(state: State, name: string): Term {
    return read(state, "registers", this.key(name));
  }

  set(state: State, name: string, value: Term, condition?: Term): void {
    write(state, "registers", this.key(name), value, condition);
  }

  /** Whether `key` is one of the named registers. */
  among(key: Term, names: readonly string[]): Term {
    return or(...names.filter((name) => this.has(name)).map((name) => eq(key, this.key(name))));
  }
}

/** VTTBR_EL2 of a root: its first page, and the root's number as VMID. */
export function vttbrOf(m: Machine, root: Term): Term {
  return concat(bv(0, 8), root, extract(47, 21, m.info("rootsBase")), root, bv(0, 13));
}

export const vmidOf = (vttbr: Term): Term => extract(55, 48, vttbr);

/** HCR_EL2 bits that must be set whenever EL1 runs, and those that would change what EL2 itself means. */
const HCR_VM = 1n << 0n;
const HCR_RW = 1n << 31n;
const HCR_TSC = 1n << 19n;
const HCR_FORBIDDEN = (1n << 27n) | (1n << 29n) | (1n << 34n) | (1n << 42n) | (1n << 43n) | (1n << 45n);

const bits = (value: Term, mask: bigint): Term[] => {
  const list: Term[] = [];
  for (let i = 0; i < 64; i++) if ((mask >> BigInt(i)) & 1n) list.push(extract(i, i, value));
  return list;
};
const all = (value: Term, mask: bigint): Term => and(...bits(value, mask).map((bit) => eq(bit, ONE)));
const none = (value: Term, mask: bigint): Term => and(...bits(value, mask).map((bit) => eq(bit, ZERO)));

function registerPolicy(call: Call, m: Machine, name: string, value: Term): void {
  if (name === "vttbr_el2") {
    call.oblige("VTTBR_EL2 names a root and its VMID", eq(value, vttbrOf(m, extract(55, 48, value))));
  } else if (name === "hcr_el2") {
    call.oblige(
      "HCR_EL2 keeps stage 2 on and EL2 what it is",
      and(all(value, HCR_VM | HCR_RW | HCR_TSC), none(value, HCR_FORBIDDEN)),
    );
  } else if (name === "vbar_el2") {
    call.oblige("the vectors are the host's or a guest's", ule(value, bv(1, 64)));
  }
}

// ------------------------------------------------------------------------------------------------------------------- barriers

/** A barrier moves the stale TLB entry on: from each state to the next, where listed. */
function barrier(steps: readonly (readonly [Term, Term])[], orders: boolean): CallModel {
  return ({ state }) => {
    let next = ghost(state, "stale");
    for (const [from, to] of steps) next = ite(eq(ghost(state, "stale"), from), to, next);
    setGhost(state, "stale", next);
    if (orders) setGhost(state, "unordered", FALSE);
  };
}

/** A TLB invalidation takes effect on the entry when the write is visible and it is hit. */
function invalidate(
  from: Term,
  to: Term,
  hits: (state: State, registers: Registers, page: Term | undefined) => Term,
): (registers: Registers) => CallModel {
  return (registers) => (call) => {
    const { state, args } = call;
    if (hits !== everything) inForce(call);
    else setGhost(state, "forgetting", bv(1 << 8, 10));
    const hit = and(eq(ghost(state, "stale"), from), hits(state, registers, args[0]));
    setGhost(state, "stale", to, hit);
  };
}

/** Instructions are forgotten, beside what is being forgotten already. */
const forgetInstructions: CallModel = ({ state }) =>
  setGhost(state, "forgetting", concat(ONE, extract(8, 0, ghost(state, "forgetting"))));

/** Demands that a TLB operation acts on the VMID that VTTBR_EL2 holds (Arm ARM D8.14: a write takes effect after an ISB). */
const inForce: CallModel = ({ state, oblige }) =>
  oblige("TLBs are invalidated with the VMID in force", not(ghost(state, "unsynchronized")));

const everything = () => TRUE;
const byVmid = (state: State, registers: Registers) => eq(vmidOf(registers.get(state, "vttbr_el2")), tlbRoot);

const TLBI: Record<string, (registers: Registers) => CallModel> = {
  tlbi_ipas2e1is: invalidate(Stale.VISIBLE, Stale.STAGE2, (state, registers, ipa) => {
    const target = extract(35, 0, ipa as Term);
    const same = eq(target, tlbPage);
    const leaf = within(ghost(state, "staleLevel"), target, tlbPage);
    return and(byVmid(state, registers), ite(ghost(state, "staleTable"), same, leaf));
  }),
  tlbi_vmalle1is: invalidate(Stale.STAGE2_DONE, Stale.ALL, byVmid),
  tlbi_vmalls12e1is: invalidate(Stale.VISIBLE, Stale.ALL, byVmid),
  tlbi_alle1is: invalidate(Stale.VISIBLE, Stale.ALL, everything),
};

// -------------------------------------------------------------------------------------------------------------------- firmware

const SMC_REGISTERS = 18;
const PSCI_CPU_ON = 0xc400_0003;
const PSCI_CPU_SUSPEND = 0xc400_0001;
const PSCI_SYSTEM_SUSPEND = 0xc400_000e;
/** Calls by which firmware would start a CPU, with the register of the entry point; the 32-bit forms, too. */
const ENTRIES: readonly (readonly [number, number])[] = [
  [PSCI_CPU_ON, 2],
  [PSCI_CPU_SUSPEND, 2],
  [PSCI_SYSTEM_SUSPEND, 1],
  [0xc400_000c, 1],
];
/**
 * PSCI functions that neither start a CPU elsewhere nor touch memory (DEN0022): VERSION, CPU_OFF, AFFINITY_INFO, MIGRATE and its two
 * queries, SYSTEM_OFF, SYSTEM_RESET, FEATURES, NODE_HW_STATE, SET_SUSPEND_MODE, STAT_RESIDENCY and _COUNT, SYSTEM_RESET2, and
 * MEM_PROTECT with CHECK_RANGE, which are about what happens at the next start.
 */
export const HARMLESS_PSCI = [0, 2, 4, 5, 6, 7, 8, 9, 10, 13, 15, 16, 17, 18, 19, 20];

function smc(m: Machine): CallModel {
  return (call) => {
    const [frame] = call.args as [Term];
    const inside = ownRange(call, m, frame, FRAME_BYTES);
    const register = (n: number) => word(call.state, add(frame, bv(8 * n, 32)));
    const id = extract(31, 0, register(0));
    const psci = concat(extract(31, 31, id), ZERO, extract(29, 0, id));
    const entry = m.info("secondaryEntry");
    for (const [call64, index] of ENTRIES) {
      const isCall = eq(psci, bv(call64 & ~0x4000_0000, 32));
      call.oblige(
        "firmware starts a CPU only in the core, by the 64-bit call",
        implies(isCall, and(eq(id, bv(call64, 32)), eq(register(index), entry))),
      );
      const itself = eq(register(index + 1), zext(extract(17, 12, m.area), 64));
      if (call64 !== PSCI_CPU_ON)
        call.oblige("a CPU that is suspended comes back as itself", implies(isCall, itself));
    }
    const target = cpuArea(m.layout, extract(5, 0, register(3)));
    const pending = areaField(call.state, target, "bootPending");
    call.oblige(
      "a CPU that is started finds where it is to go on",
      implies(eq(id, bv(PSCI_CPU_ON, 32)), and(ult(register(3), bv(64, 64)), eq(pending, bv(1, 64)))),
    );
    const isPsci = ult(sub(psci, bv(0x8400_0000, 32)), bv(32, 32));
    const known = or(
      ...ENTRIES.map(([call64]) => eq(psci, bv(call64 & ~0x4000_0000, 32))),
      ...HARMLESS_PSCI.map((n) => eq(psci, bv(0x8400_0000 + n, 32))),
    );
    const architectural = ule(sub(id, bv(0x8000_0000, 32)), bv(0xffff, 32));
    const random = ult(sub(psci, bv(0x8400_0050, 32)), bv(4, 32));
    call.oblige(
      "firmware is asked only what cannot touch memory",
      or(and(isPsci, known), architectural, random),
    );
    const fresh = call.freshMemory("firmware", 29, 64);
    rewrite(
      call.state,
      "linear",
      (key) => and(inside(key), ult(sub(key, extract(31, 3, frame)), bv(SMC_REGISTERS, 29))),
      (key) => fresh.read(key),
    );
  };
}

// ---------------------------------------------------------------------------------------------------- profiling and trace buffers

/** PSB CSYNC, TSB CSYNC: what was recorded before the buffer was stopped is written, by the translation in force (Arm ARM D17.5, D6.5). */
function drains(buffer: "profiling" | "tracing"): CallModel {
  return (call) => {
    call.oblige("what stops the buffer is in force", not(ghost(call.state, "bufferUnsynchronized")));
    setGhost(call.state, buffer, FALSE);
  };
}

// ------------------------------------------------------------------------------------------------------------- FP/SIMD and SVE

export const FP_BYTES = 528;

/** FPSR and FPCR, which are not among the SVE state. */
export const SVE_STATUS_BYTES = 8;

/** Addresses of the pages between the first and the last of the SVE state, which is at most 8736 bytes long. */
export function sveMiddles(pa: Term, length: Term): Term[] {
  const within = (offset: number) => ite(ult(bv(offset, 64), length), bv(offset, 64), sub(length, bv(1, 64)));
  return [add(pa, within(4096)), add(pa, within(8192))];
}

/** Bytes of SVE state for the vector length in force: z0..z31, p0..p15, FFR. */
export function sveBytesNow(registers: Registers, state: State): Term {
  const quads = add(zext(extract(3, 0, registers.get(state, "zcr_el2")), 64), bv(1, 64));
  let bytes = bv(0, 64);
  for (let vq = 1; vq <= 16; vq++) bytes = ite(eq(quads, bv(vq, 64)), bv(vq * 546, 64), bytes);
  return bytes;
}

function sveAccess(call: Call, m: Machine, registers: Registers): void {
  const [pa, fpsr] = call.args as [Term, Term];
  const length = sveBytesNow(registers, call.state);
  hostAccess(call, m, pa, length);
  for (const at of sveMiddles(pa, length)) hostAccess(call, m, at, 1);
  hostAccess(call, m, fpsr, SVE_STATUS_BYTES);
}

/** The model of a primitive that moves FP/SIMD or SVE registers: not while it may act on what its controls held before. */
const synchronized =
  (model: CallModel): CallModel =>
  (call) => {
    call.oblige("FP/SIMD controls are in force", not(ghost(call.state, "fpUnsynchronized")));
    return model(call);
  };

// ------------------------------------------------------------------------------------------------------------------------ all

/** The model of every import of `module`. @throws Error when there is an import that the specification does not know */
export function machineModels(module: Module, m: Machine, registers: Registers): Record<string, CallModel> {
  const saveFp: CallModel = (call) => {
    const [image] = call.args as [Term];
    const inside = ownRange(call, m, image, FP_BYTES);
    const fresh = call.freshMemory("fp image", 29, 64);
    rewrite(call.state, "linear", inside, (key) => fresh.read(key));
    write(call.state, "images", image, registers.get(call.state, "fp"));
  };
  const loadFp: CallModel = (call) => {
    const [image] = call.args as [Term];
    ownRange(call, m, image, FP_BYTES);
    registers.set(call.state, "fp", read(call.state, "images", image));
  };
  const hostFpAccess = (call: Call): void => hostAccess(call, m, call.args[0] as Term, FP_BYTES);
  /** The register file goes to an image in host memory, or comes from one, that `access` allows. */
  const fpToHost =
    (access: (call: Call) => void): CallModel =>
    (call) => {
      access(call);
      tells(call.state, call.args[0] as Term, registers.get(call.state, "fp"));
    };
  const fpFromHost =
    (access: (call: Call) => void): CallModel =>
    (call) => {
      access(call);
      registers.set(call.state, "fp", call.fresh("guest fp", 64));
      sees(call.state, call.args[0] as Term, registers.get(call.state, "fp"));
    };
  const models: Record<string, CallModel> = {
    pt_read: (call) => {
      const [pa] = call.args as [Term];
      entryAddress(call, pa);
      call.oblige(
        "a table entry is read under its root's lock",
        isMine(call.state, read(call.state, "use", page(pa))),
      );
      call.assume(agrees(call.state, extract(47, 3, pa), comparedPage));
      return read(call.state, "pt", extract(47, 3, pa));
    },
    pt_write: ptWrite(m),
    pt_zero: ptZero(),
    s2page_read: (call) => {
      const index = ownerIndex(call, m);
      call.oblige("an owner is read under LOCK_S2PAGE", ghost(call.state, "s2pageHeld"));
      return read(call.state, "owner", index);
    },
    s2page_write: s2pageWrite(m),
    page_zero: pageZero(m),
    page_clean: pageClean(m),
    host_read8: hostRead(m, 1),
    host_read32: hostRead(m, 4),
    host_read64: hostRead(m, 8),
    host_write8: hostWrite(m, 1),
    host_write32: hostWrite(m, 4),
    host_write64: hostWrite(m, 8),
    host_read_frame: hostReadFrame(m),
    host_write_frame: hostWriteFrame(m),
    fp_save: synchronized(saveFp),
    fp_load: synchronized(loadFp),
    fp_save_host: synchronized(fpToHost(hostFpAccess)),
    fp_load_host: synchronized(fpFromHost(hostFpAccess)),
    sve_save_host: synchronized(fpToHost((call) => sveAccess(call, m, registers))),
    sve_load_host: synchronized(fpFromHost((call) => sveAccess(call, m, registers))),
    isb: ({ state }) => {
      setGhost(state, "unsynchronized", FALSE);
      setGhost(state, "fpUnsynchronized", FALSE);
      setGhost(state, "bufferUnsynchronized", FALSE);
    },
    dsb_nsh: ({ state }) => {
      const asked = ghost(state, "forgetting");
      setGhost(state, "forgot", asked, eq(extract(8, 8, asked), ZERO));
    },
    dsb_ish: (call) => {
      const { state } = call;
      barrier(
        [
          [Stale.WRITTEN, Stale.VISIBLE],
          [Stale.STAGE2, Stale.STAGE2_DONE],
          [Stale.ALL, Stale.NO],
        ],
        true,
      )(call);
      setGhost(state, "forgot", ghost(state, "forgetting"));
    },
    dsb_ishst: barrier([[Stale.WRITTEN, Stale.VISIBLE]], true),
    tlbi_vmalle1: (call) => {
      inForce(call);
      const { state } = call;
      const instructions = extract(9, 9, ghost(state, "forgetting"));
      const vmid = vmidOf(registers.get(state, "vttbr_el2"));
      setGhost(state, "forgetting", concat(instructions, ZERO, vmid));
    },
    ic_iallu: forgetInstructions,
    ic_ialluis: forgetInstructions,
    psb_csync: drains("profiling"),
    tsb_csync: drains("tracing"),
    at_s1e1r: (call) => {
      const par = call.fresh("PAR_EL1", 64);
      registers.set(call.state, "par_el1", par);
      walks(call.state, call.args[0] as Term, ite(eq(extract(0, 0, par), ONE), bv(0, 36), page(par)));
    },
    smc: smc(m),
    halt: ({ state }) => {
      state.path = FALSE;
    },
    ...Object.fromEntries(Object.entries(TLBI).map(([name, make]) => [name, make(registers)])),
  };
  const result: Record<string, CallModel> = {};
  for (const { name, imported } of module.functions) {
    if (!imported) continue;
    const [, kind, register] = /^(mrs|msr)_(\w+)$/.exec(imported.field) ?? [];
    if (register !== undefined && kind === "mrs")
      result[name] = ({ state }) => registers.get(state, register);
    else if (register !== undefined)
      result[name] = (call) => {
        const [value] = call.args as [Term];
        registerPolicy(call, m, register, value);
        registers.set(call.state, register, value);
        if (register === "vttbr_el2") setGhost(call.state, "unsynchronized", TRUE);
        if (FP_CONTROLS.test(imported.field)) setGhost(call.state, "fpUnsynchronized", TRUE);
        if (BUFFER_CONTROLS.test(imported.field)) setGhost(call.state, "bufferUnsynchronized", TRUE);
        if (register === "pmscr_el1") setGhost(call.state, "profiling", TRUE);
        if (register === "trfcr_el1") setGhost(call.state, "tracing", TRUE);
      };
    else {
      const model = models[imported.field];
      if (!model) throw new Error(`the specification knows no primitive ${imported.field}`);
      result[name] = model;
    }
  }
  return result;
}
